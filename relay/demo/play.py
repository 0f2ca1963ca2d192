"""What happens in a demo: health checks, uploads, scripts, and a look into the relay's access log."""

import hashlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NoReturn, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults

from relay.demo.process import RelayError, RelayProcess
from relay.demo.scene import Scene
from relay.demo.setting import ALL_FOUR, LISTENING, Combination, set_up
from relay.peers.contracts import FILES, SCRIPTS_V2
from relay.peers.errors import CallError, PeerError
from relay.peers.machine import Machine
from relay.peers.times import Reactor, pause

UPLOAD: Final = 20 * 1024 * 1024  # bytes to each
WITHIN: Final = 60.0  # seconds for all of it; a few are enough
LOG_WITHIN: Final = 5.0  # seconds until the relay has written its access log
_LOOK_EVERY: Final = 0.05
# What each machine is asked for. How often for a script's state depends on how quick it is.
_EXPECTED: Final = {"GetCapabilities": 1, "UploadFile": 1, "StartScript": 2, "CompleteScript": 2}


class DemoError(Exception):
    """Something was not as it should be. The text says what."""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One line of the relay's access log. ms: from the caller's turn to the end."""

    machine: str
    service: str
    method: str
    request_bytes: int
    reply_bytes: int
    outcome: str
    ms: float


class Audience(Protocol):
    """Who watches."""

    def say(self, text: str) -> None:
        """A step is done."""

    def uploading(self, machine: str, sent: int, total: int) -> None:
        """So many bytes have left for this machine."""

    def went_through(self, exchanges: list[Exchanged]) -> None:
        """What the relay's access log says, in order."""

    def look_around(self, scene: Scene) -> None:
        """All is well, and stays as it is until it is interrupted."""


class Demo:
    """keep: leave it running, once all of it went well, until it is interrupted. polling: a machine of each combination."""

    def __init__(self, reactor: Reactor, audience: Audience, keep: bool, polling: bool = False) -> None:
        self._reactor = reactor
        self._audience = audience
        self._keep = keep
        self._combinations = ALL_FOUR if polling else LISTENING
        self._playing: Deferred[None] | None = None

    async def run(self) -> None:
        """Plays it, and takes everything down at the end, whatever happened.

        Raises DemoError; CancelledError where it was interrupted before it was through.
        """
        try:
            async with AsyncExitStack() as stack:
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="relay-tentacle-demo-")))
                self._playing = Deferred.fromCoroutine(self._play(folder, stack))
                await self._playing
        except (RelayError, OSError) as error:
            raise DemoError(str(error)) from error

    def interrupt(self) -> None:
        """Ends it early. What is taken down already goes on being taken down."""
        if self._playing:
            self._playing.cancel()

    async def _play(self, folder: Path, stack: AsyncExitStack) -> None:
        acting = Deferred.fromCoroutine(_act(self._reactor, folder, self._combinations, self._audience, stack))
        scene: Scene = await acting.addTimeout(WITHIN, cast("Any", self._reactor), _too_late)
        if self._keep:
            self._audience.look_around(scene)
            with suppress(CancelledError):
                await Deferred()


async def _act(
    reactor: Reactor, folder: Path, combinations: tuple[Combination, ...], audience: Audience, stack: AsyncExitStack
) -> Scene:
    setting = await set_up(reactor, folder, combinations, stack)
    scene = setting.scene
    for target in scene.targets:
        audience.say(f"{target.name}: {scene.way(target)}")
    relay = RelayProcess(reactor)
    stack.push_async_callback(relay.stop)
    scene = replace(scene, pid=await relay.start(scene.config, scene.log))
    audience.say(f"relay: process {scene.pid}")
    setting.begin_polling()
    machines = setting.machines
    await _all(_check_health(name, machine) for name, machine in machines.items())
    audience.say("health: all of them answer, and run scripts")
    hashes = await _all(_upload(name, machine, folder, audience) for name, machine in machines.items())
    audience.say(f"uploads: {UPLOAD // 1024} KiB have arrived at each")
    await _all(_verify(name, machines[name], path, digest) for name, path, digest in hashes)
    audience.say("scripts: the SHA-256 of each file is what was sent")
    audience.went_through(await wait_for_log(reactor, scene.access_log, tuple(machines)))
    broken = setting.violations()
    if broken:
        raise DemoError(f"the relay broke a rule of the protocol: {broken[0]}")
    return scene


