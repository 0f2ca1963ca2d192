"""From a YAML document to the models of schema.py: every mistake at its line, and what is right in spite of them.

Where a section has mistakes, its good keys are kept, so that the checks across sections still see them and all mistakes
of a file come out in one go.
"""

import difflib
from collections import defaultdict
from typing import TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from routing.mistakes import Mistake, WrongValueError
from routing.schema import Configuration, DefaultsSection, MachineSection, OctopusSection, RelaySection, Section
from routing.yaml_lines import Document, Key

S = TypeVar("S", bound=Section)

# Longer than any key: more of a wrong one is not worth comparing.
_MAX_KEY = 60


def read(document: Document) -> tuple[Configuration, list[Mistake]]:
    """The configuration, and the mistakes in single values and keys.

    With mistakes, it has only the keys that are right: look at `model_fields_set` before reading a key without default.
    Items of the lists `octopus` and `machines` keep their index.
    """
    data = document.data
    if not isinstance(data, dict):
        kind = "empty" if data is None else "a list" if isinstance(data, list) else "a single value"
        problem = f"the file is {kind}" if data is None else f"the file is {kind} where keys belong"
        remedy = "Write the sections relay, octopus and machines."
        return _good_parts({}, []), [document.mistake((), problem, remedy)]
    try:
        return Configuration.model_validate(data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    return _good_parts(data, details), [_mistake(document, detail) for detail in details]


def _good_parts(data: dict[str, object], details: list[ErrorDetails]) -> Configuration:
    bad: dict[Key, set[str | int]] = defaultdict(set)
    for detail in details:
        for end in range(len(detail["loc"])):
            bad[detail["loc"][:end]].add(detail["loc"][end])
    octopus, machines = data.get("octopus"), data.get("machines")
    return Configuration.model_construct(
        relay=_good_keys(RelaySection, data.get("relay"), bad["relay",]),
        octopus=[
            _good_keys(OctopusSection, item, bad["octopus", index])
            for index, item in enumerate(octopus if isinstance(octopus, list) else [])
        ],
        machines=[
            _good_keys(MachineSection, item, bad["machines", index])
            for index, item in enumerate(machines if isinstance(machines, list) else [])
        ],
        defaults=_good_keys(DefaultsSection, data.get("defaults"), bad["defaults",]),
    )


def _good_keys(model: type[S], item: object, bad: set[str | int]) -> S:
    section = model.model_construct(_fields_set=set())
    for key, value in item.items() if isinstance(item, dict) else ():
        if key in model.model_fields and key not in bad:
            setattr(section, key, value)
    return section


def _mistake(document: Document, detail: ErrorDetails) -> Mistake:
    key = detail["loc"]
    kind = detail["type"]
    if kind == "missing":
        return document.mistake(key, "missing", f"Add {key[-1]}: {_example(key)}")
    if kind == "extra_forbidden":
        return document.mistake(key, "unknown key", _nearest(str(key[-1]), list(_section(key[:-1]).model_fields)))
    # What a list was made of stands at the line of the value it was made from, and is named like it.
    key = document.known(key)
    value = detail["input"] if isinstance(detail["input"], str) else None
    wrong = detail.get("ctx", {}).get("error")
    if isinstance(wrong, WrongValueError):
        return document.mistake(key, wrong.problem, wrong.remedy, value)
    empty = detail["input"] is None
    if kind in ("list_type", "tuple_type"):
        problem = "empty" if empty else "not a list"
        return document.mistake(key, problem, "Write a list: each item on a line of its own, after '- '.", value)
    problem = "empty" if empty else "not a mapping"
    known = ", ".join(_section(key).model_fields)
    return document.mistake(key, problem, f"Write keys and values below it, each on a line of its own: {known}.", value)


def _section(key: Key) -> type[Section]:
    """The model of the section at this key."""
    model: type[Section] = Configuration
    for part in key:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next(kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
    return model


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _example(key: Key) -> str:
    examples = _section(key[:-1]).model_fields[str(key[-1])].examples or []
    return str(examples[0])


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key[:_MAX_KEY].lower(), known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."
