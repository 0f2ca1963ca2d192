from pathlib import Path

import pytest

from routing.reference import main, places, renewed, tables

PAGE = "# Keys\n\n<!-- keys: front -->\nold\n<!-- end -->\n\nBy hand.\n\n<!-- keys: admin -->\n<!-- end -->\n"


def test_a_row_has_the_key_its_values_its_default_and_what_it_is() -> None:
    rows = tables()["relay.timeouts"].splitlines()
    assert rows[:2] == ["| key | what to write | default | what it is |", "|---|---|---|---|"]
    assert rows[2] == (
        "| `client_hello` | 1ms to 1m | `10s` | From a caller's connect to its whole ClientHello, with a CONNECT before it. "
        "At most `identify`. "
        "Refusal `hello-timeout`. |"
    )
    assert tables()["relay"].splitlines()[2].startswith("| `name` | a name | required | ")


def test_every_section_has_one_table() -> None:
    assert list(tables()) == [
        "main",
        "relay",
        "relay.limits",
        "relay.timeouts",
        "octopus[]",
        "octopus[].limits",
        "front",
        "back",
        "machines[]",
        "machines[].allow[]",
        "machines[].limits",
        "machines[].timeouts",
        "defaults",
        "admin",
    ]
    assert all(line.count(" | ") == 3 for table in tables().values() for line in table.splitlines()[2:])


def test_tables_are_made_anew_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    main([str(page)])
    made = tables()
    assert page.read_text() == PAGE.replace("old\n", made["front"]).replace("admin -->\n", "admin -->\n" + made["admin"])
    assert renewed(page.read_text()) == page.read_text()
    assert places(PAGE) == ["front", "admin"]


def test_a_section_that_there_is_not() -> None:
    with pytest.raises(KeyError):
        renewed("<!-- keys: fronts -->\n<!-- end -->\n")
