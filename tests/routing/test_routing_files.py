"""Which files a configuration includes, and what is read of them."""

import os
from pathlib import Path

import pytest

from certs.store import Provisioned
from certs.thumbprint import Thumbprint
from routing import files
from routing.files import Bounds, matching, read_included, read_main
from routing.load import load
from routing.mistakes import ConfigurationError, WrongValueError

A = "A" * 40
MAIN = f"relay: {{name: r, state: /s}}\noctopus: [{{name: o, thumbprint: {A}}}]\n"


def machines(*numbers: int) -> str:
    entries = (f"  - {{name: m{n}, tentacle: 'https://m{n}', thumbprint: '{n:040}', port: {n}}}\n" for n in numbers)
    return "machines:\n" + "".join(entries)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    return Path("relay.yaml")


def said(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load(path)
    return str(raised.value).splitlines()


# ---- patterns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("d/*.yaml", ["a.yaml", "b.yaml"]),
        ("d/?.yml", ["c.yml"]),
        ("d/[ab].*l", ["a.yaml", "b.yaml"]),
        ("d/[!a].yaml", ["b.yaml"]),
        ("d/.*.yaml", [".hidden.yaml"]),
        ("d/*", ["a.yaml", "b.yaml", "b.yaml~", "c.yml"]),
        ("d/a.yaml", ["a.yaml"]),
        ("d/x*", []),
        ("d/*.YAML", []),
    ],
)
def test_what_a_pattern_means(site: Path, pattern: str, expected: list[str]) -> None:
    for name in ("b.yaml", "a.yaml", "c.yml", ".hidden.yaml", "b.yaml~"):
        Path("d", name).touch()
    assert matching(pattern, Path()) == [Path("d", name) for name in expected]
    assert matching(str(Path.cwd() / pattern), Path("elsewhere")) == [Path.cwd() / "d" / name for name in expected]


def test_names_with_brackets_in_their_folder_are_no_pattern(site: Path) -> None:
    Path("[x]").mkdir()
    with pytest.raises(WrongValueError, match="a wildcard in the name of a folder"):
        matching("[x]/a.yaml", Path())


def test_a_folder_that_cannot_be_listed(site: Path) -> None:
    Path("file").touch()
    with pytest.raises(WrongValueError) as raised:
        matching("file/*.yaml", Path())
    assert str(raised.value) == "file cannot be listed: Not a directory. Check the folder and who may read it."


def test_files_in_the_order_of_patterns_and_names(site: Path) -> None:
    for name, number in [("b1", 1), ("b2", 2), ("a", 3), ("z", 4)]:
        Path("d", f"{name}.yaml").write_text(machines(number))
    site.write_text(MAIN + machines(5) + "include: [d/z.yaml, 'd/b*.yaml', 'd/*.yaml']\n")
    table = load(site)
    assert table.files == (site, *(Path("d", f"{name}.yaml") for name in ("z", "b1", "b2", "a")))
    assert [machine.name for machine in table.machines] == ["m5", "m4", "m1", "m2", "m3"]


# ---- what an included machine is ----------------------------------------------------------------------------------------


def test_an_included_machine_is_like_any_other(site: Path) -> None:
    more = machines(1).replace("}", ", identity: k.pem, limits: {connections: 3}}")
    site.write_text(MAIN + more + "defaults: {limits: {connections: 5, envelope: 1KiB}}\n")
    written = load(site).machines
    site.write_text(MAIN + "include: d/*.yaml\ndefaults: {limits: {connections: 5, envelope: 1KiB}}\n")
    Path("d", "a.yaml").write_text(more)
    assert load(site).machines == written
    [machine] = written
    assert (machine.identity, machine.thumbprints) == (Provisioned(Path.cwd() / "k.pem"), (Thumbprint.parse(f"{1:040}"),))


def test_every_entry_knows_its_file(site: Path) -> None:
    Path("d", "a.yaml").write_text("# nothing here\n\nmachines:\n  - name: m2\n    tentacle: https://m2\n"
                                   f"    thumbprint: {'B' * 40}\n    port: 2\n")  # fmt: skip
    site.write_text(MAIN + machines(1) + "include: d/*.yaml\n")
    table = load(site)
    first, second = table.machines
    assert [str(first.places.of(key)) for key in ("port", "limits")] == ["relay.yaml:4", "relay.yaml:4"]
    assert [str(second.places.of(key)) for key in ("name", "tentacle", "port", "limits")] == [
        "d/a.yaml:4", "d/a.yaml:5", "d/a.yaml:7", "d/a.yaml:4",
    ]  # fmt: skip
    assert str(table.octopus[0].places.of("thumbprint")) == "relay.yaml:2"


