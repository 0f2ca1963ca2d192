"""``relay-tentacle demo``: see it work."""

import signal
import sys
import time
from types import FrameType
from typing import Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from relay.cli.exits import NOT_FINE, fail
from relay.cli.tables import print_table
from relay.collector import collect
from relay.demo.play import Demo, DemoError, Exchanged
from relay.demo.scene import LOCAL, Scene

_MIB = 1024 * 1024
_QUARTERS = 4


@click.command()
@click.option("--keep", is_flag=True, help="Leave it running until Ctrl-C, and say how to look around.")
@click.option("--polling", is_flag=True, help="Four machines: one for each way in which Octopus, relay and Tentacle connect.")
def demo(keep: bool, polling: bool) -> None:
    """See it work: three Tentacles, a relay and an Octopus in a temporary folder.

    The Octopus checks the health of all machines, uploads 20 MiB to each, and has each verify what it got. With --polling, the
    Octopus dials the relay or is polled by it, and the relay dials the Tentacle or is polled by it: all four combinations side
    by side. Exit code 0: all of it went as it should.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    began = time.monotonic()
    audience = Bars() if sys.stdout.isatty() else Lines()
    playing = Demo(reactor, audience, keep, polling)
    ends: list[Failure | None] = []
    signals: list[int] = []

    def begin() -> None:
        # The handlers come first, in place of the reactor's own: an interrupted demo, too, takes everything down.
        def interrupted(number: int, frame: FrameType | None) -> None:
            signals.append(number)
            reactor.callFromThread(playing.interrupt)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupted)
        ending = Deferred.fromCoroutine(playing.run())
        ending.addBoth(ends.append)
        ending.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    collect()
    reactor.run()
    audience.close()
    [end] = ends
    if end is not None:
        if not isinstance(end.value, DemoError | CancelledError):
            end.raiseException()
        # Not every cancelled call says that it was cancelled: some say what they could not do.
        said = [f"interrupted by {signal.Signals(number).name}" for number in signals[:1]] + [str(end.value)] * bool(
            str(end.value)
        )
        fail(f"demo: {'; '.join(said)}", NOT_FINE)
    click.echo(f"All of it went as it should, in {time.monotonic() - began:.1f} s; nothing is left of it.")


class Lines:
    """Prints what happens, line by line."""

    def __init__(self) -> None:
        self._quarters: dict[str, int] = {}

    def say(self, text: str) -> None:
        click.echo(text)

    def uploading(self, machine: str, sent: int, total: int) -> None:
        quarter = sent * _QUARTERS // total
        if quarter > self._quarters.get(machine, 0):
            self._quarters[machine] = quarter
            click.echo(f"upload to {machine}: {sent // _MIB} of {total // _MIB} MiB")

    def went_through(self, exchanges: list[Exchanged]) -> None:
        click.echo("\nWhat went through, as the relay's access log has it:")
        print_table(
            ("MACHINE", "SERVICE", "METHOD", "BYTES THERE", "BYTES BACK", "OUTCOME", "MS"),
            [
                (
                    each.machine,
                    each.service,
                    each.method,
                    f"{each.request_bytes}",
                    f"{each.reply_bytes}",
                    each.outcome,
                    f"{each.ms:.1f}",
                )
                for each in exchanges
            ],
        )
        click.echo()

    def look_around(self, scene: Scene) -> None:
        program = f"{sys.executable} -m relay"
        click.echo(_GUIDE.format(scene=scene, door=scene.targets[0].door, host=LOCAL, program=program))
        for target in scene.targets:
            where = f"{LOCAL}:{target.door}" if target.door else target.subscription
            click.echo(f"  {target.name}: {target.thumbprint} at {where}, Tentacle {target.tentacle_thumbprint}")
        click.echo("\nCtrl-C ends it, and removes all of it.")

    def close(self) -> None:
        """Nothing more will happen."""


class Bars(Lines):
    """The same on a terminal: a bar for each upload."""

    def __init__(self) -> None:
        super().__init__()
        columns = (
            TextColumn("upload to {task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
        )
        self._progress = Progress(*columns)
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        self._progress.stop()
        super().say(text)

    def uploading(self, machine: str, sent: int, total: int) -> None:
        if not self._tasks:
            self._progress.start()
        if machine not in self._tasks:
            self._tasks[machine] = self._progress.add_task(machine, total=total)
        self._progress.update(self._tasks[machine], completed=sent)

    def close(self) -> None:
        self._progress.stop()


_GUIDE = """\
It is left running. The relay is process {scene.pid}, and all of it is in {scene.folder}:
  {scene.config}  its configuration
  {scene.access_log}  one line for each exchange
  {scene.log}  what else it has to say

Try, in another terminal:
  tail -f {scene.access_log}
  {program} status --config {scene.config}
  {program} machines --config {scene.config}
  {program} identity show --config {scene.config}
  curl -k https://{host}:{door}/    (what a browser sees)
  kill -TERM {scene.pid}    (drain and stop the relay)

Thumbprints: the Octopus has {scene.octopus}, the Tentacles see {scene.facing_tentacles}.
Octopus sees for each machine:"""
