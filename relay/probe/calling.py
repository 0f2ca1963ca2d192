"""A real call to a listening Tentacle, step by step, as the relay's back would make it (wire.md 3.1).

It is made with the identity that the relay shows to Tentacles, in a TLS context like the relay's own, by the strict Octopus of
relay/peers. The pin is checked before the first byte, so a stranger learns nothing of us but our certificate.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError

from certs.contexts import client_context
from certs.identity import Identity
from relay.halibut.lines import CLIENT_IDENTITY, PREAMBLE
from relay.peers.connection import OctopusConnection
from relay.peers.contracts import CAPABILITIES, FILES, SCRIPTS_V1, ContractError, read_capabilities
from relay.peers.dialling import base_uri
from relay.peers.errors import EndedError, PeerError, ServerError, TransferError
from relay.peers.framing import server_identity
from relay.peers.tls import Dialler, anonymous, is_ip
from relay.probe import failures
from relay.probe.connecting import TIMES, ProbingTls, connect
from relay.probe.failures import FailedError
from relay.probe.lookup import look_up
from relay.probe.page import ask_page
from relay.probe.remedies import Situation, remedy
from relay.probe.result import Cause, ProbeResult, Stage, StageName
from relay.probe.shown import Shown, der_of, look_at
from routing.table import Machine

_METHOD: Final = "GetCapabilities"
_OLD: Final = "it does not know GetCapabilities: an old Tentacle, which has the first script service only"

Whose = Callable[[bytes], str]


def nobody(der: bytes) -> str:
    """Knows no certificate."""
    return ""


async def probe(
    reactor: Any, machine: Machine, identity: Identity | None, seconds: float, whose: Whose = nobody
) -> ProbeResult:
    """Calls GetCapabilities on the machine's Tentacle once, and says how it went; whatever goes wrong is in the result.

    identity: what the Tentacle sees, of the octopus entry of its name. None, for a machine that is passed through: only Octopus
    can call it, so its certificate is looked at, as Octopus does where it is told no thumbprint. seconds: for the call; a look
    at a failure may take 5 s more. whose: what is known of a certificate (DER), in words such as "the pin of machine web02";
    empty: nothing.

    Raises certs.errors.CertificateError where OpenSSL refuses the identity. When it is over, nothing of it is left open.
    """
    return await _Probe(reactor, machine, identity, whose).run(seconds)


class _Probe:
    def __init__(self, reactor: Any, machine: Machine, identity: Identity | None, whose: Whose) -> None:
        self._reactor = reactor
        self._machine = machine
        self._identity = identity
        self._whose = whose
        tentacle = machine.tentacle
        assert tentacle, "a polling Tentacle is not dialled"
        self._tentacle = tentacle
        self._host, self._port = tentacle.host, tentacle.port
        self._dialler = Dialler(client_context(identity).connection, self._host) if identity else anonymous(self._host)
        self._stages: list[Stage] = []
        self._at = StageName.LOOKUP
        self._late = False
        self._address = ""
        self._tls: ProbingTls | None = None
        self._version = ""
        self._shown: Shown | None = None
        self._note = ""

    async def run(self, seconds: float) -> ProbeResult:
        calling = Deferred.fromCoroutine(self._call_it())
        timer = self._reactor.callLater(seconds, self._too_late, calling)
        try:
            capabilities = await calling
        except CancelledError:
            if not self._late:
                raise
            return await self._failed(failures.of_time(self._at, self._tls, seconds))
        except FailedError as failed:
            return await self._failed(failed)
        finally:
            if timer.active():
                timer.cancel()
            await self._close()
        return self._result(capabilities=capabilities)

    def _too_late(self, calling: "Deferred[tuple[str, ...]]") -> None:
        self._late = True
        calling.cancel()

    async def _close(self) -> None:
        if self._tls:
            self._tls.wire.abort()
            await self._tls.wire.ended()

    # ---- the steps --------------------------------------------------------------------------------------------------

    async def _call_it(self) -> tuple[str, ...]:
        """The Tentacle's capabilities. Raises FailedError."""
        addresses = await self._look_up()
        with self._stage(StageName.CONNECT):
            tls = self._tls = await self._connect(addresses)
        with self._stage(StageName.TLS):
            await self._shake(tls)
            if self._identity:
                self._check_pin(tls)
        if self._identity is None:
            await self._look_only(tls)
            return ()
        with self._stage(StageName.IDENTIFY):
            await self._identify(tls)
        with self._stage(StageName.CALL):
            return await self._call(tls)

    @contextmanager
    def _stage(self, name: StageName) -> Iterator[None]:
        self._at = name
        begun = self._reactor.seconds()
        done = False
        try:
            yield
            done = True
        finally:
            self._stages.append(Stage(name, self._reactor.seconds() - begun, done))

    async def _look_up(self) -> list[str]:
        if is_ip(self._host):
            return [self._host]
        with self._stage(StageName.LOOKUP):
            try:
                return await look_up(self._reactor, self._host, self._port)
            except OSError as error:
                raise failures.of_lookup(error) from error

    async def _connect(self, addresses: list[str]) -> ProbingTls:
        """Each address once, as the relay does."""
        refusals: list[tuple[str, ConnectError]] = []
        for address in addresses:
            self._address = address
            try:
                return await connect(self._reactor, address, self._port, self._dialler)
            except ConnectError as error:
                refusals.append((address, error))
        raise failures.of_connects(refusals)

    async def _shake(self, tls: ProbingTls) -> None:
        try:
            await tls.wire.handshaken()
        except EndedError as error:
            raise failures.of_handshake(error, tls.first) from error
        self._version = tls.version
        certificate = tls.wire.certificate
        self._shown = look_at(certificate) if certificate else None

    def _check_pin(self, tls: ProbingTls) -> None:
        certificate = tls.wire.certificate
        if certificate is None or not any(pin.matches(der_of(certificate)) for pin in self._machine.thumbprints):
            pins = " or ".join(map(str, self._machine.thumbprints))
            raise FailedError(Cause.WRONG_CERTIFICATE, f"it should have shown {pins}")

    async def _look_only(self, tls: ProbingTls) -> None:
        """It may be anybody's certificate, and there is no pin: what is there to be said against it, or for it?"""
        certificate = tls.wire.certificate
        page, server = await ask_page(self._reactor, self._address, self._host, self._port)
        known = self._whose(der_of(certificate)) if certificate else ""
        self._note = failures.of_shown(self._shown, known, page, server)

    async def _identify(self, tls: ProbingTls) -> None:
        try:
            tls.wire.send(PREAMBLE)
            tls.wire.send(CLIENT_IDENTITY)
            await tls.wire.receive(server_identity())
        except (EndedError, PeerError) as error:
            raise failures.of_identity(error) from error

    async def _call(self, tls: ProbingTls) -> tuple[str, ...]:
        assert self._shown is not None
        uri, shown = base_uri(self._host, self._port), str(self._shown.thumbprint)
        connection = OctopusConnection(tls.wire, uri, shown, TIMES, Path(gettempdir()))
        try:
            capabilities = read_capabilities(await connection.call(CAPABILITIES, _METHOD))
        except ServerError as error:
            if not failures.is_of_old_tentacle(error):
                raise failures.of_reply(error) from error
            self._note = _OLD
            capabilities = [SCRIPTS_V1, FILES]
        except (TransferError, PeerError, ContractError) as error:
            raise failures.of_call(error) from error
        await connection.end()
        return tuple(capabilities)

    # ---- what came of it --------------------------------------------------------------------------------------------

    async def _failed(self, failed: FailedError) -> ProbeResult:
        await self._close()
        known = ""
        if failed.cause is Cause.WRONG_CERTIFICATE and self._tls and self._tls.wire.certificate:
            known = self._whose(der_of(self._tls.wire.certificate))
        if failed.cause in (Cause.WRONG_CERTIFICATE, Cause.NOT_TRUSTED):
            page, server = await ask_page(self._reactor, self._address, self._host, self._port)
            failed = failures.after_page(failed, self._shown, known, page, server)
        situation = Situation(self._machine, self._identity.thumbprint if self._identity else None, self._shown, known)
        return self._result(cause=failed.cause, detail=failed.detail, remedy=remedy(failed.cause, situation))

    def _result(self, **found: Any) -> ProbeResult:
        return ProbeResult(
            machine=self._machine.name,
            octopus=self._identity.name if self._identity else "",
            tentacle=self._tentacle,
            thumbprint=self._identity.thumbprint if self._identity else None,
            stages=tuple(self._stages),
            address=self._address if self._tls else "",
            tls=self._version,
            shown=self._shown,
            note=self._note,
            **found,
        )