@pytest.mark.parametrize("main", ["", "machines: []\n"])
def test_a_new_site_has_no_machines(site: Path, main: str) -> None:
    site.write_text(MAIN + main + "include: d/*.yaml\n")
    assert load(site).machines == ()
    Path("d", "a.yaml").write_text("machines: []\n")
    assert load(site).machines == ()


def test_links_are_followed(site: Path, tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(machines(1))
    Path("d", "a.yaml").symlink_to(tmp_path / "real.yaml")
    site.write_text(MAIN + "include: d/*.yaml\n")
    assert [machine.name for machine in load(site).machines] == ["m1"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names(site: Path, link: object) -> None:
    Path("d", "a.yaml").write_text(machines(1))
    assert callable(link)
    link(Path("d", "a.yaml").absolute(), Path("d", "b.yaml"))
    site.write_text(MAIN + "include: d/*.yaml\n")
    assert said(site) == ["d/b.yaml: the same file as d/a.yaml. Include each file once, and never the main one."]


def test_a_link_to_nowhere(site: Path) -> None:
    Path("d", "a.yaml").symlink_to("nowhere")
    site.write_text(MAIN + "include: d/*.yaml\n")
    assert said(site) == ["d/a.yaml: no such file. Check the path."]


def test_a_pipe_is_not_waited_for(site: Path) -> None:
    os.mkfifo(Path("d", "a.yaml"))
    site.write_text(MAIN + "include: d/*.yaml\n")
    assert said(site) == ["d/a.yaml: not a file. Name a file, or a link to one."]


def test_the_main_file_may_be_a_pipe(site: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, (MAIN + machines(1)).encode())
    os.close(writing)
    try:
        assert len(load(Path(f"/dev/fd/{reading}")).machines) == 1
    finally:
        os.close(reading)


def test_an_included_file_that_is_not_utf_8(site: Path) -> None:
    Path("d", "a.yaml").write_bytes(b"machines: []\n# \xff\n")
    site.write_text(MAIN + "include: d/*.yaml\n")
    assert said(site) == ["d/a.yaml:2: not UTF-8. Save the file as UTF-8."]


# ---- bounds -------------------------------------------------------------------------------------------------------------


def test_all_files_together_are_bounded(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said of the first that is too much; the ones behind it are not even opened."""
    for name in "abc":
        Path("d", f"{name}.yaml").write_text("machines: []\n#" + "x" * 500)
    os.mkfifo(Path("d", "d.yaml"))
    site.write_text(MAIN + "include: d/*.yaml\n")
    bounds = Bounds(bytes=1200)
    monkeypatch.setattr(files, "Bounds", lambda: bounds)
    assert said(site) == ["d/c.yaml: more than 16777216 bytes, with the files before it. Split this over several relays."]


def test_what_fills_the_bound_is_fine(site: Path) -> None:
    site.write_text("x" * 10)
    Path("d", "a.yaml").write_text("y" * 20)
    bounds = Bounds(bytes=30)
    assert read_main(site, bounds) == "x" * 10
    assert read_included(Path("d", "a.yaml"), bounds) == "y" * 20
    assert bounds.bytes == 0


def test_their_number_is_bounded(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        Path("d", f"{name}.yaml").write_text("machines: []\n")
    site.write_text(MAIN + "include: d/*.yaml\n")
    monkeypatch.setattr(files, "MAX_FILES", 3)
    assert load(site).machines == ()
    monkeypatch.setattr(files, "MAX_FILES", 2)
    assert said(site) == ["relay.yaml:3: include: 3 files, and 2 are the most. Put several machines into each file."]


def test_ten_thousand_machines_in_a_thousand_files(site: Path) -> None:
    for number in range(1000):
        Path("d", f"{number:04}.yaml").write_text(machines(*range(20_000 + number * 10, 20_010 + number * 10)))
    site.write_text(MAIN + "include: d/*.yaml\n")
    table = load(site)
    assert (len(table.machines), len(table.files)) == (10_000, 1001)
    machine = table.machine("m29999")
    assert machine is not None
    assert str(machine.places.of("port")) == "d/0999.yaml:11"
