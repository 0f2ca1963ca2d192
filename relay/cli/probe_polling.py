"""How ``relay-tentacle probe`` shows what polls: Tentacles that poll the relay, and Octopus nodes that the relay polls."""

from collections.abc import Callable, Sequence

import click

from relay.cli.tables import print_table
from relay.probe.nodes import NodeResult
from relay.probe.pollers import NOTE, PollerResult
from relay.probe.result import ProbeResult


def print_polling(pollers: Sequence[PollerResult], nodes: Sequence[NodeResult]) -> None:
    """Each by itself."""
    for poller in pollers:
        click.echo(f"{poller.machine.name} at {poller.machine.uri}: {_poller_word(poller)}")
        click.echo(f"  Connections that poll the relay: {poller.pollers}")
        click.echo(f"  Note: {NOTE}.")
        _print_trouble(poller)
    for node in nodes:
        job = node.job
        through = f" through {job.proxy}" if job.proxy else ""
        click.echo(
            f"{job.machine.name}, the relay polls {job.node}{through} of {job.octopus.name} ({job.identity.thumbprint}): "
            f"{_node_word(node)}, {node.seconds * 1000:.1f} ms"
        )
        _print_trouble(node)


def print_tables(
    results: Sequence[ProbeResult],
    pollers: Sequence[PollerResult],
    nodes: Sequence[NodeResult],
    print_results: Callable[[Sequence[ProbeResult]], None],
) -> None:
    """A table of each kind that there is. print_results: prints the first one."""
    printed = False
    if results:
        print_results(results)
        printed = True
    if pollers:
        click.echo("\n" * printed + "Tentacles that poll the relay:")
        rows = [(each.machine.name, each.machine.uri, _poller_word(each), str(each.pollers)) for each in pollers]
        print_table(("MACHINE", "TENTACLE", "RESULT", "CONNECTIONS"), rows)
        _print_end([(each.machine.name, each) for each in pollers])
        printed = True
    if nodes:
        click.echo("\n" * printed + "Octopus nodes that the relay polls:")
        print_table(
            ("MACHINE", "OCTOPUS", "NODE", "RESULT", "MS"),
            [
                (
                    each.job.machine.name,
                    each.job.octopus.name,
                    str(each.job.node),
                    _node_word(each),
                    f"{each.seconds * 1000:.1f}",
                )
                for each in nodes
            ],
        )
        _print_end([(f"{each.job.machine.name} at {each.job.node}", each) for each in nodes])


def _print_end(found: Sequence[tuple[str, PollerResult | NodeResult]]) -> None:
    failed = [(name, each) for name, each in found if not each.ok]
    click.echo(f"\n{len(found) - len(failed)} of {len(found)} are fine.")
    for name, each in failed:
        click.echo(f"\n{name}:")
        _print_trouble(each)


def _print_trouble(result: PollerResult | NodeResult) -> None:
    if not result.ok:
        click.echo(f"  What happened: {result.detail}.")
        if result.remedy:
            click.echo(f"  What to do: {result.remedy}")


def _poller_word(result: PollerResult) -> str:
    return result.cause.value if result.cause else "fine"


def _node_word(result: NodeResult) -> str:
    return result.trouble.value if result.trouble else "fine"


def poller_as_dict(result: PollerResult) -> dict[str, object]:
    """As docs/json/probe.json has it."""
    return {
        "kind": "poller",
        "machine": result.machine.name,
        "tentacle": result.machine.uri,
        "ok": result.ok,
        "cause": result.cause.value if result.cause else None,
        "detail": result.detail or None,
        "remedy": result.remedy or None,
        "note": NOTE,
        "pollers": result.pollers,
    }


def node_as_dict(result: NodeResult) -> dict[str, object]:
    """As docs/json/probe.json has it."""
    job = result.job
    return {
        "kind": "node",
        "machine": job.machine.name,
        "octopus": job.octopus.name,
        "node": f"https://{job.node}/",
        "proxy": f"http://{job.proxy}" if job.proxy else None,
        "thumbprint": str(job.identity.thumbprint),
        "ok": result.ok,
        "cause": result.trouble.value if result.trouble else None,
        "detail": result.detail or None,
        "remedy": result.remedy or None,
        "ms": round(result.seconds * 1000, 3),
    }
