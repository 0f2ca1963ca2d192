"""What all sections of a configuration file have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def about(
    description: str,
    *examples: object,
    default: str | int | None = None,
    absent: "Section | None" = None,
    **more: Any,
) -> Any:
    """What a field means. examples: the first is what a message about a missing one shows. default: as it is written.

    absent: what a section is that is left out, one for all: nobody changes it. more: what the JSON schema says besides, and
    checks.py checks.
    """
    if default is not None:
        more["default"] = default
    shared: dict[str, Any] = {} if absent is None else {"default_factory": lambda: absent}
    return Field(description=description, examples=list(examples) or None, json_schema_extra=more, **shared)


class Section(BaseModel):
    """A mapping in the file. A key that is not declared is a mistake; `model_fields_set` has the keys that were given."""

    # Assignments are validated for the sake of reading.py, which fills a section key by key when some are wrong.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, validate_assignment=True)
