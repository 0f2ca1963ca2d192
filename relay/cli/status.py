"""``relay-tentacle status``: how the running relay and its machines are."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from relay.cli.completion import machine_names
from relay.cli.control import ask_relay, json_option, print_json, relay_options
from relay.cli.exits import NOT_FINE
from relay.cli.tables import print_table

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))
_COLUMNS: Final = (
    "MACHINE", "DOOR", "TENTACLE", "STATE", "CALLERS", "CALLS", "WAITING", "BACK", "POLLS", "LAST CALL", "LAST FAILURE"
)  # fmt: skip
_SHOWN: Final = 20  # nodes
_PEERS: Final = {"call": "caller", "refusal": "caller", "node": "node", "tentacle": "tentacle"}


@click.command()
@click.argument("machine", required=False, shell_complete=machine_names)
@relay_options
@json_option
def status(machine: str | None, config: Path, socket: Path | None, as_json: bool) -> None:
    """Show the running relay, its doors and machines, or everything about MACHINE.

    Exit code 1: no relay runs, or it drains, or its last reload failed. With MACHINE: it is drained, its last call failed,
    or its Tentacle is away: one that polls and does not, or one that cannot be had while the relay should poll Octopus for it.
    """
    request = {"command": "status", **({"machine": machine} if machine else {})}
    answer = ask_relay(config, socket, request)
    if as_json:
        print_json(answer)
    elif not answer["ok"]:
        click.echo(f"relay-tentacle: {answer['error']}", err=True)
    elif machine:
        _print_machine(answer["machine"], answer["relay"]["draining"])
    else:
        _print_all(answer)
    if not (answer["ok"] and _fine(answer)):
        sys.exit(NOT_FINE)


def _fine(answer: dict[str, Any]) -> bool:
    if "machine" in answer:
        machine = answer["machine"]
        return not (machine["drained"] or machine["last_call_failed"] or machine["live"] is False)
    reload = answer["relay"]["last_reload"]
    return not answer["relay"]["draining"] and (reload is None or reload["ok"])


def _print_all(answer: dict[str, Any]) -> None:
    relay, totals = answer["relay"], answer["totals"]
    state = "draining, then stops" if relay["draining"] else "serving"
    click.echo(f"relay {relay['name']}, version {relay['version']}, pid {relay['pid']}: {state}")
    click.echo(f"up for {ago(relay['uptime_seconds'])}; configuration {relay['config']}")
    click.echo(_reload(relay["last_reload"]))
    for door in answer["doors"]:
        if door["kind"] != "port":
            click.echo(f"{door['kind']} door {door['address']}: {door['state']}")
    click.echo(
        f"machines: {totals['machines']}, drained: {totals['drained']}, last call failed: {totals['failing']}, "
        f"Tentacle away: {totals['away']}; "
        f"callers: {totals['connections']}, calls in flight: {totals['exchanges_in_flight']}, waiting: {totals['waiting']}, "
        f"connections to Tentacles: {totals['back_connections']}, pollers among them: {totals['pollers']}, "
        f"polls of Octopus: {totals['polls']}"
    )
    for line in _limits(answer["limits"]):
        click.echo(line)
    click.echo()
    rows = [_row(machine, relay["draining"]) for machine in answer["machines"]]
    rows += [_leaving(machine) for machine in answer["leaving"]]
    print_table(_COLUMNS, rows)
    troubled = [(machine, node) for machine in answer["machines"] for node in machine["nodes"] if _troubled(node)]
    for machine, node in troubled[:_SHOWN]:
        click.echo(f"{machine['name']}: {_node(node)}")
    if len(troubled) > _SHOWN:
        click.echo(f"and {len(troubled) - _SHOWN} more nodes that are not polled as they should be")


def _limits(limits: list[dict[str, Any]]) -> Iterator[str]:
    """A line for the relay, and one for each octopus entry: how much of each limit is in use."""
    groups: dict[str, list[str]] = {}
    for each in limits:
        owner, _, key = each["key"].partition(".limits.")
        groups.setdefault(owner, []).append(f"{key} {each['used']} of {each['limit']}")
    for owner, some in groups.items():
        yield f"limits of {owner}: {', '.join(some)}"


def _reload(last: dict[str, Any] | None) -> str:
    if last is None:
        return "not reloaded since its start"
    if last["ok"]:
        counts = f"added: {last['added']}, changed: {last['changed']}, removed: {last['removed']}"
        return f"last reload {last['time']}: done; {counts}"
    return "\n".join([f"last reload {last['time']}: FAILED, the relay runs on as it was:", *last["mistakes"]])


def _row(machine: dict[str, Any], draining: bool) -> tuple[str, ...]:
    failure = machine["last_failure"]
    return (
        machine["name"],
        _door(machine),
        machine["tentacle"],
        _state(machine, draining),
        *_load(machine),
        _polls(machine),
        machine["last_success"] or "-",
        f"{ago(failure['seconds_ago'])} ago: {failure['cause']}" if failure else "-",
    )


def _leaving(machine: dict[str, Any]) -> tuple[str, ...]:
    return (machine["name"], "-", machine["tentacle"], "removed, ending", *_load(machine), str(machine["polls"]), "-", "-")


def _load(machine: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(machine[key]) for key in ("connections", "exchanges_in_flight", "waiting", "back_connections"))


def _print_machine(machine: dict[str, Any], draining: bool) -> None:
    passthrough = machine["passthrough"]
    ended = machine["passthrough_connections" if passthrough else "exchanges"]
    numbers = ", ".join(f"{outcome}: {count}" for outcome, count in ended.items())
    pins = "passed through" if passthrough else f"thumbprints {', '.join(machine['thumbprints'])}"
    lines = [
        ("machine", f"{machine['name']}, declared at {machine['declared']}"),
        ("state", _state(machine, draining)),
        ("door", _door(machine)),
        ("tentacle", f"{machine['tentacle']}, {pins}"),
        ("octopus", ", ".join(machine["octopus"]) or "whoever the Tentacle trusts"),
        ("callers", str(machine["connections"])),
        (
            "passed through now" if passthrough else "calls in flight",
            f"{machine['exchanges_in_flight']}, waiting for a connection: {machine['waiting']}",
        ),
        ("connections to the Tentacle", _back(machine)),
        *(("polls", _node(node)) for node in machine["nodes"]),
        ("limits", ", ".join(f"{key}: {limit}" for key, limit in machine["limits"].items())),
        (
            "connections ended" if passthrough else "calls since the start",
            f"{numbers or 'none'}; {machine['request_bytes']} bytes there, {machine['reply_bytes']} back",
        ),
        ("last answered" if passthrough else "last call carried", machine["last_success"] or "none since the start"),
    ]
    failure = machine["last_failure"]
    if failure is None:
        lines.append(("last failure", "none since the start"))
    else:
        what = f"{failure['time']}, {ago(failure['seconds_ago'])} ago: {failure['cause']} ({failure['word']})"
        lines += [("last failure", what), ("detail", failure["detail"] or "-"), (_PEERS[failure["kind"]], failure["peer"])]
        if failure["remedy"]:
            lines.append(("what to do", failure["remedy"]))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name.ljust(width)}  {text}")


def _polls(machine: dict[str, Any]) -> str:
    """Standing and wanted, of all nodes."""
    nodes = machine["nodes"]
    return f"{machine['polls']}/{sum(node['wanted'] for node in nodes)}" if nodes else "-"


def _back(machine: dict[str, Any]) -> str:
    text = f"{machine['back_connections']}{', which poll the relay' if machine['pollers'] else ''}"
    return f"{text}; the Tentacle is away" if machine["live"] is False else text


def _node(node: dict[str, Any]) -> str:
    text = f"{node['node']} ({node['octopus']}): {node['standing']} of {node['wanted']}"
    trouble = node["trouble"]
    return f"{text}; {trouble['cause']}: {trouble['detail']}" if trouble else text


def _troubled(node: dict[str, Any]) -> bool:
    return bool(node["standing"] < node["wanted"] and node["trouble"])


def _state(machine: dict[str, Any], draining: bool) -> str:
    if draining:
        return "draining"
    if machine["drained"]:
        return "drained"
    if machine["live"] is False:
        return "Tentacle away"
    return "failing" if machine["last_call_failed"] else "open"


def _door(machine: dict[str, Any]) -> str:
    connect = f"CONNECT {machine['connect']}" if machine["connect"] else None
    return ", ".join(door for door in (machine["door"], machine["host"], connect) if door) or "-"


def ago(seconds: float) -> str:
    """A time that has passed, in the largest unit that fits."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
