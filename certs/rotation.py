"""Rotating an identity: the next one waits beside the one in use, and the one before stays for the way back.

    web01.pem         in use
    web01.pem.next    made, shown to nobody: peers are told to trust it first
    web01.pem.old     what was in use before

No name of an identity ends so, since each file of one ends in .pem. Every step is one rename, and whatever was cut off in
between can be done again: no key is ever only in memory, or gone before its time.
"""

import os
from pathlib import Path

from certs.errors import CertificateError
from certs.files import sync_folder, unusable, write_private
from certs.identity import Identity
from certs.store import find

NEXT = ".next"
OLD = ".old"


class Rotation:
    """Of one machine or octopus entry. file: of the identity in use; name: the entry's; common_name: of a new certificate.

    Everything raises CertificateError. Whoever changes something holds the lock of the state folder (certs.lock).
    """

    def __init__(self, file: Path, name: str, common_name: str) -> None:
        self.file = file
        self.next_file = file.with_name(file.name + NEXT)
        self.old_file = file.with_name(file.name + OLD)
        self._name = name
        self._common_name = common_name

    @property
    def current(self) -> Identity | None:
        """The one in use, None if it was not made yet."""
        return find(self.file, self._name)

    @property
    def next(self) -> Identity | None:
        """The one that waits, if one does."""
        return find(self.next_file, self._name)

    @property
    def old(self) -> Identity | None:
        """The one that was in use before, if there was one."""
        return find(self.old_file, self._name)

    def prepare(self) -> tuple[Identity, bool]:
        """The next one, and whether it was made now. It is made once: a second call has the same again."""
        if self.current is None:
            raise CertificateError(
                f"{self.file}: not made yet, so there is nothing to rotate. Make it with 'relay-tentacle identity new'."
            )
        waiting = self.next
        if waiting:
            return waiting, False
        made = Identity.new(self._name, self._common_name)
        write_private(self.next_file, made.pem(), replace=True)
        return made, True

    def activate(self) -> Identity:
        """The next one is in use from now on, and the one before is kept; returns the new one."""
        coming, current = self._waiting(), self.current
        if current and current.der != coming.der:
            write_private(self.old_file, current.pem(), replace=True)
        self._rename(self.next_file, self.file)
        return coming

    def cancel(self) -> Identity:
        """The next one is deleted; returns it."""
        waiting = self._waiting()
        try:
            self.next_file.unlink()
            sync_folder(self.file.parent)
        except OSError as error:
            raise unusable(self.next_file, "delete", error) from error
        return waiting

    def back(self) -> Identity:
        """The one before is in use again, and the one in use now waits as the next; returns the one before."""
        old, current = self.old, self.current
        if old is None:
            raise CertificateError(f"{self.old_file}: no such file: no identity was in use before this one.")
        waiting = self.next
        if waiting and current and waiting.der != current.der:
            raise CertificateError(
                f"{self.next_file}: another identity waits, {waiting.thumbprint}, which going back would overwrite. "
                "Drop it with --cancel first."
            )
        if current and current.der != old.der:
            write_private(self.next_file, current.pem(), replace=True)
        self._rename(self.old_file, self.file)
        return old

    def _waiting(self) -> Identity:
        waiting = self.next
        if waiting is None:
            raise CertificateError(
                f"{self.next_file}: no such file: no new identity waits. Make it by the same command without options."
            )
        return waiting

    def _rename(self, source: Path, target: Path) -> None:
        try:
            os.rename(source, target)
            sync_folder(target.parent)
        except OSError as error:
            raise unusable(target, "write", error) from error
