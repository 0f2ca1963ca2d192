"""What may stand under `allow`: a list of items, each a word for services or a mapping (see rules.py)."""

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, GetJsonSchemaHandler, create_model, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from routing import values
from routing.mistakes import WrongValueError
from routing.sections import Section, about

_ITEM_REMEDY: Final = "Write a word for services, such as scripts, or a mapping with octopus, from or services."


class _AllowItem(Section):
    """A word stands for a mapping with nothing but that word."""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: object) -> object:
        if value == {}:
            raise WrongValueError("says nothing", _ITEM_REMEDY)
        return {"services": value} if isinstance(value, str) else value


_OCTOPUS = Annotated[
    values.Names,
    about("Whom it lets in: names of octopus entries. Left out: every one that the machine has.", "production"),
]
_FROM = Annotated[
    values.Networks,
    about(
        "Where it lets them in from: IP addresses and networks, as the relay sees callers; IPv4 callers are the same over "
        "IPv6. Left out: anywhere. Octopus nodes that the relay polls come from nowhere.",
        "10.20.0.0/16",
        ["10.20.0.0/16", "2001:db8:20::/48"],
    ),
]
_SERVICES = Annotated[
    values.Words,
    about(
        "What it lets them call: `capabilities`, `scripts`, `files`, `all`, a service, or one method of one. Left out: `all`.",
        "scripts",
        ["capabilities", "IScriptServiceV2.GetStatus"],
    ),
]

# Written as a class it could not have a field with the name `from`.
_FIELDS: Final[dict[str, Any]] = {"octopus": (_OCTOPUS, ()), "from": (_FROM, ()), "services": (_SERVICES, ())}
AllowSection: Final[type[Section]] = create_model("AllowSection", __base__=_AllowItem, __module__=__name__, **_FIELDS)


class _OneItem(BeforeValidator):
    """One item is a list of one; that, and a word for an item, stand in the JSON schema too."""

    def __init__(self) -> None:
        super().__init__(self._listed)

    @staticmethod
    def _listed(value: object) -> object:
        if value in (None, []):
            raise WrongValueError("empty", "Write what is allowed; or leave the key out, where everything is.")
        return [value] if isinstance(value, str | dict) else value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        several = handler(schema)
        item = {"anyOf": [values.WORD_SCHEMA, several["items"]]}
        return {"anyOf": [*item["anyOf"], {"type": "array", "minItems": 1, "items": item}], "title": "items, one or several"}


Allow = Annotated[tuple[AllowSection, ...], _OneItem()]  # type: ignore[valid-type]
