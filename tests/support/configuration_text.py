"""The text of small configurations, on lines that a test knows, and what is said about them."""

from pathlib import Path

from routing.load import load
from routing.mistakes import ConfigurationError

A, B, C = ("A" * 40, "B" * 40, "C" * 40)


def configuration(
    octopus: str = f"{{name: one, thumbprint: {A}}}", machines: str = "", relay: str = "", defaults: str = ""
) -> str:
    """Line 1 is the relay, the octopus entries start on line 3; then a line, then the machines; then the defaults."""
    machines = machines or machine("web01", 11001)
    return f"relay: {{name: r, state: state{relay}}}\noctopus:\n{items(octopus)}machines:\n{items(machines)}" + (
        f"defaults: {{{defaults}}}\n" if defaults else ""
    )


def items(text: str) -> str:
    return "".join(f"  - {line}\n" for line in text.splitlines())


def machine(name: str, port: object, more: str = "", tentacle: str = "") -> str:
    tentacle = tentacle or f"https://tentacle-of-{name}"
    return f"{{name: {name}, tentacle: '{tentacle}', thumbprint: {B}, port: '{port}'{more}}}"


def two(first: object, second: object) -> str:
    return configuration(machines=machine("web01", first) + "\n" + machine("web02", second))


def read(text: str, folder: Path) -> list[str]:
    """The mistakes, without the file's name."""
    path = folder / "relay.yaml"
    path.write_text(text)
    try:
        load(path)
    except ConfigurationError as error:
        return [str(mistake).removeprefix(f"{path}:") for mistake in error.mistakes]
    return []
