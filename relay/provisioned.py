"""The provisioned identities and credentials of a configuration: what is wrong with them, found before a relay starts."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from certs.contexts import client_context, server_context
from certs.errors import CertificateError, OutOfReachError, PasswordError
from certs.identity import Identity
from certs.store import Provisioned, read_identity
from relay.transport.credentials import CredentialsError, read_credentials, read_users
from routing.mistakes import Mistake
from routing.table import Machine, Octopus, Place, Table


@dataclass(frozen=True, slots=True)
class Tried:
    """mistakes: what keeps a relay from starting. warnings: what cannot be told as this user, and keys open to others."""

    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def try_provisioned(table: Table) -> Tried:
    """Reads each of them and its password, as `run` does, and gives it to OpenSSL. It blocks, and makes nothing."""
    tried = Tried()
    for number, octopus in enumerate(table.octopus):
        _try(tried, octopus, f"octopus[{number}]", client_context)
    numbers: Counter[Path] = Counter()  # in each file they count from 0
    for machine in table.machines:
        _try(tried, machine, f"machines[{numbers[machine.places.file]}]", server_context)
        numbers[machine.places.file] += 1
    for number, octopus in enumerate(table.octopus):
        if octopus.proxy and octopus.proxy.credentials:
            place = octopus.places.of("proxy_credentials")
            _try_credentials(tried, read_credentials, octopus.proxy.credentials, place, f"octopus[{number}].proxy_credentials")
    if table.connect and table.connect.credentials:
        _try_credentials(
            tried, read_users, table.connect.credentials, table.sections["front"].of("credentials"), "front.credentials"
        )
    return tried


def _try_credentials(tried: Tried, read: Callable[[Path], object], file: Path, place: Place, where: str) -> None:
    try:
        read(file)
    except CredentialsError as error:
        if error.forbidden:
            tried.warnings.append(f"{place}: {where}: not checked, for the relay may run as another user: {error}")
        else:
            problem, _, remedy = str(error).removeprefix(f"{file}: ").partition(". ")
            tried.mistakes.append(Mistake(place.file, place.line, where, None, f"{file}: {problem}", remedy))


def _try(tried: Tried, shown: Machine | Octopus, where: str, make: Callable[[Identity], Any]) -> None:
    provisioned = shown.identity
    if provisioned is None:
        return
    source, password = provisioned.password, None
    if source:
        with _said(tried, shown, where, "identity_password", str(source)):
            password = source.read()
    with _said(tried, shown, where, "identity", str(provisioned.file)):
        try:
            make(_read(provisioned, shown.name, password, tried.warnings.append))
        except PasswordError as error:
            if source and password is None:
                return  # it was said why there is none
            if source is None:
                raise
            raise PasswordError(f"{error} Put the right password into {source}, or name another file.") from error


def _read(provisioned: Provisioned, name: str, password: str | None, warn: Callable[[str], None]) -> Identity:
    identity = read_identity(provisioned.file, name, password, warn)
    if identity is None:
        raise CertificateError(f"{provisioned.file}: no such file. Put a PEM or PFX with key and certificate there.")
    return identity


@contextlib.contextmanager
def _said(tried: Tried, shown: Machine | Octopus, where: str, key: str, file: str) -> Iterator[None]:
    """Puts what goes wrong with this file to the mistakes, or the warnings, at the place of the key that names it."""
    place = shown.places.of(key)
    try:
        yield
    except OutOfReachError as error:
        tried.warnings.append(f"{place}: {where}.{key}: not checked, for the relay may run as another user: {error}")
    except CertificateError as error:
        # A path may hold what ends a sentence.
        problem, _, remedy = str(error).removeprefix(f"{file}: ").partition(". ")
        tried.mistakes.append(Mistake(place.file, place.line, f"{where}.{key}", None, f"{file}: {problem}", remedy))
