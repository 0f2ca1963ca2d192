from pathlib import Path

from routing.mistakes import ConfigurationError, Mistake, WrongValueError, shown

FILE = Path("relay.yaml")


def test_a_mistake_names_file_line_key_value_problem_and_remedy() -> None:
    mistake = Mistake(
        FILE,
        14,
        "machines[1].thumbprint",
        "xyz",
        "not a thumbprint: 3 characters",
        "Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it.",
    )
    assert str(mistake) == (
        "relay.yaml:14: machines[1].thumbprint: 'xyz': not a thumbprint: 3 characters. "
        "Write 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, as Octopus shows it."
    )


def test_what_a_mistake_does_not_have_is_left_out() -> None:
    assert str(Mistake(FILE, 0, "", None, "no such file", "Check the path.")) == "relay.yaml: no such file. Check the path."
    assert str(Mistake(FILE, 2, "", None, "not YAML", "Check it.")) == "relay.yaml:2: not YAML. Check it."
    assert str(Mistake(FILE, 2, "a", "", "empty", "Fill it.")) == "relay.yaml:2: a: '': empty. Fill it."


def test_long_values_are_cut_and_control_characters_escaped() -> None:
    assert shown("x" * 60) == f"'{'x' * 60}'"
    assert shown("x" * 61) == f"'{'x' * 59}…'"
    assert shown("a\x1b[31m\n") == "'a\\x1b[31m\\n'"


def test_an_error_has_its_mistakes_by_line_and_one_a_line() -> None:
    later, earlier = (Mistake(FILE, line, "k", None, "bad", "Mend it.") for line in (9, 2))
    error = ConfigurationError([later, earlier])
    assert error.mistakes == (earlier, later)
    assert str(error) == "relay.yaml:2: k: bad. Mend it.\nrelay.yaml:9: k: bad. Mend it."


def test_mistakes_come_by_file_in_the_order_of_reading() -> None:
    places = [("c.yaml", 1), ("b.yaml", 2), ("a.yaml", 9), ("a.yaml", 3), ("d.yaml", 1)]
    mistakes = [Mistake(Path(file), line, "", None, "bad", "Mend it.") for file, line in places]
    error = ConfigurationError(mistakes, [Path("a.yaml"), Path("b.yaml"), Path("c.yaml")])
    found = [f"{mistake.file}:{mistake.line}" for mistake in error.mistakes]
    assert found == ["a.yaml:3", "a.yaml:9", "b.yaml:2", "c.yaml:1", "d.yaml:1"]
    assert error.files == (Path("a.yaml"), Path("b.yaml"), Path("c.yaml"))


def test_a_wrong_value_says_problem_and_remedy() -> None:
    error = WrongValueError("bad", "Mend it.")
    assert (error.problem, error.remedy, str(error)) == ("bad", "Mend it.", "bad. Mend it.")
