"""What `check` says of provisioned identities, each with its place; what `run` refuses is among it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from identities import identity

from certs.errors import CertificateError
from certs.pfx import write_pfx
from certs.store import IdentityStore
from relay.faces import Faces
from relay.provisioned import Tried, try_provisioned
from routing.load import load

TEXT = f"""\
relay: {{name: r, state: state}}
include: more.yaml
octopus:
  - {{name: production, thumbprint: {"A" * 40}}}
machines:
  - {{name: web01, tentacle: "https://web01", thumbprint: {"C" * 40}, port: 11001}}
"""
MACHINES = f"""\
machines:
  - {{name: web02, tentacle: "https://web02", thumbprint: {"D" * 40}, port: 11002}}
  - name: web03
    tentacle: https://web03
    thumbprint: {"E" * 40}
    port: 11003
    identity: web03.pfx
    identity_password: web03.password
"""


class Place:
    """A configuration whose third machine, in an included file, has an encrypted PFX."""

    def __init__(self, folder: Path) -> None:
        self.config, self.more = folder / "relay.yaml", folder / "more.yaml"
        self.pfx, self.password = folder / "web03.pfx", folder / "web03.password"
        self.config.write_text(TEXT)
        self.more.write_text(MACHINES)
        self.put(self.pfx, write_pfx(identity("web03"), "right"))
        self.put(self.password, b"right\n")

    def put(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        path.chmod(0o600)

    def tried(self) -> Tried:
        return try_provisioned(load(self.config))

    def the_mistake(self) -> str:
        """The only one; `run` refuses this configuration, too."""
        tried = self.tried()
        assert tried.warnings == []
        [mistake] = tried.mistakes
        table = load(self.config)
        with pytest.raises(CertificateError):
            Faces.read(table, IdentityStore(table.relay.state, lambda *_: None, pytest.fail))
        return str(mistake)


@pytest.fixture
def place() -> Iterator[Place]:
    """Where any user may look."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Place(Path(folder))


def test_one_that_is_right(place: Place) -> None:
    assert place.tried() == Tried([], [])
    assert not (place.config.parent / "state").exists()


def test_one_that_is_missing(place: Place) -> None:
    place.pfx.unlink()
    assert place.the_mistake() == (
        f"{place.more}:7: machines[1].identity: {place.pfx}: no such file. Put a PEM or PFX with key and certificate there."
    )


def test_one_that_is_broken(place: Place) -> None:
    place.put(place.pfx, b"nothing")
    said = place.the_mistake()
    assert said.startswith(f"{place.more}:7: machines[1].identity: {place.pfx}: identity web03: not a PFX file. Export it")


def test_one_that_others_may_write(place: Place) -> None:
    place.pfx.chmod(0o622)
    assert f"Run: chmod 600 {place.pfx}" in place.the_mistake()


def test_a_wrong_password(place: Place) -> None:
    place.put(place.password, b"wrong\n")
    said = place.the_mistake()
    assert said.startswith(f"{place.more}:7: machines[1].identity: {place.pfx}: ")
    assert said.endswith(
        f"the password is wrong, or the file is damaged. Put the right password into {place.password}, or name another file."
    )


def test_a_password_that_is_not_given(place: Place) -> None:
    place.more.write_text(MACHINES.replace("    identity_password: web03.password\n", ""))
    assert "it needs a password, and none was given" in place.the_mistake()


def test_a_password_file_that_is_missing(place: Place) -> None:
    place.password.unlink()
    assert place.the_mistake() == (
        f"{place.more}:8: machines[1].identity_password: {place.password}: no such file. "
        "Name a file whose first line is the password."
    )


def test_all_mistakes_at_once(place: Place) -> None:
    place.password.unlink()
    place.pfx.unlink()
    place.config.write_text(
        TEXT.replace("production,", "production, identity: p.pem,").replace("web01,", "web01, identity: w.pem,")
    )
    keys = [(mistake.file, mistake.line, mistake.where) for mistake in place.tried().mistakes]
    assert keys == [
        (place.config, 4, "octopus[0].identity"),
        (place.config, 6, "machines[0].identity"),
        (place.more, 8, "machines[1].identity_password"),
        (place.more, 7, "machines[1].identity"),
    ]


@pytest.mark.parametrize("key", ["identity", "identity_password"])
def test_what_another_user_may_read_is_a_warning(place: Place, key: str) -> None:
    closed, other = (place.pfx, place.password) if key == "identity" else (place.password, place.pfx)
    closed.chmod(0)
    table = load(place.config)
    user = os.geteuid()
    if user == 0:  # whom no mode keeps out
        os.chown(other, 65534, -1)
        os.seteuid(65534)
    try:
        tried = try_provisioned(table)
    finally:
        os.seteuid(user)
    assert tried.mistakes == []
    [said] = tried.warnings
    line = 7 if key == "identity" else 8
    assert said.startswith(
        f"{place.more}:{line}: machines[1].{key}: not checked, for the relay may run as another user: {closed}: "
    )
    assert "Permission denied" in said


def test_a_credential_outside_of_its_unit_is_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.more.write_text(MACHINES.replace("web03.password", "credential:web03"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    tried = place.tried()
    [said] = tried.warnings
    assert tried.mistakes == []
    assert "machines[1].identity_password: not checked" in said
    place.pfx.unlink()
    assert len(place.tried().mistakes) == 1  # the file can be looked at all the same


def test_one_that_others_may_read_is_a_warning(place: Place) -> None:
    place.pfx.chmod(0o644)
    tried = place.tried()
    assert tried.mistakes == []
    [said] = tried.warnings
    assert said.endswith(f"Run: chmod 600 {place.pfx}")
