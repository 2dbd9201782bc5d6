"""Who asks: the ``Access`` of a gateway that authenticates, by route and by what a request presents.

Invariant: a request that presents credentials is answered by what they prove, never as if it had none; nothing is
accepted while what is needed to judge is away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from streams.credentials import RefusedError
from streams.door import ProblemError
from streams.gateway.access import Caller, Scope, anybody
from streams.gateway.modes import Mode
from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

    from streams.gateway.access import Identify
    from streams.gateway.modes import Modes
    from streams.metrics import Metrics

REALM = "keylane"
_CREDENTIALS = ("Authorization", "X-API-Key", "X-Keylane-Signature")
_log = structlog.get_logger(__name__)


class Proof(Protocol):
    """One way to prove who asks; ``scheme`` is its name in ``WWW-Authenticate``."""

    scheme: str

    def presented(self, request: web.Request) -> str | None:
        """The credential of this kind that the request has, if any."""

    async def caller(self, request: web.Request, credential: str) -> Caller:
        """Whom it proves.

        Raises:
            RefusedError: It proves nothing.
            TransientError: Nobody can tell now.
        """


class Authentication:
    """The ``Access`` of a gateway with these modes; ``proofs`` for all modes in use but ``none``."""

    def __init__(self, modes: Modes, proofs: Mapping[Mode, Proof], metrics: Metrics) -> None:
        self._modes = modes
        self._proofs = proofs
        self._metrics = metrics

    def at(self, path: str, scope: str) -> Identify:
        """See ``Access.at``."""
        modes = self._modes.of(path)
        proofs = [(mode.value, proof) for mode, proof in self._proofs.items() if mode in modes]
        if not proofs:
            return anybody
        open_to_all = Mode.NONE in modes and scope != Scope.ADMIN
        anonymous = Caller("anonymous", None, frozenset({scope})) if open_to_all else None
        schemes = tuple(dict.fromkeys(proof.scheme for _, proof in proofs))

        async def identify(request: web.Request) -> Caller:
            for mode, proof in proofs:
                credential = proof.presented(request)
                if credential is not None:
                    return await self._proved(request, schemes, mode, proof, credential)
            if any(name in request.headers for name in _CREDENTIALS):
                raise self._refused(schemes, "other", RefusedError("other-kind"))
            if anonymous is None:
                raise self._refused(schemes, "none", RefusedError("missing", "Send credentials."))
            self._metrics.inc("keylane_authentications_total", mode="none", outcome="ok")
            return anonymous

        return identify

    async def _proved(
        self, request: web.Request, schemes: Sequence[str], mode: str, proof: Proof, credential: str
    ) -> Caller:
        try:
            caller = await proof.caller(request, credential)
        except RefusedError as error:
            raise self._refused(schemes, mode, error) from None
        except TransientError:
            self._metrics.inc("keylane_authentications_total", mode=mode, outcome="unavailable")
            raise
        self._metrics.inc("keylane_authentications_total", mode=mode, outcome="ok")
        return caller

    def _refused(self, schemes: Sequence[str], mode: str, error: RefusedError) -> ProblemError:
        self._metrics.inc("keylane_authentications_total", mode=mode, outcome=error.reason)
        _log.info("credentials refused", mode=mode, reason=error.reason)
        challenge = ", ".join(f'{scheme} realm="{REALM}"' for scheme in schemes)
        return ProblemError("unauthenticated", error.detail, headers={"WWW-Authenticate": challenge})
