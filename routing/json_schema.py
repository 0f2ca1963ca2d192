"""The JSON schemas (draft 2020-12) of the two kinds of files, for editors and for whoever makes such files.

They are made from the models, whose descriptions they share. They know single values and keys, and not what values must be
together: `check` does.
"""

from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from routing.schema import Configuration, MachinesFile
from routing.sections import Section

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Titles say what to write and come from values.py; defaults are those that the fields give as they are written."""

    schema_dialect = DIALECT

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        for name in ("title", "description"):  # the name of the class, and its docstring
            found.pop(name, None)
        return found


def main_file() -> dict[str, Any]:
    """The schema of the main file."""
    return _schema(Configuration, "relay-tentacle: the configuration of a relay")


def machines_file() -> dict[str, Any]:
    """The schema of an included file."""
    return _schema(MachinesFile, "relay-tentacle: machines, as the configuration of a relay includes them")


def _schema(model: type[Section], title: str) -> dict[str, Any]:
    schema = model.model_json_schema(schema_generator=_Generator)
    return {"$schema": DIALECT, "title": title, **schema}
