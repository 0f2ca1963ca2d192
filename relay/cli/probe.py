"""``relay-tentacle probe``: can the relay call this Tentacle, and if not, why?"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from certs.errors import CertificateError
from certs.store import IdentityStore
from relay import running
from relay.cli.completion import machine_names, octopus_names
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import open_store
from relay.cli.probe_door import knock_at_door
from relay.cli.probe_polling import node_as_dict, poller_as_dict, print_polling, print_tables
from relay.cli.reactor import finish
from relay.cli.tables import print_table
from relay.cli.values import duration_from
from relay.identities import NoSuchEntryError
from relay.probe.acquaintances import whose
from relay.probe.many import Job, NotReadyError, asked, jobs, probe_many
from relay.probe.nodes import NodeJob, NodeResult, node_jobs, probe_nodes
from relay.probe.pollers import look_at_pollers
from relay.probe.result import ProbeResult
from relay.probe.shown import Shown
from routing.table import Table

_LONGEST = 600.0
_MOST_PARALLEL = 1000


@click.command()
@click.argument("machines", metavar="[MACHINE]...", nargs=-1, shell_complete=machine_names)
@click.option("--all", "every", is_flag=True, help="Probe all machines, and print a table.")
@click.option(
    "--octopus",
    metavar="NAME",
    shell_complete=octopus_names,
    help="As this octopus entry only, and not as each one that may call the machine.",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=duration_from(0.001, _LONGEST),
    default="20s",
    show_default=True,
    help="For each call; a look at what went wrong may take 5s more.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, _MOST_PARALLEL),
    default=20,
    show_default=True,
    help="How many calls at once.",
)
@click.option(
    "--connect",
    is_flag=True,
    help="Ask the CONNECT door of the running relay for MACHINE instead, as Octopus does with the relay as its proxy.",
)
@click.option(
    "--address",
    metavar="HOST",
    help="With --connect: where the relay is. Left out: this host, or the address in front.listen.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list of objects.")
@config_option
def probe(
    machines: tuple[str, ...],
    every: bool,
    octopus: str | None,
    timeout: float,
    parallel: int,
    connect: bool,
    address: str | None,
    as_json: bool,
    config: Path,
) -> None:
    """Call the Tentacle of MACHINE, as the relay would, and say what is wrong where that fails.

    The call is a real one, GetCapabilities, with the identity that the relay shows to the Tentacle. No relay has to run, and
    one that does is not disturbed. Of a machine that is passed through, only the certificate is looked at. A polling Tentacle
    cannot be dialled: the running relay is asked whether it is there. Where the relay polls Octopus for the machine, each node
    is dialled and asked whether it trusts the machine's thumbprint; no call of Octopus can be lost by that. Exit code 1:
    something is not fine, or there is no identity to call with.

    With --connect, the Tentacle is not called: the relay is asked for a tunnel to the machine, and in it for the page that
    every caller may have. That shows the way to the relay, the target, the credentials and the thumbprint that Octopus sees.
    """
    if bool(machines) == every:
        fail("which machine? Give one or several names, or --all.")
    if connect and octopus is not None:
        fail("--connect asks as nobody in particular: leave --octopus out.")
    if address is not None and not connect:
        fail("--address is where the relay is, for --connect.")
    table = load_or_exit(config)
    if connect:
        knock_at_door(table, machines, address, timeout, parallel, as_json)
        return
    store = open_store(table)
    try:
        found = asked(table, machines, octopus)
        work, nodes = jobs(table, store, found, octopus), node_jobs(store, table, found, octopus)
        results, polls = _probe_all(table, store, work, nodes, timeout, parallel)
    except (NoSuchEntryError, NotReadyError, CertificateError) as error:
        fail(str(error), NOT_FINE)
    pollers = []
    if any(machine.tentacle is None for machine in found):
        pollers = look_at_pollers(found, running.machines(table.relay.state))
    if as_json:
        parts = [*map(_as_dict, results), *map(poller_as_dict, pollers), *map(node_as_dict, polls)]
        click.echo(json.dumps(parts, indent=2))
    elif every:
        print_tables(results, pollers, polls, _print_table)
    else:
        for result in results:
            _print(result)
        print_polling(pollers, polls)
    fine = [each.ok for each in results] + [each.ok for each in pollers] + [each.ok for each in polls]
    if not all(fine):
        sys.exit(NOT_FINE)


def _probe_all(
    table: Table, store: IdentityStore, work: Sequence[Job], nodes: Sequence[NodeJob], seconds: float, parallel: int
) -> tuple[list[ProbeResult], list[NodeResult]]:
    def known(der: bytes) -> str:
        return whose(table, store, der)

    hidden = len(work) + len(nodes) <= 1 or not sys.stderr.isatty()
    with click.progressbar(length=len(work) + len(nodes), label="Probing", file=sys.stderr, hidden=hidden) as bar:

        async def both(reactor: Any) -> tuple[list[ProbeResult], list[NodeResult]]:
            results = await probe_many(reactor, work, seconds, parallel, known, lambda _: bar.update(1))
            return results, await probe_nodes(reactor, nodes, seconds, parallel, lambda _: bar.update(1))

        return finish(both)


def _print(result: ProbeResult) -> None:
    outcome = "fine" if result.cause is None else result.cause.value
    click.echo(f"{result.machine} at {result.tentacle}, {_as_whom(result)}: {outcome}")
    for stage in result.stages:
        click.echo(f"  {stage.name.value:<8}  {_ms(stage.seconds):>9} ms{'' if stage.done else '  failed'}")
    if result.tls:
        click.echo(f"  {result.tls}, certificate {result.shown}" if result.shown else f"  {result.tls}, no certificate")
    if result.capabilities:
        click.echo(f"  It can: {', '.join(result.capabilities)}")
    if result.note:
        click.echo(f"  Note: {result.note}.")
    _print_trouble(result, "  ")


def _as_whom(result: ProbeResult) -> str:
    return f"as {result.octopus} ({result.thumbprint})" if result.thumbprint else "passed through, and looked at only"


def _print_table(results: Sequence[ProbeResult]) -> None:
    print_table(
        ("MACHINE", "OCTOPUS", "TENTACLE", "RESULT", "MS"),
        [
            (
                each.machine,
                each.octopus or "-",
                str(each.tentacle),
                "fine" if each.cause is None else each.cause.value,
                _ms(each.seconds),
            )
            for each in results
        ],
    )
    failed = [each for each in results if not each.ok]
    click.echo(f"\n{len(results) - len(failed)} of {len(results)} are fine.")
    for each in failed:
        click.echo(f"\n{each.machine}, {f'as {each.octopus}' if each.octopus else 'passed through'}:")
        _print_trouble(each, "  ")


def _print_trouble(result: ProbeResult, indent: str) -> None:
    if not result.ok:
        click.echo(f"{indent}What happened: {result.detail}.")
        click.echo(f"{indent}What to do: {result.remedy}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _as_dict(result: ProbeResult) -> dict[str, object]:
    return {
        "kind": "tentacle",
        "machine": result.machine,
        "octopus": result.octopus or None,
        "tentacle": f"https://{result.tentacle}/",
        "thumbprint": str(result.thumbprint) if result.thumbprint else None,
        "ok": result.ok,
        "cause": result.cause.value if result.cause else None,
        "detail": result.detail or None,
        "remedy": result.remedy or None,
        "note": result.note or None,
        "ms": round(result.seconds * 1000, 3),
        "stages": [{"name": each.name.value, "ms": round(each.seconds * 1000, 3), "done": each.done} for each in result.stages],
        "address": result.address or None,
        "tls": result.tls or None,
        "certificate": _certificate(result.shown) if result.shown else None,
        "capabilities": list(result.capabilities),
    }


def _certificate(shown: Shown) -> dict[str, str]:
    return {
        "thumbprint": str(shown.thumbprint),
        "subject": shown.subject,
        "issuer": shown.issuer,
        "expires": shown.expires,
        "kind": shown.kind.value,
    }
