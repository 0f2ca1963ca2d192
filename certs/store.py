"""Where the relay keeps its identities: one file for each, made on first use.

    FOLDER/machines/web01.pem         what Octopus sees for the machine web01
    FOLDER/octopus/production.pem     what Tentacles see for the octopus entry production
    FOLDER/subscriptions/web01        the subscription id with which the relay polls Octopus for the machine web01

A provisioned identity is a file elsewhere, which the operator made: it is read and never written. Others than its owner may
be allowed to read it, as with the secrets that Kubernetes mounts; that is worth a warning.
"""

import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from certs.errors import CertificateError, PasswordError
from certs.files import Reading, check_folder, check_if_there, private_folder, read_private, unusable, write_private
from certs.identity import Identity, IdentityKey, KeyToBe, key_to_be
from certs.passwords import PasswordSource
from certs.pfx import read_pfx

Folder = Literal["machines", "octopus"]
T = TypeVar("T")

# The names that real ones give themselves: whoever looks at the certificate sees what it stands for.
COMMON_NAMES: Final[dict[Folder, str]] = {"machines": "Octopus Tentacle", "octopus": "Octopus Portal"}
# While a restore puts folders in place, this is there. What is in the folder then may be half of two sets of identities.
RESTORING: Final = "restoring"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_ID_LETTERS: Final = string.ascii_lowercase + string.digits  # as Tentacles make theirs (wire.md 6.1)
_ID_LENGTH: Final = 20
_SUBSCRIPTION = re.compile(r"poll://[a-z0-9][a-z0-9._-]{0,62}/")
_SUBSCRIPTION_ID = Reading("subscription id", "Leave the state folder to the relay, and try again.")
_PFX_SUFFIXES = (".pfx", ".p12")


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A file that the operator made. password: where that of its key is, if it has one."""

    file: Path
    password: PasswordSource | None = None

    def __str__(self) -> str:
        return str(self.file)


class IdentityStore:
    """The identities of one relay, in `folder` (0700). `notice` is called for each one made, with its file.

    `warn` is called once for each provisioned file that others may read, with a text that names it and the remedy.
    Every method raises CertificateError for a file or folder that cannot be used or that others may use.
    """

    def __init__(self, folder: Path, notice: Callable[[Identity, Path], None], warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._notice = notice
        self._warn = warn
        self._warned: set[Path] = set()

    def machine(self, name: str, provisioned: Provisioned | None = None, key_later: bool = False) -> Identity:
        """What Octopus sees for this machine. Made on first use, unless `provisioned` names a file.

        key_later: the key in a file of the relay's own is parsed when it is first used, which may raise CertificateError, too.
        """
        return self._get("machines", name, provisioned, key_later)

    def octopus(self, name: str, provisioned: Provisioned | None = None) -> Identity:
        """What Tentacles see for this octopus entry. Made on first use, unless `provisioned` names a file."""
        return self._get("octopus", name, provisioned)

    def subscription(self, name: str) -> str:
        """The id with which the relay polls Octopus for this machine, poll://ID/. Made on first use."""
        found = self.find_subscription(name)
        if found is None:
            path = self._file("subscriptions", name)
            made = f"poll://{''.join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))}/"
            self._make_folders("subscriptions")
            if write_private(path, f"{made}\n".encode(), replace=False):
                return made
            found = self.find_subscription(name) or ""
        return found

    def find_subscription(self, name: str) -> str | None:
        """The same, None if it was not made yet."""
        path = self._file("subscriptions", name)
        check_state(self._folder)
        if not _is_there(path.parent):
            return None
        check_folder(path.parent)
        data = read_private(path, reading=_SUBSCRIPTION_ID)
        return None if data is None else subscription_in(data, name, str(path))

    def find_machine(self, name: str) -> Identity | None:
        """The machine's own identity, None if it was not made yet."""
        return find(self._path("machines", name), name)

    def find_octopus(self, name: str) -> Identity | None:
        """The octopus entry's own identity, None if it was not made yet."""
        return find(self._path("octopus", name), name)

    def machine_file(self, name: str) -> Path:
        """Where the machine's own identity is, or will be."""
        return self._path("machines", name)

    def octopus_file(self, name: str) -> Path:
        """Where the octopus entry's own identity is, or will be."""
        return self._path("octopus", name)

    def import_machine(self, identity: Identity, replace: bool = False) -> Path:
        """Keeps `identity` for the machine of its name, and returns its file.

        Another certificate is overwritten only with `replace`; without it, that is a CertificateError.
        """
        return self._import("machines", identity, replace)

    def import_octopus(self, identity: Identity, replace: bool = False) -> Path:
        """Keeps `identity` for the octopus entry of its name. Otherwise like `import_machine`."""
        return self._import("octopus", identity, replace)

    def _get(self, kind: Folder, name: str, provisioned: Provisioned | None, key_later: bool = False) -> Identity:
        if provisioned is not None:
            return self._read_provisioned(provisioned, name)
        path = self._path(kind, name)
        found = find(path, name, key_later)
        if found is not None:
            return found
        identity = Identity.new(name, COMMON_NAMES[kind])
        self._make_folders(kind)
        if write_private(path, identity.pem(), replace=False):
            self._notice(identity, path)
            return identity
        return existing(path, name)

    def _import(self, kind: Folder, identity: Identity, replace: bool) -> Path:
        path = self._path(kind, identity.name)
        self._make_folders(kind)
        if write_private(path, identity.pem(), replace):
            return path
        there = existing(path, identity.name)
        if there.der != identity.der:
            raise CertificateError(
                f"{path}: holds another identity, {there.thumbprint}, and peers may trust it. "
                f"Import with --replace to overwrite it with {identity.thumbprint}."
            )
        return path

    def _read_provisioned(self, provisioned: Provisioned, name: str) -> Identity:
        path, source = provisioned.file, provisioned.password

        def warn(text: str) -> None:
            if path not in self._warned:
                self._warned.add(path)
                self._warn(text)

        try:
            identity = read_identity(path, name, source.read() if source else None, warn)
        except PasswordError as error:
            if source is None:
                raise
            raise PasswordError(f"{error} The password is from {source}.") from error
        if identity is None:
            raise CertificateError(
                f"{path}: no such file. It is the provisioned identity of {name}: "
                "put a PEM or PFX with key and certificate there."
            )
        return identity

    def _path(self, kind: Folder, name: str) -> Path:
        return self._file(kind, name).with_name(f"{name}.pem")

    def _file(self, folder: str, name: str) -> Path:
        # The names are checked where they are declared; here they become part of a path, so they are checked again.
        if not _SAFE_NAME.fullmatch(name):
            raise CertificateError(
                f"{name[:64]!r}: not a name for an identity. "
                "Use up to 64 letters, digits, dots, dashes and underscores, and no dot or dash in front."
            )
        return self._folder / folder / name

    def _make_folders(self, kind: str) -> None:
        private_folder(self._folder)
        private_folder(self._folder / kind)


