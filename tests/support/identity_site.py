"""What the tests of the identity commands share."""

import io
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

CAPTURES = Path(__file__).parents[1] / "captures" / "certs"
Run = Callable[..., Result]


class Terminal(io.BytesIO):
    """Standard input that says it is one."""

    def isatty(self) -> bool:
        return True


def private(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def thumbprint(name: str) -> str:
    """Of a recorded peer."""
    return (CAPTURES / f"{name}.thumb").read_text().strip()
