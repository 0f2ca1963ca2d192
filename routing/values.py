"""The kinds of values in a configuration: how each is read, and what the JSON schema says of it.

Values come as the text that was written (see yaml_lines). A reader raises WrongValueError, which carries what to write
instead. Editors know other types than text: what looks like a number is one to them, so their schema allows both.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from certs.passwords import PasswordFile, PasswordSource, parse_source
from certs.thumbprint import Thumbprint, ThumbprintError
from routing import addresses, rule_values, subscriptions, targets, units
from routing.addresses import Address
from routing.mistakes import WrongValueError
from routing.rules import Network

T = TypeVar("T")

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
# Names become file names: see IdentityStore.
_NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_NAME = re.compile(_NAME_PATTERN)
_NAME_REMEDY = "Write up to 64 letters, digits, dots, dashes and underscores, and no dot or dash in front."
_PATH_REMEDY = "Write a path; a relative one starts at the folder of this file."
_SOURCE_REMEDY = "Write the path of a file whose first line is the password, or credential:NAME, which systemd hands over."
POLLING: Final = "polling"
_FRONT_REMEDY = f"Write {POLLING}, or leave it out: Octopus then dials the machine's port or host."
_SWITCH_REMEDY = "Write true or false."
_LEVEL_REMEDY = f"Write one of {', '.join(LOG_LEVELS)}."
_THUMBPRINTS_REMEDY = f"{ThumbprintError.remedy} Several go into a list."
_INCLUDE_REMEDY = "Write a file or a pattern, such as machines.d/*.yaml; several go into a list."
# What may stand between the digits: as Thumbprint.parse has it.
_BETWEEN = "[\\s:\\-\u200b\u200e\u200f\ufeff]*"
_THUMBPRINT_PATTERN = f"{_BETWEEN}(?:(?:[0-9A-Fa-f]{_BETWEEN}){{40}}|(?:[0-9A-Fa-f]{_BETWEEN}){{64}})"
_SWITCH: Final = {"true": True, "false": False}
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_MAX_PATH = 4096
MILLISECOND: Final = 0.001
MINUTE: Final = 60.0
HOUR: Final = 3600.0


@dataclass(frozen=True)
class Reader:
    """Reads one value: a pydantic annotation. kind: what to write there, for editors and for the reference."""

    read: Callable[[str], object]
    remedy: str
    kind: str
    schema: dict[str, Any] = field(hash=False)

    def validate(self, value: object) -> object:
        """Raises WrongValueError."""
        if value is None:
            raise WrongValueError("empty", self.remedy)
        if not isinstance(value, str):
            problem = f"{'a list' if isinstance(value, list) else 'a mapping'} where one value belongs"
            raise WrongValueError(problem, self.remedy)
        return self.read(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"title": self.kind, **self.schema}


def text(pattern: str, *more: str, **bounds: int) -> dict[str, Any]:
    """The JSON schema of a text that is all of this pattern; `more`: other types that it is to those who see no text."""
    return {"type": ["string", *more] if more else "string", "pattern": f"^(?:{pattern})$", **bounds}


def count(most: int) -> Reader:
    """A whole number from 1 on."""

    def read(text: str) -> int:
        number = units.count(text)
        if not 1 <= number <= most:
            raise WrongValueError("out of range", f"Write a number from 1 to {most}.")
        return number

    return Reader(read, units.COUNT_REMEDY, f"1 to {most}", text(units.COUNT_PATTERN, "integer", minimum=1, maximum=most))


def size(most: int) -> Reader:
    """Bytes, from 1 on."""

    def read(text: str) -> int:
        number = units.size(text)
        if not 1 <= number <= most:
            raise WrongValueError("out of range", f"Write a size from 1 to {most} bytes.")
        return number

    schema = text(units.SIZE_PATTERN, "integer", minimum=1, maximum=most)
    return Reader(read, units.SIZE_REMEDY, f"1 to {most} bytes", schema)


def duration(least: float, most: float, why: str = "") -> Reader:
    """Seconds. why: is said of one that is too long."""
    bounds = f"{units.show_duration(least)} to {units.show_duration(most)}"

    def read(text: str) -> float:
        seconds = units.duration(text)
        if not least <= seconds <= most:
            raise WrongValueError(f"out of range{why if seconds > most else ''}", f"Write a duration from {bounds}.")
        return seconds

    return Reader(read, units.DURATION_REMEDY, bounds, text(units.DURATION_PATTERN))


def _ready(text: str) -> float:
    seconds = units.duration(text)
    if seconds >= MINUTE:
        raise WrongValueError("too long: Octopus gives up after 60s", "Write less than 60s; 45s is the default.")
    if seconds == 0:
        raise WrongValueError("out of range", "Write more than 0s and less than 60s; 45s is the default.")
    return seconds


def name(text: str) -> str:
    """The name of a relay, machine or octopus entry. Raises WrongValueError."""
    if not _NAME.fullmatch(text):
        raise WrongValueError("not a name", _NAME_REMEDY)
    return text


def path(text: str) -> Path:
    """A path, as it may stand in a configuration. Raises WrongValueError."""
    if not text or len(text) > _MAX_PATH or _CONTROL.search(text):
        raise WrongValueError("not a path", _PATH_REMEDY)
    if text.startswith("~"):
        raise WrongValueError("'~' is not expanded", "Write the whole path.")
    return Path(text)


def _pattern(text: str) -> str:
    return str(path(text))


def _password(text: str) -> PasswordSource:
    try:
        source = parse_source(text)
    except ValueError as error:
        raise WrongValueError(str(error).partition(":")[0], _SOURCE_REMEDY) from None
    return PasswordFile(path(text)) if isinstance(source, PasswordFile) else source


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
        raise WrongValueError("not a log level", _LEVEL_REMEDY)
    return text


def _tentacle(text: str) -> Address | str:
    """An address, or a subscription id."""
    return subscriptions.subscription(text) if text[:5].lower() == "poll:" else addresses.tentacle(text)


def _front_style(text: str) -> str:
    if text != POLLING:
        raise WrongValueError("not a way in for Octopus", _FRONT_REMEDY)
    return text


def _switch(text: str) -> bool:
    """As YAML writes it: the values come as text."""
    if text.lower() not in _SWITCH:
        raise WrongValueError("neither true nor false", _SWITCH_REMEDY)
    return _SWITCH[text.lower()]


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
    seen: set[T] = set()
    for value in values:
        if value in seen:
            raise WrongValueError(f"{value} stands in the list twice", "Keep one of them.")
        seen.add(value)
    return values


def _one_or_several(kind: str, item: Reader) -> WithJsonSchema:
    one = {key: value for key, value in item.schema.items() if key != "title"}
    several = {"type": "array", "minItems": 1, "uniqueItems": True, "items": one}
    return WithJsonSchema({"title": kind, "anyOf": [one, several]})


_PATH_SCHEMA = text("[^~\\u0000-\\u001f\\u007f][^\\u0000-\\u001f\\u007f]*", "number", maxLength=_MAX_PATH)
_NAME_READER = Reader(name, _NAME_REMEDY, "a name", text(_NAME_PATTERN, "number"))
_PIN_READER = Reader(_thumbprint, ThumbprintError.remedy, "a thumbprint", text(_THUMBPRINT_PATTERN, "number"))
_PATH_READER = Reader(path, _PATH_REMEDY, "a path", _PATH_SCHEMA)
_PATTERN_READER = Reader(_pattern, _INCLUDE_REMEDY, "a pattern", _PATH_SCHEMA)

Name = Annotated[str, _NAME_READER]
OptionalName = Annotated[str | None, _NAME_READER]
Names = Annotated[
    tuple[Name, ...],
    _list("Write a list of names from the section octopus."),
    AfterValidator(_no_repeats),
    _one_or_several("names of octopus entries", _NAME_READER),
]
Pin = Annotated[Thumbprint, _PIN_READER]
Pins = Annotated[
    tuple[Pin, ...],
    _list(_THUMBPRINTS_REMEDY),
    AfterValidator(_no_repeats),
    _one_or_several("one or several thumbprints", _PIN_READER),
]
FilePath = Annotated[Path, _PATH_READER]
OptionalPath = Annotated[Path | None, _PATH_READER]
OptionalPassword = Annotated[
    PasswordSource | None, Reader(_password, _SOURCE_REMEDY, "a path, or `credential:NAME`", _PATH_SCHEMA)
]
Pattern = Annotated[str, _PATTERN_READER]
Patterns = Annotated[
    tuple[Pattern, ...],
    _list(_INCLUDE_REMEDY),
    AfterValidator(_no_repeats),
    _one_or_several("one or several files or patterns", _PATTERN_READER),
]
Version = Annotated[int, Reader(_version, "Write version: 1.", "1", {"enum": [1, "1"]})]
LogLevel = Annotated[
    str, Reader(_log_level, _LEVEL_REMEDY, ", ".join(LOG_LEVELS), {"type": "string", "enum": list(LOG_LEVELS)})
]
TentacleAddress = Annotated[
    Address | str,
    Reader(
        _tentacle,
        addresses.TENTACLE_REMEDY,
        "`https://HOST:PORT` or `poll://ID/`",
        text(f"{addresses.TENTACLE_PATTERN}|{subscriptions.PATTERN}"),
    ),
]
OptionalSubscription = Annotated[
    str | None, Reader(subscriptions.subscription, subscriptions.REMEDY, "`poll://ID/`", text(subscriptions.PATTERN))
]
_NODE_READER = Reader(addresses.node, addresses.NODE_REMEDY, "`https://HOST:PORT`", text(addresses.TENTACLE_PATTERN))
Nodes = Annotated[
    tuple[Annotated[Address, _NODE_READER], ...],
    _list(f"{addresses.NODE_REMEDY} Several go into a list."),
    AfterValidator(_no_repeats),
    _one_or_several("`https://HOST:PORT`, one or several", _NODE_READER),
]
OptionalProxy = Annotated[
    Address | None, Reader(addresses.proxy, addresses.PROXY_REMEDY, "`http://HOST:PORT`", text(addresses.PROXY_PATTERN))
]
FrontStyle = Annotated[
    str | None,
    Reader(_front_style, _FRONT_REMEDY, f"`{POLLING}`", {"type": "string", "enum": [POLLING]}),
]
_DOOR_READER = Reader(
    addresses.door,
    addresses.DOOR_REMEDY,
    "a port, or an IP address and a port",
    text(addresses.DOOR_PATTERN, "integer", minimum=1, maximum=65535),
)
Door = Annotated[Address, _DOOR_READER]
OptionalDoor = Annotated[Address | None, _DOOR_READER]
AdminDoor = Annotated[
    Address | None,
    Reader(
        addresses.admin_door,
        addresses.ADMIN_REMEDY,
        "a port, an IP address and a port, or `none`",
        text(f"{addresses.NO_DOOR}|{addresses.DOOR_PATTERN}", "integer", minimum=1, maximum=65535),
    ),
]
ServerName = Annotated[
    str | None, Reader(addresses.server_name, addresses.HOST_REMEDY, "a host name", text(addresses.HOST_PATTERN))
]
OptionalContact = Annotated[
    str | None,
    Reader(
        rule_values.contact,
        rule_values.CONTACT_REMEDY,
        "a line of text",
        text(rule_values.CONTACT_PATTERN, "number", maxLength=200),
    ),
]
_WORD_READER = Reader(rule_values.word, rule_values.WORD_REMEDY, "a set, a service or a method", text(rule_values.WORD_PATTERN))
WORD_SCHEMA: Final[dict[str, Any]] = {"title": _WORD_READER.kind, **_WORD_READER.schema}
Words = Annotated[
    tuple[Annotated[str, _WORD_READER], ...],
    _list(f"{rule_values.WORD_REMEDY} Several go into a list."),
    AfterValidator(_no_repeats),
    _one_or_several("sets, services and methods, one or several", _WORD_READER),
]
_NETWORK_READER = Reader(
    rule_values.network, rule_values.NETWORK_REMEDY, "an IP address or network", text(rule_values.NETWORK_PATTERN)
)
Networks = Annotated[
    tuple[Annotated[Network, _NETWORK_READER], ...],
    _list(f"{rule_values.NETWORK_REMEDY} Several go into a list."),
    AfterValidator(_no_repeats),
    _one_or_several("IP addresses and networks, one or several", _NETWORK_READER),
]
Switch = Annotated[
    bool, Reader(_switch, _SWITCH_REMEDY, "true or false", text("[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]", "boolean"))
]
OptionalTarget = Annotated[
    Address | None, Reader(targets.optional_target, targets.REMEDY, "`HOST:PORT`, or `none`", text(targets.PATTERN))
]
Ready = Annotated[
    float | None, Reader(_ready, units.DURATION_REMEDY, "more than 0s, less than 60s", text(units.DURATION_PATTERN))
]
