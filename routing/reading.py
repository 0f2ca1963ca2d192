"""From a YAML document to the models of schema.py: every mistake at its line, and what is right in spite of them.

Where a section has mistakes, its good keys are kept, so that the checks across sections still see them and all mistakes
of a file come out in one go.
"""

import difflib
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from routing.mistakes import Mistake, WrongValueError
from routing.schema import Configuration, MachinesFile
from routing.sections import Section
from routing.yaml_lines import Document, Key

S = TypeVar("S", bound=Section)

# Longer than any key: more of a wrong one is not worth comparing.
_MAX_KEY = 60
_LIST_REMEDY = "Write a list: each item on a line of its own, after '- '."
# What other programs call these.
_OTHER_WORDS: Final = {
    "access_logs": "access_log",
    "acl": "allow",
    "address": "tentacle",
    "door": "port",
    "fingerprint": "thumbprint",
    "fingerprints": "thumbprints",
    "hostname": "host",
    "listen": "port",
    "metrics": "admin",
    "networks": "from",
    "rules": "allow",
    "servers": "octopus",
    "sni": "host",
    "sources": "from",
    "targets": "machines",
    "tentacles": "machines",
    "uri": "tentacle",
    "url": "tentacle",
    "workers": "machines",
}


def read(document: Document) -> tuple[Configuration, list[Mistake]]:
    """The configuration in a main file, and the mistakes in its single values and keys.

    With mistakes, it has only the keys that are right: look at `model_fields_set` before reading a key without default.
    Items of the lists `octopus` and `machines` keep their index.
    """
    return _read(Configuration, document, "Write the sections relay, octopus and machines.")


def read_machines(document: Document) -> tuple[MachinesFile, list[Mistake]]:
    """The same of an included file."""
    return _read(MachinesFile, document, "Write machines: and the list below it, or machines: [] for none.")


def _read(model: type[S], document: Document, remedy: str) -> tuple[S, list[Mistake]]:
    data = document.data
    if not isinstance(data, dict):
        kind = "empty" if data is None else "a list" if isinstance(data, list) else "a single value"
        problem = f"the file is {kind}" if data is None else f"the file is {kind} where keys belong"
        return _good_parts(model, {}, []), [document.mistake((), problem, remedy)]
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    return _good_parts(model, data, details), [_mistake(model, document, detail) for detail in details]


def _good_parts(model: type[S], data: dict[str, object], details: list[ErrorDetails]) -> S:
    """What is right in a document: its sections, and those in its lists, each with its right keys only."""
    bad: dict[Key, set[str | int]] = defaultdict(set)
    for detail in details:
        for end in range(len(detail["loc"])):
            bad[detail["loc"][:end]].add(detail["loc"][end])
    found = model.model_construct(_fields_set=set())
    for name in model.model_fields:
        kind, value = _kind(model, name), data.get(name)
        if kind is None:
            if name in data and name not in bad[()]:
                setattr(found, name, value)
        elif _is_list(model, name):
            items = value if isinstance(value, list) else []
            setattr(found, name, [_good_keys(kind, item, bad[name, index]) for index, item in enumerate(items)])
        else:
            setattr(found, name, _good_keys(kind, value, bad[name,]))
    return found


def _good_keys(model: type[Section], item: object, bad: set[str | int]) -> Section:
    section = model.model_construct(_fields_set=set())
    for key, value in item.items() if isinstance(item, dict) else ():
        if key in model.model_fields and key not in bad:
            setattr(section, key, value)
    return section


def _mistake(model: type[Section], document: Document, detail: ErrorDetails) -> Mistake:
    key = detail["loc"]
    kind = detail["type"]
    if kind == "missing":
        return document.mistake(key, "missing", f"Add {key[-1]}: {_example(_section(model, key[:-1]), str(key[-1]))}")
    if kind == "extra_forbidden":
        return document.mistake(key, "unknown key", _known(model, key))
    # What a list was made of stands at the line of the value it was made from, and is named like it.
    key = document.known(key)
    value = detail["input"] if isinstance(detail["input"], str) else None
    wrong = detail.get("ctx", {}).get("error")
    if isinstance(wrong, WrongValueError):
        return document.mistake(key, wrong.problem, wrong.remedy, value)
    empty = detail["input"] is None
    if kind in ("list_type", "tuple_type"):
        return document.mistake(key, "empty" if empty else "not a list", _LIST_REMEDY, value)
    known = ", ".join(_section(model, key).model_fields)
    remedy = f"Write keys and values below it, each on a line of its own: {known}."
    return document.mistake(key, "empty" if empty else "not a mapping", remedy, value)


# ---- what the models know -------------------------------------------------------------------------------------------------


def _section(model: type[Section], key: Key) -> type[Section]:
    """The model of the section at this key."""
    for part in key:
        if isinstance(part, str):
            kind = _kind(model, part)
            assert kind
            model = kind
    return model


def _kind(model: type[Section], name: str) -> type[Section] | None:
    """The model of the section at this key, or of those in its list; None where a value belongs."""
    annotation = model.model_fields[name].annotation
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def _is_list(model: type[Section], name: str) -> bool:
    return bool(get_args(model.model_fields[name].annotation))


def _example(model: type[Section], name: str) -> str:
    examples = model.model_fields[name].examples or []
    return _flow(examples[0])


def _flow(value: object) -> str:
    """A value as YAML has it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(_flow, value)) + "]" if isinstance(value, list) else str(value)


def _known(root: type[Section], key: Key) -> str:
    """What to write instead of a key that nobody knows."""
    model, written = _section(root, key[:-1]), str(key[-1])[:_MAX_KEY]
    if root is MachinesFile and len(key) == 1 and written in Configuration.model_fields:
        return "Only the main file has this section: move it there. Known here: machines."
    plain = written.lower().replace("-", "_")
    known = list(model.model_fields)
    deeper = [path for path in _deeper(model) if path.rpartition(".")[2] == plain]
    if len(deeper) == 1:
        return f"Did you mean {deeper[0]}?"
    if _OTHER_WORDS.get(plain) in known:
        return f"Did you mean {_OTHER_WORDS[plain]}?"
    squeezed = {name.replace("_", ""): name for name in known}
    near = difflib.get_close_matches(plain.replace("_", ""), squeezed, n=1)
    return f"Did you mean {squeezed[near[0]]}?" if near else f"Known here: {', '.join(known)}."


def _deeper(model: type[Section]) -> Iterator[str]:
    """The keys of the sections in this one: timeouts.ready, machines[].port."""
    for name in model.model_fields:
        kind = _kind(model, name)
        if kind is not None:
            mark = "[]" if _is_list(model, name) else ""
            for path in (*kind.model_fields, *_deeper(kind)):
                yield f"{name}{mark}.{path}"
