"""``make bench-gateway``: measures the gateway beside the smallest handler and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from typing import TYPE_CHECKING

from streams.adapters.vault import new_master
from streams.dev.stack import PARTS
from tests.bench import page
from tests.bench.broker import make_topics, servers
from tests.bench.gateway import catalogue, scenarios
from tests.bench.gateway.lookups import lookups
from tests.bench.gateway.maker import NUMBER
from tests.bench.gateway.profile import profile
from tests.bench.gateway.servers import KEYLANE, environment, keylane
from tests.bench.launch import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.settings import Settings
    from tests.bench.gateway.scenarios import Setting
    from tests.bench.page import Chapter

SCENARIOS: dict[str, Callable[[Setting], Chapter]] = {
    "posts": scenarios.posts,
    "half": scenarios.half,
    "batches": scenarios.batches,
    "light": scenarios.light,
    "lookups": lookups,
    "profile": profile,
}
# Every check switched on: an API key, limits that are counted in Redis and never reached, and Idempotency-Keys.
_LIMITS = [
    {"name": "client", "per": "ip", "rate": "1000000/s"},
    {"name": "tenant", "per": "tenant", "rate": "1000000/s"},
]
_MORE = {
    "catalogue": f"{catalogue.__name__}:discover",
    "gateway_auth": "key",
    "limits": json.dumps(_LIMITS),
}


def main() -> None:
    """Measure what was asked for; write it down if it was everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway", description=__doc__)
    parser.add_argument("--only", default="", help=f"of {','.join(SCENARIOS)}; the document is left alone then")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a load")
    options = parser.parse_args()
    with servers(tuple(PARTS)) as settings:
        setting = prepared(settings, options.rounds, options.seconds)
        chapters = [SCENARIOS[name](setting) for name in options.only.split(",") if name] or [
            scenario(setting) for scenario in SCENARIOS.values()
        ]
    print("\n".join(line for chapter in chapters for line in chapter.lines()))
    if not options.only:
        page.write("gateway", chapters, f"make bench-gateway ROUNDS={options.rounds}")


def prepared(settings: Settings, rounds: int, seconds: float) -> Setting:
    """Topics, tables, and a key for the load, on these servers."""
    make_topics(str(settings.kafka_bootstrap_servers), [scenarios.TOPIC])
    more = _MORE | {"secret_keys": new_master("bench")}
    _keylane(settings, more, "topics", "apply")
    with keylane(settings, **more):  # brings the database to its newest version
        made = _keylane(
            settings, more, "keys", "create", "bench", "--tenant", "bench", "--scope", "jobs:write", "--json"
        )
    key = json.loads(made)["key"]
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f'"{os.getpid()}-{NUMBER}"'}
    return scenarios.Setting(settings=settings, rounds=rounds, seconds=seconds, more=more, headers=headers)


def _keylane(settings: Settings, more: dict[str, str], *words: str) -> str:
    command, named = [*KEYLANE, *words], environment(settings, **more)
    return subprocess.run(command, cwd=ROOT, env=named, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
