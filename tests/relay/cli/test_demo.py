import io
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli.demo import Bars, Lines
from relay.demo.play import Exchanged
from relay.demo.scene import Scene, Target

DEMO = [sys.executable, "-m", "relay", "demo"]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo with --keep, its temporary folder in tmp_path."""
    process = subprocess.Popen(
        [*DEMO, "--keep"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"TMPDIR": str(tmp_path)}
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), ("web01", "web02", "web03")),
        (("--polling",), ("both-listen", "tentacle-polls", "relay-polls", "both-poll")),
    ],
)
def test_the_whole_of_it(tmp_path: Path, options: tuple[str, ...], names: tuple[str, ...]) -> None:
    done = subprocess.run([*DEMO, *options], capture_output=True, text=True, timeout=120, env={"TMPDIR": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    took = re.search(r"^All of it went as it should, in ([0-9.]+) s; nothing is left of it\.$", done.stdout, re.MULTILINE)
    assert took is not None
    assert float(took[1]) < 15
    for name in names:
        assert f"{name}: " in done.stdout
        assert f"upload to {name}: 20 of 20 MiB" in done.stdout
        [upload] = re.findall(
            rf"^{name} +IFileTransferService +UploadFile +([0-9]+) +[0-9]+ +ok +[0-9.]+$", done.stdout, re.MULTILINE
        )
        assert int(upload) > 20 * 1024 * 1024
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_kept_it_ends_well_with_a_signal(started: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    assert started.stdout is not None
    said = []
    for line in started.stdout:
        said.append(line)
        if line.startswith("Ctrl-C ends it"):
            break
    [folder] = tmp_path.iterdir()
    text = "".join(said)
    assert f"-m relay identity show --config {folder}/relay.yaml\n" in text
    assert f"tail -f {folder}/access.jsonl\n" in text
    started.send_signal(number)
    out, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (0, "")
    assert "went as it should" in out
    assert list(tmp_path.iterdir()) == []


def test_interrupted_before_the_end_it_is_not_fine(started: subprocess.Popen[str], tmp_path: Path) -> None:
    assert started.stdout is not None
    assert started.stdout.readline().startswith("web01: ")
    started.send_signal(signal.SIGTERM)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 1
    assert err.startswith("relay-tentacle: demo: interrupted by SIGTERM")
    assert "went as it should" not in out
    assert list(tmp_path.iterdir()) == []


def test_an_upload_is_four_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines, mib = Lines(), 1024 * 1024
    for sent in range(0, 20 * mib + 1, 16384):
        lines.uploading("web01", sent, 20 * mib)
    lines.uploading("web02", 20 * mib, 20 * mib)
    assert capsys.readouterr().out.splitlines() == [
        *(f"upload to web01: {sent} of 20 MiB" for sent in (5, 10, 15, 20)),
        "upload to web02: 20 of 20 MiB",
    ]


def test_what_went_through(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().went_through([Exchanged("web01", "IFileTransferService", "UploadFile", 20972073, 310, "ok", 1255.04)])
    assert capsys.readouterr().out.splitlines()[-2].split() == [
        "web01", "IFileTransferService", "UploadFile", "20972073", "310", "ok", "1255.0",
    ]  # fmt: skip


def test_how_to_look_around(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    targets = Target("web01", "A" * 40, "B" * 40, door=11001), Target("kiosk", "1" * 40, "2" * 40, subscription="poll://kiosk/")
    Lines().look_around(Scene(tmp_path, targets, "C" * 40, "D" * 40, pid=4711))
    out = capsys.readouterr().out
    for text in (
        "A" * 40,
        "B" * 40,
        "C" * 40,
        "D" * 40,
        "https://127.0.0.1:11001/",
        f"kiosk: {'1' * 40} at poll://kiosk/, Tentacle {'2' * 40}\n",
        "kill -TERM 4711",
        f"{tmp_path}/relay.log",
    ):
        assert text in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        bars = Bars()
        for name in ("web01", "web02"):
            bars.uploading(name, 10 * 1024 * 1024, 20 * 1024 * 1024)
        bars.say("done")
        bars.close()
    text = terminal.getvalue()
    assert "upload to web01" in text
    assert "upload to web02" in text
    assert "10.0/20.0 MiB" in text
    assert text.endswith("done\n")
