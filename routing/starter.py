"""The files of a new site: a commented configuration, the schemas that editors use, and a folder for machines."""

import errno
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certs.thumbprint import Thumbprint
from routing import json_schema

MAIN_SCHEMA: Final = "relay.schema.json"
MACHINES_SCHEMA: Final = "machines.schema.json"
MACHINES_FOLDER: Final = "machines.d"
_PLAIN = re.compile(r"[A-Za-z0-9/.](?:[A-Za-z0-9/._:-]*[A-Za-z0-9/._-])?")
_WORDS = ("null", "true", "false", "yes", "no", "on", "off")  # which mean something to some reader of YAML
EXAMPLE: Final = "web01.yaml.example"  # which the pattern *.yaml does not mean

_MAIN = """\
# yaml-language-server: $schema={schema}
#
# The configuration of a relay. The line above lets editors complete and check this file.
# After each change: relay-tentacle check --config {file}
{fill_in}
version: 1

relay:
  name: {name}  # in every line of the logs
  state: {state}  # the folder of the relay's identities; back it up
  # access_log: /var/log/relay-tentacle/access.jsonl  # instead of standard output
  # log_level: info  # debug, info, warning, error

# The Octopus servers that may call. Everybody else is refused.
octopus:
  - name: {octopus}
    # In Octopus: Configuration, Thumbprint. Several go into a list, while a certificate is being replaced.
    {thumbprints}

# The door that machines share: each is called by its own host name, or by CONNECT. Without it, each needs a port of its own.
{front}

# The machines, in files of their own: see {folder}/{example}.
include: {folder}/*.yaml

# Limits and timeouts of every machine that does not say otherwise; these are the built-in ones.
# defaults:
#   limits: {{connections: 10, envelope: 256MiB}}
#   timeouts: {{ready: 45s, connect: 20s, prove: 5s, back_idle: 50s, front_idle: 10m}}

# Metrics and health; `none` switches them off.
admin:
  listen: {admin}
"""

_FILL_IN = "# One value is missing: the line marked FILL IN.\n"
_NO_THUMBPRINT = "thumbprint:  # FILL IN: 40 hexadecimal digits"

_MACHINE = """\
# yaml-language-server: $schema=../{schema}
#
# Copy this file to web01.yaml, or any other name that ends with .yaml, and change it: every such file here is read, and may
# have any number of machines. This one is not read.

machines:
  - name: web01
    tentacle: https://web01.internal:10933  # where the Tentacle listens
    thumbprint: 54C0A1B2C3D4E5F60718293A4B5C6D7E8F90219D  # on the machine: Tentacle.exe show-thumbprint
    octopus: [{octopus}]  # who may call it
    {port}port: 11001  # a door of its own: https://THIS-HOST:11001 in Octopus
    {host}host: web01.relay.corp  # its name at front.listen, which must lead to this host; instead of a port, or beside it
    # limits: {{connections: 5}}
"""


class SiteExistsError(Exception):
    """Some of the files are there already, and nothing was written. paths: those."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)
        super().__init__(", ".join(map(str, self.paths)))


@dataclass(frozen=True, slots=True)
class Choices:
    """What a new configuration says. front: the shared door as it is written, None for none. admin: likewise.

    thumbprints: of the Octopus; none leaves a line to fill in. All texts are what a configuration may say there.
    """

    name: str
    state: Path
    octopus: str
    thumbprints: tuple[Thumbprint, ...]
    front: str | None
    admin: str


def files(path: Path, choices: Choices) -> dict[Path, str]:
    """The files of a site whose main file is `path`, with their contents; the main file is the last."""
    known = ", ".join(map(str, choices.thumbprints))
    front, connect = ("", "  # ") if choices.front else ("# ", "#   ")
    main = _MAIN.format(
        schema=MAIN_SCHEMA,
        file=path,
        fill_in="" if choices.thumbprints else _FILL_IN,
        name=_scalar(choices.name),
        state=_scalar(str(choices.state)),
        octopus=_scalar(choices.octopus),
        thumbprints=f"thumbprints: [{known}]" if known else _NO_THUMBPRINT,
        front=f"{front}front:\n{front}  listen: {_scalar(choices.front or '10933')}\n"
        f"{connect}connect: true  # it is a proxy for Octopus, too: no machine needs a name or a port",
        folder=MACHINES_FOLDER,
        example=EXAMPLE,
        admin=_scalar(choices.admin),
    )
    folder = path.parent
    return {
        folder / MAIN_SCHEMA: _json(json_schema.main_file()),
        folder / MACHINES_SCHEMA: _json(json_schema.machines_file()),
        folder / MACHINES_FOLDER / EXAMPLE: _MACHINE.format(
            schema=MACHINES_SCHEMA,
            octopus=_scalar(choices.octopus),
            port="# " if choices.front else "",
            host="" if choices.front else "# ",
        ),
        path: main,
    }


def write(contents: dict[Path, str]) -> None:
    """Writes new files, and the folders that they need, all of them or none. Never overwrites.

    Raises SiteExistsError, or OSError where something cannot be written.
    """
    there = [path for path in contents if os.path.lexists(path)]
    if there:
        raise SiteExistsError(there)
    made: list[Path] = []
    try:
        for path, text in contents.items():
            _make_folder(path.parent, made)
            _write_new(path, text)
            made.append(path)
    except BaseException as error:
        for path in reversed(made):
            _take_back(path)
        if isinstance(error, FileExistsError):  # somebody else was as quick
            raise SiteExistsError([Path(error.filename2 or error.filename)]) from error
        raise


def _take_back(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    try:
        path.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # somebody else has put something there: it stays
            raise


def _make_folder(folder: Path, made: list[Path]) -> None:
    try:
        folder.mkdir(mode=0o755)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        made.append(folder)


def _write_new(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)  # unlike a rename, a link never replaces
    finally:
        temporary.unlink(missing_ok=True)


def _json(schema: dict[str, object]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=True) + "\n"


def _scalar(text: str) -> str:
    """The text as a YAML value: in quotes unless it can mean nothing else without them."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text)
