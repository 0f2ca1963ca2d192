"""From nothing to a running relay, by the commands that `init` names, in processes of their own."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from scripted import PATIENCE
from system import Lines, free_ports

RELAY = [sys.executable, "-m", "relay"]


def run(*arguments: str) -> str:
    """What a command that goes well prints."""
    done = subprocess.run([*RELAY, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def started(config: Path) -> list[dict[str, object]]:
    """What the log of a relay has that starts by this configuration, and is stopped again."""
    process = subprocess.Popen([*RELAY, "run", "--config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    log = Lines(process.stderr)
    try:
        log.wait(event="running")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE)
        log.join()
    assert log.strange == []
    return log.found


def test_a_new_site_starts_empty_and_then_with_its_first_machine(tmp_path: Path) -> None:
    config = tmp_path / "relay.yaml"
    state = str(tmp_path / "state")
    said = run("init", str(config), "--state", state, "--octopus-thumbprint", "A" * 40, "--admin", "none")
    [running] = [line for line in started(config) if line["event"] == "running"]
    assert running["machines"] == 0

    [(example, machine)] = re.findall(r"cp (\S+) (\S+), and", said)
    shutil.copy(shlex.split(example)[0], machine)
    [port] = free_ports(1)
    Path(machine).write_text(Path(machine).read_text().replace("port: 11001", f"port: 127.0.0.1:{port}"))
    assert "machines: 1" in run("check", "--config", str(config))
    [door] = [line for line in started(config) if line["event"] == "door open"]
    assert (door["machine"], door["door"]) == ("web01", f"127.0.0.1:{port}")