def subscription_in(data: bytes, name: str, path: str) -> str:
    """The id in a file of the relay's own, for the machine of this name. Raises CertificateError, which names the path."""
    found = data.decode("ascii", "replace").strip()
    if not _SUBSCRIPTION.fullmatch(found):
        raise CertificateError(
            f"{path}: not a subscription id. Restore poll://ID/ as Octopus has it for {name}, or delete the file: the "
            "relay then makes another one, which Octopus has to be told."
        )
    return found


def find(path: Path, name: str, key_later: bool = False) -> Identity | None:
    """The identity in a file of the relay's own, None if it is not there. Raises CertificateError.

    key_later: as IdentityStore.machine() has it.
    """
    # Whoever may write to the folders could have put a key of their own there. And what is no folder holds no key ever.
    check_state(path.parent.parent)
    data = read_private(path) if check_if_there(path.parent) else None
    return None if data is None else _own(path, name, data, key_later)


def check_state(folder: Path) -> None:
    """Raises CertificateError where a state folder is there and no identity in it can be used."""
    if check_if_there(folder) and _is_there(folder / RESTORING):
        raise CertificateError(
            f"{folder}: a restore was cut off in the middle, so identities of two sets may be in it. "
            "Run 'relay-tentacle restore' with the same backup again."
        )


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unusable(path, "look at it", error) from error
    return True


def existing(path: Path, name: str) -> Identity:
    """The identity in a file of the relay's own. Raises CertificateError, also where the file is not there."""
    data = read_private(path)
    if data is None:
        raise CertificateError(
            f"{path}: was there a moment ago and is gone. Leave the state folder to the relay, and try again."
        )
    return _own(path, name, data)


def _own(path: Path, name: str, data: bytes, key_later: bool = False) -> Identity:
    found = _parsed(path, lambda: key_to_be(name, data)) if key_later else None
    if found is None:
        return _parsed(path, lambda: Identity.from_pem(name, data, known_good=True))
    return Identity(name, found.certificate, _Unparsed(path, found))


@dataclass(frozen=True, slots=True)
class _Unparsed:
    """The key in a file. The same one as another where nothing in the file has changed."""

    path: Path
    key: KeyToBe

    def __call__(self) -> IdentityKey:
        return _parsed(self.path, self.key.parse)


def read_identity(path: Path, name: str, password: str | None, warn: Callable[[str], None]) -> Identity | None:
    """The identity in a file of the operator's, PEM or PFX, for the machine or octopus entry `name`; None: no such file.

    password: of a PFX or of the key in a PEM. warn: called with a text if others may read the file. Raises
    CertificateError; PasswordError where the password is wrong, or missing.
    """
    data = read_private(path, warn)
    if data is None:
        return None
    if path.suffix.lower() in _PFX_SUFFIXES or data[:1] == b"\x30":
        return _parsed(path, lambda: read_pfx(name, data, password))
    return _parsed(path, lambda: Identity.from_pem(name, data, password))


def _parsed(path: Path, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except CertificateError as error:
        raise type(error)(f"{path}: {error}") from error