async def _check_health(name: str, machine: Machine) -> None:
    """As Octopus does: what can it do, and does it run a script?"""
    try:
        capabilities = await machine.get_capabilities()
        result = await machine.run_script("echo I am well")
    except (CallError, PeerError) as error:
        raise DemoError(f"{name}: the health check failed: {error}") from error
    if not {FILES, SCRIPTS_V2} <= set(capabilities):
        raise DemoError(f"{name}: it says that it can do no more than {', '.join(capabilities)}")
    if (result.exit_code, result.text()) != (0, "I am well"):
        raise DemoError(f"{name}: a script ended with {result.exit_code} and said {result.text()!r}")


async def _upload(name: str, machine: Machine, folder: Path, audience: Audience) -> tuple[str, str, str]:
    """Sends a file of its own to a machine; its name, the file's path there, and its SHA-256."""
    data = os.urandom(UPLOAD)
    source = folder / f"{name}.package"
    source.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    try:
        result = await machine.upload_file(source.name, source, lambda sent, total: audience.uploading(name, sent, total))
    except (CallError, PeerError) as error:
        raise DemoError(f"{name}: the upload failed: {error}") from error
    if (result.length, result.hash) != (UPLOAD, digest):
        raise DemoError(f"{name}: it has {result.length} bytes with SHA-256 {result.hash}, not {UPLOAD} with {digest}")
    return name, result.full_path, digest


async def _verify(name: str, machine: Machine, path: str, digest: str) -> None:
    """Has a script on the machine look at the file."""
    try:
        result = await machine.run_script(f"echo {shlex.quote(f'{digest}  {path}')} | sha256sum -c -")
    except (CallError, PeerError) as error:
        raise DemoError(f"{name}: the script that verifies the file failed: {error}") from error
    if result.exit_code:
        raise DemoError(f"{name}: the file is not what was sent: {result.text()}")


async def wait_for_log(reactor: Reactor, log: Path, names: tuple[str, ...]) -> list[Exchanged]:
    """The access log, as soon as all that happened to these is in it. Raises DemoError where it is not, or more than that."""
    last = reactor.seconds() + LOG_WITHIN
    while missing := wanting(exchanges := read_log(log), names):
        if reactor.seconds() > last:
            raise DemoError(f"the relay's access log says otherwise: {'; '.join(missing)}")
        await pause(reactor, _LOOK_EVERY)
    return exchanges


def read_log(log: Path) -> list[Exchanged]:
    """The whole lines of an access log so far. Raises OSError, and DemoError for a line that is none."""
    exchanges = []
    for line in log.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break  # it is being written
        try:
            said = json.loads(line)
            exchanges.append(
                Exchanged(
                    said["machine"], said["service"] or "-", said["method"] or "-", said["request_bytes"], said["reply_bytes"],
                    said["outcome"], said["total_ms"],
                )
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise DemoError(f"{log}: not a line of an access log: {line!r}") from error
    return exchanges


def wanting(exchanges: list[Exchanged], names: tuple[str, ...]) -> list[str]:
    """What an access log lacks, or should not have, after a demo with these machines that went well."""
    said = [
        f"{each.machine}: {each.service}.{each.method} ended as {each.outcome}" for each in exchanges if each.outcome != "ok"
    ]
    for name in names:
        counts = Counter(each.method for each in exchanges if each.machine == name)
        said += [
            f"{name}: {method} {counts[method]} times, not {expected}"
            for method, expected in _EXPECTED.items()
            if counts[method] != expected
        ]
        uploaded = sum(each.request_bytes for each in exchanges if (each.machine, each.method) == (name, "UploadFile"))
        if counts["UploadFile"] and uploaded <= UPLOAD:
            said.append(f"{name}: an upload of {UPLOAD} bytes had {uploaded}")
    return said


async def _all(coroutines: Iterable[Coroutine[Deferred[Any], Any, Any]]) -> list[Any]:
    """The results of all of them at once. Where one raises, the others are cancelled, and that is raised."""
    running = [Deferred.fromCoroutine(coroutine) for coroutine in coroutines]
    try:
        return await gatherResults(running, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    finally:
        for each in running:
            each.cancel()


def _too_late(result: object, seconds: float) -> NoReturn:
    raise DemoError(f"it was not done after {seconds:.0f} s")
