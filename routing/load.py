"""From a configuration file, and those that it includes, to a routing table, or to all of their mistakes."""

from pathlib import Path

from certs.passwords import PasswordFile
from certs.store import Provisioned
from routing import (
    checks,
    connect_checks,
    door_checks,
    files,
    passthrough_checks,
    polling_checks,
    reading,
    rule_checks,
    targets,
    yaml_lines,
)
from routing.addresses import Address
from routing.entries import Declaration, Entry
from routing.merging import limits, octopus_limits, pins, relay_limits, relay_timeouts, timeouts
from routing.mistakes import ConfigurationError, WrongValueError
from routing.rule_merging import rules
from routing.rules import Rules
from routing.schema import Configuration, FrontSection, MachineSection, OctopusSection
from routing.table import NODE_CONNECTIONS, NOWHERE, ConnectDoor, HttpProxy, Machine, Octopus, Relay, RelayLimits, Table
from routing.values import POLLING


def load(path: Path) -> Table:
    """The table of this file. Raises ConfigurationError with every mistake in it, and in the files that it includes.

    Reads no other files: those that it names may be missing. Relative paths start at the folder of this file, in included
    files too; '~' means nothing. It blocks while it reads, and may run in any thread.
    """
    declared = _read(path)
    rooms = (checks, door_checks, connect_checks, polling_checks, passthrough_checks, rule_checks)
    mistakes = [*declared.mistakes, *(mistake for room in rooms for mistake in room.check(declared))]
    if mistakes:
        raise ConfigurationError(mistakes, declared.files)
    return _table(declared)


def _read(path: Path) -> Declaration:
    """Raises ConfigurationError where the main file cannot be read at all."""
    bounds = files.Bounds()
    document = yaml_lines.parse(files.read_main(path, bounds), path)
    if document.broken:
        raise ConfigurationError(document.mistakes, [path])
    main, mistakes = reading.read(document)
    declared = Declaration(document, main, files=[path], mistakes=[*document.mistakes, *mistakes])
    declared.octopus = [Entry(section, document, ("octopus", index)) for index, section in enumerate(main.octopus)]
    declared.machines = [Entry(section, document, ("machines", index)) for index, section in enumerate(main.machines)]
    for included in _included(declared):
        if bounds.bytes < 0:
            break  # said already: nothing more is read
        declared.files.append(included)
        _add_machines(declared, included, bounds)
    return declared


def _included(declared: Declaration) -> list[Path]:
    """The files that the main one includes, each once, in the order of its patterns and then of their names."""
    document = declared.document
    found: dict[Path, None] = {}
    for index, pattern in enumerate(declared.main.include):
        key = document.known(("include", index))
        try:
            found |= dict.fromkeys(files.matching(pattern, document.file.parent))
        except WrongValueError as error:
            declared.complete = False
            declared.mistakes.append(document.mistake(key, error.problem, error.remedy, pattern))
    if len(found) > files.MAX_FILES:
        declared.complete = False
        problem = f"{len(found)} files, and {files.MAX_FILES} are the most"
        declared.mistakes.append(document.mistake(("include",), problem, "Put several machines into each file."))
        return []
    return [*found]


def _add_machines(declared: Declaration, path: Path, bounds: files.Bounds) -> None:
    try:
        document = yaml_lines.parse(files.read_included(path, bounds), path)
    except ConfigurationError as error:
        declared.complete = False
        declared.mistakes += error.mistakes
        return
    declared.mistakes += document.mistakes
    if document.broken:
        declared.complete = False
        return
    content, mistakes = reading.read_machines(document)
    declared.mistakes += mistakes
    declared.machines += [Entry(section, document, ("machines", index)) for index, section in enumerate(content.machines)]


def _table(declared: Declaration) -> Table:
    folder = declared.document.file.absolute().parent
    main = declared.main
    relay = _relay(main, folder)
    entries = len(declared.octopus)
    octopus = {entry.section.name: _octopus(entry, folder, relay.limits, entries) for entry in declared.octopus}
    back = main.back.listen if "listen" in main.back.model_fields_set else None
    sections = {
        name: declared.entry(name, section).places
        for name, section in (("relay", main.relay), ("front", main.front), ("defaults", main.defaults))
        if declared.gives(name)
    }
    shared = rules(main.defaults, sections.get("defaults", NOWHERE), main.relay.name, main.relay.contact)
    return Table(
        relay=relay,
        octopus=tuple(octopus.values()),
        machines=tuple(_machine(main, entry, octopus, folder, shared) for entry in declared.machines),
        source=declared.document.file,
        front=main.front.listen if "listen" in main.front.model_fields_set else None,
        back=back,
        back_octopus=octopus.get(main.back.octopus or main.octopus[0].name) if back else None,
        connect=_connect(main.front, folder),
        admin=main.admin.listen,
        files=tuple(declared.files),
        sections=sections,
    )


def _connect(front: FrontSection, folder: Path) -> ConnectDoor | None:
    return ConnectDoor(folder / front.credentials if front.credentials else None) if front.connect else None


def _octopus(entry: Entry[OctopusSection], folder: Path, limits: RelayLimits, entries: int) -> Octopus:
    section = entry.section
    proxy = section.proxy
    return Octopus(
        section.name,
        pins(section),
        _provisioned(folder, section),
        nodes=section.nodes,
        node_connections=section.node_connections or NODE_CONNECTIONS,
        proxy=HttpProxy(proxy, folder / section.proxy_credentials if section.proxy_credentials else None) if proxy else None,
        limits=octopus_limits(limits, section.limits, entries),
        places=entry.places,
    )


def _relay(configuration: Configuration, folder: Path) -> Relay:
    relay = configuration.relay
    return Relay(
        name=relay.name,
        state=folder / relay.state,
        access_log=None if relay.access_log == Path("-") else folder / relay.access_log,
        log_level=relay.log_level,
        limits=relay_limits(relay.limits),
        timeouts=relay_timeouts(relay.timeouts),
    )


def _machine(
    main: Configuration, entry: Entry[MachineSection], octopus: dict[str, Octopus], folder: Path, shared: Rules
) -> Machine:
    """shared: the rules of the defaults."""
    section, defaults, places = entry.section, main.defaults, entry.places
    return Machine(
        name=section.name,
        tentacle=None if isinstance(section.tentacle, str) else section.tentacle,
        thumbprints=pins(section),
        # Left out, it means the only entry there is: with several, that is a mistake.
        octopus=() if section.passthrough else tuple(octopus[name] for name in section.octopus) or tuple(octopus.values()),
        door=section.port,
        host=section.host,
        subscription=section.tentacle if isinstance(section.tentacle, str) else section.subscription,
        polled_for=section.front == POLLING,
        passthrough=section.passthrough,
        target=_target(entry) if main.front.connect else None,
        identity=_provisioned(folder, section),
        limits=limits(defaults.limits, section.limits),
        timeouts=timeouts(defaults.timeouts, section.timeouts),
        rules=rules(section, places, main.relay.name, main.relay.contact) if section.allow else shared,
        places=places,
    )


def _target(entry: Entry[MachineSection]) -> Address | None:
    section = entry.section
    if entry.has("connect"):
        return section.connect
    return None if isinstance(section.tentacle, str) else targets.of_tentacle(section.tentacle)


def _provisioned(folder: Path, section: OctopusSection | MachineSection) -> Provisioned | None:
    if section.identity is None:
        return None
    password = section.identity_password
    if isinstance(password, PasswordFile):
        password = PasswordFile(folder / password.path)
    return Provisioned(folder / section.identity, password)
