"""hload, both ends of the load: built, and run as Octopus, as Tentacles, as Octopus nodes, as
idle callers, as pollers and as a flood."""

import json
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import messages
from benchmarks.processes import Process
from benchmarks.trouble import TroubleError

HERE: Final = Path(__file__).parent
HOSTS: Final = "web#.test"  # names of machines; hload puts a number where the # is
SUBSCRIPTIONS: Final = "web#"
STREAM_BYTES: Final = 64 << 20
SLOW_BYTES: Final = 4 << 20  # of each upload to a Tentacle that reads slowly
_PATIENCE: Final = 60.0  # seconds beyond a run's own, until hload has to have ended
_IDLE_S: Final = 3600  # connections are held until they are let go


def build(cc: str, program: Path) -> None:
    """Compiles hload. Raises TroubleError."""
    sources = sorted((HERE / "hload").glob("*.c"))
    done = subprocess.run(
        [cc, "-O2", "-Wall", "-Wextra", "-o", program, *sources, "-lssl", "-lcrypto", "-lpthread"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise TroubleError(f"hload does not compile (is libssl-dev installed?):\n{done.stderr}")


def _nothing() -> None:
    pass


@dataclass
class Held:
    """Connections that are held open. opened: how many; first_error: of those that could not be opened."""

    process: Process
    opened: int
    first_error: str
    seconds: float

    def let_go(self) -> int:
        """Closes them; how many of them were open until now. Raises TroubleError."""
        try:
            self.process.terminate()
            result: dict[str, int] = json.loads(self.process.read_line(_PATIENCE))
            return result["still_open"]
        finally:
            self.process.stop()


class Load:
    """The load of one measurement. folder: has octopus.pem and tentacle.pem, and gets logs and messages.

    rpc, upload, slow_upload: the options with which hload sends or answers each. within: the command that runs whatever is
    started, where something else is to be said of it (which CPU, how nice).
    """

    def __init__(self, cc: str, folder: Path, within: Sequence[str] = ()) -> None:
        """Raises TroubleError."""
        self._program, self._folder, self._within = folder / "hload", folder, tuple(within)
        build(cc, self._program)
        self.rpc = ["--rpc", f"{messages.REQUEST}:{messages.RESPONSE}"]
        stream_id = ["--stream-id", messages.STREAM_ID.hex()]
        self.uploads = ["--upload", _joined(messages.write_upload(STREAM_BYTES, folder)), *stream_id]
        self.slow_uploads = ["--upload", _joined(messages.write_upload(SLOW_BYTES, folder)), *stream_id]

    def _argv(self, mode: str, who: str, options: Sequence[str], within: Sequence[str]) -> list[str]:
        return [*(within or self._within), str(self._program), mode, "--cert", str(self._folder / f"{who}.pem"), *options]

    def _log(self, mode: str) -> Path:
        return self._folder / f"hload-{mode}.log"

    def _start(self, mode: str, who: str, port: int, *options: str, within: Sequence[str] = ()) -> Process:
        argv = self._argv(mode, who, ["--port", str(port), *options], within)
        return Process(f"hload {mode}", argv, self._log(mode), pipe=True)

    def _listen(self, mode: str, who: str, *options: str, within: Sequence[str] = ()) -> tuple[int, Process]:
        """It is given its socket: of a port that is only free now, somebody else may be quicker."""
        with socket.socket() as listener:
            listener.bind(("0.0.0.0", 0))
            listener.listen(4096)
            argv = self._argv(mode, who, ["--listener", str(listener.fileno()), *options], within)
            process = Process(f"hload {mode}", argv, self._log(mode), inherits=(listener.fileno(),))
            return listener.getsockname()[1], process

    def serve(self, pause: float = 0.0, within: Sequence[str] = ()) -> tuple[int, Process]:
        """Tentacles on a port, which is returned, of every loopback address.

        pause: seconds before each 64 KiB that they read of a stream.
        """
        options = [*self.rpc, *self.uploads, *self.slow_uploads, "--pause", str(pause)]
        return self._listen("serve", "tentacle", *options, within=within)

    def nodes(self) -> tuple[int, Process]:
        """Octopus nodes on a port, which is returned, of every loopback address, with no request for whoever polls them."""
        return self._listen("nodes", "octopus")

    def start_client(self, port: int, connections: int, seconds: float, *options: str, warmup: float = 0.0) -> "Client":
        """Octopus, which calls from now on."""
        process = self._start(
            "client", "octopus", port, "--conns", str(connections), "--seconds", str(seconds), "--warmup", str(warmup), *options
        )
        return Client(process, warmup, seconds)

    def client(
        self,
        port: int,
        connections: int,
        seconds: float,
        *options: str,
        warmup: float = 0.0,
        at_start: Callable[[], None] = _nothing,
        at_end: Callable[[], None] = _nothing,
    ) -> dict[str, Any]:
        """One run of Octopus, from start to end. at_start: called when its warm-up ends, at_end: when it has its result."""
        client = self.start_client(port, connections, seconds, *options, warmup=warmup)
        try:
            client.wait_measuring()
            at_start()
            result = client.result()
            at_end()
            return result
        finally:
            client.stop()

    def idle(self, port: int, count: int, *options: str) -> Held:
        """Callers that say nothing from now on, once all are open. Raises TroubleError."""
        return self._hold("idle", "octopus", port, count, options)

    def flood(self, port: int, who: str, way: str, count: int, *options: str, within: Sequence[str] = ()) -> "Flooding":
        """So many connections that keep coming, from now on. who: whose certificate they have; way: as flood.c has it."""
        shape = ["--way", way, "--conns", str(count), "--seconds", str(_IDLE_S)]
        process = self._start("flood", who, port, *shape, *self.rpc, *options, within=within)
        try:
            process.read_line(_PATIENCE)
        except BaseException:
            process.stop()
            raise
        return Flooding(process)

    def pollers(self, port: int, count: int) -> Held:
        """Polling Tentacles, one for each machine. Raises TroubleError."""
        return self._hold("pollers", "tentacle", port, count, ["--subscription", SUBSCRIPTIONS])

    def _hold(self, mode: str, who: str, port: int, count: int, options: "list[str] | tuple[str, ...]") -> Held:
        shape = ["--conns", str(count), "--seconds", str(_IDLE_S), "--sources", str(1 + count // 200)]
        process = self._start(mode, who, port, *shape, *options)
        try:
            opened = json.loads(process.read_line(_PATIENCE + count / 50))
        except BaseException:
            process.stop()
            raise
        return Held(process, opened["opened"], opened["first_error"], opened["seconds"])


class Client:
    """An hload that plays Octopus."""

    def __init__(self, process: Process, warmup: float, seconds: float) -> None:
        self._process, self._warmup, self._seconds = process, warmup, seconds

    def wait_measuring(self) -> None:
        """Until its warm-up is over. Raises TroubleError."""
        line = self._process.read_line(self._warmup + _PATIENCE)
        if line != "measuring":
            raise TroubleError(f"hload client said {line!r}:\n{self._process.last_words()}")

    def result(self) -> dict[str, Any]:
        """Its figures, at its end; hload.h says which. Raises TroubleError."""
        result: dict[str, Any] = json.loads(self._process.read_line(self._seconds + _PATIENCE))
        return result

    def stop(self) -> None:
        self._process.stop()


class Flooding:
    """An hload that floods."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> dict[str, float]:
        """Ends it; what came of it, as flood.c counts it. Raises TroubleError."""
        try:
            self._process.terminate()
            result: dict[str, float] = json.loads(self._process.read_line(_PATIENCE))
            return result
        finally:
            self._process.stop()


def names(count: int, connections: int) -> list[str]:
    """Options: the connections are of so many machines, spread over all of them."""
    return ["--sni", HOSTS, "--names", str(count), "--stride", str(max(1, count // connections))]


def _joined(files: tuple[Path, Path]) -> str:
    return f"{files[0]}:{files[1]}"
