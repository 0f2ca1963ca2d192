"""What a configuration file may say: one model per section. What several values must be together is in checks.py.

Values come as the text that was written (see yaml_lines), so each kind of value has its own reader here. A reader raises
WrongValueError, which carries what to write instead.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from certs.thumbprint import Thumbprint, ThumbprintError
from routing import addresses, units
from routing.addresses import Address
from routing.mistakes import WrongValueError

T = TypeVar("T")

LOG_LEVELS = ("debug", "info", "warning", "error")
# Names become file names: see IdentityStore.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_NAME_REMEDY = "Write up to 64 letters, digits, dots, dashes and underscores, and no dot or dash in front."
_PATH_REMEDY = "Write a path; a relative one starts at the folder of this file."
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_MAX_PATH = 4096
_MINUTE = 60.0
_HOUR = 3600.0
_MAX_ENVELOPE = 2**31 - 1


def _reader(read: Callable[[str], T], remedy: str) -> PlainValidator:
    def validate(value: object) -> T:
        if value is None:
            raise WrongValueError("empty", remedy)
        if not isinstance(value, str):
            raise WrongValueError(f"{_kind(value)} where one value belongs", remedy)
        return read(value)

    return PlainValidator(validate)


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "a mapping"


def _list(remedy: str) -> BeforeValidator:
    """One value is a list of one."""

    def validate(value: object) -> object:
        if value is None or value == []:
            raise WrongValueError("empty", remedy)
        if isinstance(value, dict):
            raise WrongValueError("a mapping where a value or a list belongs", remedy)
        return [value] if isinstance(value, str) else value

    return BeforeValidator(validate)


def _no_repeats(values: tuple[T, ...]) -> tuple[T, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise WrongValueError(f"{value} stands in the list twice", "Keep one of them.")
    return values


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise WrongValueError("not a name", _NAME_REMEDY)
    return text


def _path(text: str) -> Path:
    if not text or len(text) > _MAX_PATH or _CONTROL.search(text):
        raise WrongValueError("not a path", _PATH_REMEDY)
    if text.startswith("~"):
        raise WrongValueError("'~' is not expanded", "Write the whole path.")
    return Path(text)


def _thumbprint(text: str) -> Thumbprint:
    try:
        return Thumbprint.parse(text)
    except ThumbprintError as error:
        raise WrongValueError(error.problem, error.remedy) from None


def _version(text: str) -> int:
    if text != "1":
        raise WrongValueError("not a version of this file's format that this relay knows", "Write version: 1.")
    return 1


def _log_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise WrongValueError("not a log level", f"Write one of {', '.join(LOG_LEVELS)}.")
    return text


def _count(most: int) -> PlainValidator:
    def read(text: str) -> int:
        number = units.count(text)
        if not 1 <= number <= most:
            raise WrongValueError("out of range", f"Write a number from 1 to {most}.")
        return number

    return _reader(read, units.COUNT_REMEDY)


def _size(most: int) -> PlainValidator:
    def read(text: str) -> int:
        number = units.size(text)
        if not 1 <= number <= most:
            raise WrongValueError("out of range", f"Write a size from 1 to {most} bytes.")
        return number

    return _reader(read, units.SIZE_REMEDY)


def _duration(least: float, most: float, why: str = "") -> PlainValidator:
    def read(text: str) -> float:
        seconds = units.duration(text)
        if not least <= seconds <= most:
            bounds = f"{units.show_duration(least)} to {units.show_duration(most)}"
            raise WrongValueError(f"out of range{why if seconds > most else ''}", f"Write a duration from {bounds}.")
        return seconds

    return _reader(read, units.DURATION_REMEDY)


def _ready(text: str) -> float:
    seconds = units.duration(text)
    if seconds >= _MINUTE:
        raise WrongValueError("too long: Octopus gives up after 60s", "Write less than 60s; 45s is the default.")
    if seconds == 0:
        raise WrongValueError("out of range", "Write more than 0s and less than 60s; 45s is the default.")
    return seconds


_THUMBPRINTS_REMEDY = f"{ThumbprintError.remedy} Several go into a list."
_MILLISECOND = 0.001

Name = Annotated[str, _reader(_name, _NAME_REMEDY)]
Names = Annotated[tuple[Name, ...], _list("Write a list of names from the section octopus."), AfterValidator(_no_repeats)]
Pin = Annotated[Thumbprint, _reader(_thumbprint, ThumbprintError.remedy)]
Pins = Annotated[tuple[Pin, ...], _list(_THUMBPRINTS_REMEDY), AfterValidator(_no_repeats)]
FilePath = Annotated[Path, _reader(_path, _PATH_REMEDY)]


class Section(BaseModel):
    """A mapping in the file. A key that is not declared is a mistake; `model_fields_set` has the keys that were given.

    `examples` of a field is what a message about a missing one shows.
    """

    # Assignments are validated for the sake of reading.py, which fills a section key by key when some are wrong.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_assignment=True)


class LimitsSection(Section):
    connections: Annotated[int | None, _count(10_000)] = None
    envelope: Annotated[int | None, _size(_MAX_ENVELOPE)] = None


_LATE_BACK = ": a Tentacle drops a connection that is idle for 1 minute, and a call may be lost to it"
_LATE_FRONT = ": Octopus drops a connection that is idle for 9 minutes"


class TimeoutsSection(Section):
    ready: Annotated[float | None, _reader(_ready, units.DURATION_REMEDY)] = None
    connect: Annotated[float | None, _duration(_MILLISECOND, _MINUTE)] = None
    prove: Annotated[float | None, _duration(_MILLISECOND, _MINUTE)] = None
    back_idle: Annotated[float | None, _duration(_MILLISECOND, 55.0, _LATE_BACK)] = None
    front_idle: Annotated[float | None, _duration(1.0, _HOUR, _LATE_FRONT)] = None


class RelayLimitsSection(Section):
    connections: Annotated[int | None, _count(1_000_000)] = None
    handshakes: Annotated[int | None, _count(1_000_000)] = None


class RelayTimeoutsSection(Section):
    client_hello: Annotated[float | None, _duration(_MILLISECOND, _MINUTE)] = None
    identify: Annotated[float | None, _duration(_MILLISECOND, _MINUTE)] = None
    drain: Annotated[float | None, _duration(0.0, _HOUR)] = None


class RelaySection(Section):
    name: Annotated[Name, Field(examples=["dc-east"])]
    state: Annotated[FilePath, Field(examples=["/var/lib/relay-tentacle"])]
    access_log: FilePath = Path("-")
    log_level: Annotated[str, _reader(_log_level, f"Write one of {', '.join(LOG_LEVELS)}.")] = "info"
    limits: RelayLimitsSection = RelayLimitsSection()
    timeouts: RelayTimeoutsSection = RelayTimeoutsSection()


class OctopusSection(Section):
    name: Annotated[Name, Field(examples=["production"])]
    thumbprints: Pins = ()
    thumbprint: Pins = ()
    identity: Annotated[Path | None, _reader(_path, _PATH_REMEDY)] = None


class MachineSection(Section):
    name: Annotated[Name, Field(examples=["web01"])]
    tentacle: Annotated[
        Address,
        _reader(addresses.tentacle, addresses.TENTACLE_REMEDY),
        Field(examples=["https://web01.internal:10933"]),
    ]
    thumbprint: Pins = ()
    thumbprints: Pins = ()
    octopus: Names = ()
    port: Annotated[Address, _reader(addresses.door, addresses.DOOR_REMEDY), Field(examples=["11001"])]
    identity: Annotated[Path | None, _reader(_path, _PATH_REMEDY)] = None
    limits: LimitsSection = LimitsSection()
    timeouts: TimeoutsSection = TimeoutsSection()


class DefaultsSection(Section):
    limits: LimitsSection = LimitsSection()
    timeouts: TimeoutsSection = TimeoutsSection()


class Configuration(Section):
    version: Annotated[int, _reader(_version, "Write version: 1.")] = 1
    relay: Annotated[RelaySection, Field(examples=["{name: dc-east, state: /var/lib/relay-tentacle}"])]
    octopus: Annotated[list[OctopusSection], Field(examples=["[{name: production, thumbprints: [...]}]"])]
    machines: Annotated[
        list[MachineSection],
        Field(examples=["[{name: web01, tentacle: 'https://...', thumbprint: ..., port: 11001}]"]),
    ]
    defaults: DefaultsSection = DefaultsSection()
