from pathlib import Path

from routing.entries import Declaration, Entry
from routing.reading import read, read_machines
from routing.schema import MachineSection
from routing.yaml_lines import Document, parse

MAIN = parse("relay: {name: r}\nmachines:\n  - name: web01\n    port: x\n  - text\n", Path("relay.yaml"))
MORE = parse("# more\nmachines:\n  - {name: web02}\n", Path("d/more.yaml"))


def entries(document: Document) -> list[Entry[MachineSection]]:
    content, _ = read(document) if document is MAIN else read_machines(document)
    return [Entry(section, document, ("machines", index)) for index, section in enumerate(content.machines)]


def test_what_is_written_and_what_of_it_is_right() -> None:
    web01, text = entries(MAIN)
    assert web01.written == {"name": "web01", "port": "x"}
    assert [web01.has(name) for name in ("name", "port", "host")] == [True, False, False]
    assert (web01.is_mapping, text.is_mapping) == (True, False)
    assert text.written == {}


def test_where_it_is() -> None:
    web01, _ = entries(MAIN)
    [web02] = entries(MORE)
    assert str(web01.places.of("port")) == "relay.yaml:4"
    assert str(web02.places.of("port")) == "d/more.yaml:3"
    assert str(web01.mistake("port", "bad", "Mend it.", "x")) == "relay.yaml:4: machines[0].port: 'x': bad. Mend it."


def test_a_message_names_another_file_only() -> None:
    web01, text = entries(MAIN)
    [web02] = entries(MORE)
    assert web01.seen_from(text, "host", "port") == "machines[0] on line 4"
    assert web01.seen_from(web02, "host") == "machines[0] on line 3 of relay.yaml"
    assert web02.seen_from(web01, "name", dotted=True) == "machines[0].name on line 3 of d/more.yaml"


def test_which_sections_there_are() -> None:
    declared = Declaration(MAIN, read(MAIN)[0])
    assert [declared.gives(name) for name in ("relay", "include")] == [True, False]
    assert declared.entry("relay", declared.main.relay).written == {"name": "r"}
    empty = parse("- a\n", Path("relay.yaml"))
    assert not Declaration(empty, read(empty)[0]).gives("relay")
    assert not Declaration(empty, read(empty)[0]).entry("relay", declared.main.relay).is_mapping
