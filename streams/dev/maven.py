"""Maven repositories through jgo's pure-Python resolver; part of the ``dev`` extra, imported only when needed."""

from __future__ import annotations

from pathlib import Path

import jgo
import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext

from streams.dev.errors import StackError


def closure(coordinates: str) -> list[str]:
    """``group:artifact:version`` of the coordinates and of all they depend on at run time, sorted."""
    return sorted(f"{jar.groupId}:{jar.artifactId}:{jar.version}" for jar in jgo.resolve(coordinates))


def download(cache: Path, coordinate: str) -> None:
    """Store the jar at ``path(cache, coordinate)``, unless a file is there.

    Raises:
        StackError: No repository gives it.
    """
    group, artifact, version = coordinate.split(":")
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    maven = MavenContext(repo_cache=cache / "maven", remote_repos=repositories)
    try:
        maven.project(group, artifact).at_version(version).artifact().resolve()
    except (requests.RequestException, RuntimeError) as error:
        raise StackError(
            f"{coordinate} cannot be downloaded ({type(error).__name__}); check the network and start again"
        ) from error


def path(cache: Path, coordinate: str) -> Path:
    """Where the jar is kept: the layout of a local Maven repository."""
    group, artifact, version = coordinate.split(":")
    return cache / "maven" / Path(*group.split(".")) / artifact / version / f"{artifact}-{version}.jar"
