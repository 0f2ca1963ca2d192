import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from relay.cli.main import main
from routing import json_schema


@pytest.mark.parametrize(("arguments", "expected"), [([], json_schema.main_file), (["--machines"], json_schema.machines_file)])
def test_it_prints_the_schema(arguments: list[str], expected: Callable[[], object]) -> None:
    done = CliRunner().invoke(main, ["schema", *arguments])
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == expected()
