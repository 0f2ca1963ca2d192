import stat
import subprocess
import sys
from pathlib import Path

import pytest

import certs
from certs.errors import CertificateError
from certs.lock import NAME, locked

CHILD = """
import sys
from pathlib import Path
from certs.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(0o700)
    return path


def test_one_at_a_time(folder: Path) -> None:
    said = f"^{folder}: another command is changing it. Wait for its end"
    with locked(folder), pytest.raises(CertificateError, match=said), locked(folder):
        pass
    with locked(folder):
        assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600


def test_a_killed_process_holds_it_no_longer(folder: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(folder)]
    root = str(Path(certs.__file__).parents[1])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": root}) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        with pytest.raises(CertificateError, match="another command"), locked(folder):
            pass
        child.kill()
        child.wait()
        with locked(folder):
            pass


def test_a_folder_that_others_may_use_or_that_is_not_there(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(CertificateError, match="mode 0755"), locked(folder):
        pass
    with pytest.raises(CertificateError, match="cannot look at this folder"), locked(folder / "none"):
        pass


def test_a_link_in_its_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CertificateError, match="cannot open"), locked(folder):
        pass
    assert not (tmp_path / "elsewhere").exists()
