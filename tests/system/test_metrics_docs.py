"""docs/metrics.md says what is so: a running relay serves the metrics that it lists, and no others."""

import re
from pathlib import Path
from urllib.request import urlopen

import yaml
from prometheus_client.parser import text_string_to_metric_families
from scripted import PATIENCE
from system import HOST, RelayProcess, free_ports

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
OTHERS = set(re.findall(r"`((?:process|python)_[a-z_]+)`", TEXT))
TABLE = TEXT.partition("<!-- metrics -->\n")[2].partition("<!-- end -->")[0]
HEAD = "| metric | kind | labels | what it is |\n|---|---|---|---|\n"


def served(text: str) -> tuple[str, set[str]]:
    """The table of what a relay serves, and the names of what the client library adds."""
    rows, others = [], set()
    for family in text_string_to_metric_families(text):
        labels = {label: None for sample in family.samples for label in sample.labels if label != "le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not name.startswith("relay_"):
            others.add(name)
            continue
        rows.append(f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |\n")
    return HEAD + "".join(sorted(rows)), others


def test_the_table_is_what_a_relay_serves(tmp_path: Path) -> None:
    """Of a machine that polls and is polled for: it has all of them."""
    admin, back, node = free_ports(3)
    kiosk = {"name": "kiosk7", "tentacle": "poll://kiosk7/", "thumbprint": "A" * 40, "front": "polling"}
    configuration = {
        "relay": {"name": "test", "state": "state"},
        "octopus": [{"name": "production", "thumbprint": "B" * 40, "nodes": f"https://{HOST}:{node}"}],
        "back": {"listen": f"{HOST}:{back}"},
        "admin": {"listen": f"{HOST}:{admin}"},
        "machines": [kiosk],
    }
    relay = RelayProcess(tmp_path, configuration)
    try:
        with urlopen(f"http://{HOST}:{admin}/metrics", timeout=PATIENCE) as reply:
            assert served(reply.read().decode()) == (TABLE, OTHERS)
        relay.stop()
    finally:
        relay.kill()


def test_the_alerts_use_metrics_that_there_are() -> None:
    listed = OTHERS | {row.split("`")[1] for row in TABLE.splitlines()[2:]}
    [rules] = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S) if block.startswith("groups:")
    ]
    expressions = [rule["expr"] for rule in rules["groups"][0]["rules"]]
    assert len(expressions) > 10
    for expression in expressions:
        names = {name.removesuffix("_bucket") for name in re.findall(r"\b(?:relay|process)_[a-z_]+", expression)}
        assert names <= listed
        assert names or "up{" in expression
