"""``relay-tentacle machines``: what to type into Octopus and to run on each machine."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from relay import identities
from relay.cli.completion import machine_names
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import open_store
from relay.cli.tables import print_table
from relay.identities import Found, NoSuchEntryError
from relay.instructions import POLLING_STYLE, STYLE, Guide, Instructions, Proxied, Way
from relay.program import command
from routing.addresses import tentacle
from routing.mistakes import WrongValueError
from routing.table import Machine, Table

_WINDOWS = r'"C:\Program Files\Octopus Deploy\Tentacle\Tentacle.exe"'
_OWN = "the Tentacle's own"
_LINUX = "sudo /opt/octopus/tentacle/Tentacle"


def _address(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    host = value.strip("[]")
    try:
        return tentacle(f"https://[{host}]:1" if ":" in host else f"https://{host}:1").host
    except WrongValueError as error:
        raise click.BadParameter(f"{value!r}: {error.problem}. Write a host name or an IP address, without a port.") from None


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=machine_names)
@click.option(
    "--address",
    metavar="HOST",
    callback=_address,
    help="The relay's name or IP address, as Octopus knows it. Left out, it is a guess where a door listens on every address.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list of objects.")
@config_option
def machines(names: tuple[str, ...], address: str | None, as_json: bool, config: Path) -> None:
    """Say what to type into Octopus, and to run on the Tentacle, for the machine NAME; without one, a table of all.

    Exit code 1: an identity cannot be used, or the one of a machine that was asked about is not there.
    """
    table = load_or_exit(config)
    guide = Guide(table, open_store(table), address)
    found = [guide.of(machine) for machine in _asked(table, names)]
    if as_json:
        click.echo(json.dumps([_as_dict(each) for each in found], indent=2))
    elif names:
        click.echo("\n\n".join("\n".join(_lines(each, config)) for each in found))
    else:
        _print_table(found, config)
    shown = [shown for each in found for shown in (each.identity, *each.trusts) if shown]
    problems = {each.problem for each in shown if each.problem}
    for problem in sorted(problems):
        click.echo(f"relay-tentacle: {problem}", err=True)
    if problems or (names and any(each.identity is None for each in shown)):
        sys.exit(NOT_FINE)


def _asked(table: Table, names: Sequence[str]) -> Sequence[Machine]:
    try:
        return [identities.machine(table, name) for name in dict.fromkeys(names)] or table.machines
    except NoSuchEntryError as error:
        fail(str(error), NOT_FINE)


def _thumbprint(found: Found | None, config: Path) -> str:
    if found is None:
        return _OWN
    if found.identity:
        return str(found.identity.thumbprint)
    return "cannot be used" if found.problem else f"not made yet: `{command('identity new', config)}` makes it"


def _lines(found: Instructions, config: Path) -> Iterator[str]:
    machine = found.machine
    yield f"{machine.name}"
    yield ""
    if found.ways:
        yield from _listening_lines(found, config)
    if found.proxied:
        yield from _proxied_lines(found, found.proxied, config)
    if found.polling:
        yield from _polling_lines(found, config)
    yield from _tentacle_lines(found, config)


def _polling_lines(found: Instructions, config: Path) -> Iterator[str]:
    """Octopus's pages wait for a polling Tentacle to register itself; the relay does not, so it takes the REST API."""
    assert found.polling
    yield "In Octopus, for which the relay polls: by its REST API (POST /api/SPACE/machines or /api/SPACE/workers), with"
    yield ""
    yield f"  Endpoint.CommunicationStyle  {POLLING_STYLE}"
    yield f"  Endpoint.Uri                 {_subscription(found)}"
    yield f"  Endpoint.Thumbprint          {_thumbprint(found.identity, config)}"
    yield ""
    nodes = ", ".join(f"https://{node}/" for node in found.polling.nodes)
    yield f"  The relay polls {nodes}, each with {found.polling.connections} connection(s)."
    yield ""


def _subscription(found: Instructions) -> str:
    assert found.polling
    return found.polling.uri or "not made yet: `relay-tentacle run` makes it"


def _listening_lines(found: Instructions, config: Path) -> Iterator[str]:
    yield "In Octopus: Infrastructure > Deployment Targets > Add Deployment Target > Listening Tentacle"
    yield "(for a worker: Infrastructure > Workers > Add Worker > Listening Tentacle)"
    for way in found.ways:
        yield ""
        yield f"  Hostname      {way.address.host}{_source(way)}"
        yield f"  Port          {way.address.port}"
        yield f"  Thumbprint    {_thumbprint(found.identity, config)}"
        yield f"  Tentacle URL  {way.uri}"
    yield ""
    if found.identity:
        yield "  Octopus finds a thumbprint there by itself: it must be this one. In its REST API these are"
    else:
        yield "  Octopus finds a thumbprint there by itself: it must be what show-thumbprint prints. In its REST API these are"
    yield f"  Endpoint.Uri and Endpoint.Thumbprint, with Endpoint.CommunicationStyle {STYLE}."
    yield ""


def _passed_through_lines(machine: Machine) -> Iterator[str]:
    yield f"On the Tentacle at {machine.uri}/, as an administrator; THUMBPRINT is what Octopus shows under"
    yield "Configuration > Thumbprint, for it is Octopus itself that the Tentacle meets"
    for program, system in ((_WINDOWS, "Windows"), (_LINUX, "Linux")):
        yield ""
        yield f"  {system}:"
        yield f"    {program} configure --trust THUMBPRINT"
        yield f"    {program} service --restart"
        yield f"    {program} show-thumbprint"
    yield ""
    yield "  The last command prints the thumbprint that Octopus has to have. The relay passes this machine's connections"
    yield f"  through, and looks at no certificate ({machine.places.of('passthrough')})."


def _proxied_lines(found: Instructions, proxied: Proxied, config: Path) -> Iterator[str]:
    yield "In Octopus, with the relay as the machine's proxy: Infrastructure > Proxies > Add Proxy, once for all machines"
    yield ""
    yield f"  Host          {proxied.proxy.address.host}{_source(proxied.proxy)}"
    yield f"  Port          {proxied.proxy.address.port}"
    yield f"  Username      {f'one of those in {proxied.credentials}, with its password' if proxied.credentials else 'none'}"
    yield ""
    yield "then Infrastructure > Deployment Targets > Add Deployment Target > Listening Tentacle, with that proxy"
    yield "(for a worker: Infrastructure > Workers > Add Worker > Listening Tentacle)"
    yield ""
    yield f"  Hostname      {proxied.target.host}"
    yield f"  Port          {proxied.target.port}"
    yield f"  Thumbprint    {_thumbprint(found.identity, config)}"
    yield f"  Tentacle URL  {proxied.uri}"
    yield ""
    whose = "the one that the relay shows, not the Tentacle's own" if found.identity else "the one that show-thumbprint prints"
    yield f"  The thumbprint is {whose}. In its REST API the proxy is"
    yield f"  Endpoint.ProxyId, beside Endpoint.Uri and Endpoint.Thumbprint, with Endpoint.CommunicationStyle {STYLE}."
    yield ""


def _tentacle_lines(found: Instructions, config: Path) -> Iterator[str]:
    machine = found.machine
    if machine.passthrough:
        yield from _passed_through_lines(machine)
        return
    where = f"at {machine.uri}/" if machine.tentacle else f"with the subscription {machine.uri}"
    yield f"On the Tentacle {where}, as an administrator"
    for program, system in ((_WINDOWS, "Windows"), (_LINUX, "Linux")):
        yield ""
        yield f"  {system}:"
        for words in _commands(found):
            yield f"    {program} {words}"
    for trusted in found.trusts:
        if trusted.identity is None:
            yield ""
            yield f"  The identity of the {trusted.entry}, which it has to trust: {_thumbprint(trusted, config)}"
    yield ""
    pins = " or ".join(map(str, machine.thumbprints))
    yield f"  The last command has to print {pins}:"
    yield f"  that is what the relay accepts ({machine.places.of('thumbprint', 'thumbprints')})."
    if found.back:
        yield from _poller_lines(found, found.back)


def _commands(found: Instructions) -> Iterator[str]:
    """What Tentacle is told, without its own name."""
    for trusted in found.trusts:
        if trusted.identity:
            yield f"configure --trust {trusted.identity.thumbprint}"
            if found.back:
                host, _, port = str(found.back.address).rpartition(":")  # Tentacle makes a URI of them: IPv6 in brackets
                at = f"--host {host} --port {port}"
                yield f"server-comms --thumbprint {trusted.identity.thumbprint} --style {POLLING_STYLE} {at}"
    if found.back and found.connections > 1:
        yield f"set-polling-connection-count --pollingConnectionCount {found.connections}"
    yield "service --restart"
    if found.back:
        yield "show-configuration"
    yield "show-thumbprint"


def _poller_lines(found: Instructions, back: Way) -> Iterator[str]:
    """server-comms adds a server, and takes the id from another one only where that has the same thumbprint."""
    machine = found.machine
    yield ""
    yield f"  The one before shows a SubscriptionId beside the relay's thumbprint, and it has to be {machine.uri}"
    yield f"  ({machine.places.of('tentacle')}). server-comms makes a new id for a thumbprint that the Tentacle has not polled"
    yield "  before: write that one there, as `tentacle`, and run `relay-tentacle reload`."
    yield ""
    yield "  server-comms replaces nothing that the Tentacle polls already. With the --host and --port of a further relay that"
    yield "  shows the same thumbprint it adds that one, with the same id. So does, in a Tentacle that trusts the relay first"
    at = f"--server-comms-address https://HOST --server-comms-port {back.address.port}"
    yield f"    poll-server --reuse-server-thumbprint {at}"
    yield "  but without --reuse-server-thumbprint it would ask an Octopus Server for a thumbprint, and the relay is none."
    if found.connections > 1:
        yield ""
        yield f"  Let it poll with {found.connections} connections or more, one for each Octopus node: a call of one node then"
        yield "  never waits for one of another. A Tentacle that does not know set-polling-connection-count takes the number"
        yield f"  from the environment of its service: TentaclePollingConnectionCount={found.connections}"


def _source(way: Way) -> str:
    return "  (a guess, the name of this host: say a better one with --address)" if way.source == "guessed" else ""


def _print_table(found: Sequence[Instructions], config: Path) -> None:
    rows = [
        (each.machine.name, uri, _thumbprint(each.identity, config), _tentacle(each.machine), _trusts(each, config))
        for each in found
        for uri in _uris(each)
    ]
    print_table(("MACHINE", "URL IN OCTOPUS", "THUMBPRINT IN OCTOPUS", "TENTACLE", "WHICH HAS TO TRUST"), rows)
    if any(way.source == "guessed" for each in found for way in (*each.ways, *((each.proxied.proxy,) if each.proxied else ()))):
        click.echo("\nThe host in the URLs is a guess, the name of this host. Say how Octopus calls it with --address HOST.")


def _uris(found: Instructions) -> Iterator[str]:
    yield from (way.uri for way in found.ways)
    if found.proxied:
        yield f"{found.proxied.uri} by the proxy {found.proxied.proxy.address}"
    if found.polling:
        yield _subscription(found)


def _tentacle(machine: Machine) -> str:
    return f"{machine.uri}/" if machine.tentacle else machine.uri


def _trusts(found: Instructions, config: Path) -> str:
    if found.machine.passthrough:
        return "Octopus's own"
    return ", ".join(_thumbprint(trusted, config) for trusted in found.trusts)


def _as_dict(found: Instructions) -> dict[str, object]:
    identity = found.identity
    thumbprint = identity and identity.identity and str(identity.identity.thumbprint)
    return {
        "machine": found.machine.name,
        "in_octopus": [
            {
                "hostname": way.address.host,
                "port": way.address.port,
                "hostname_is": way.source,
                "endpoint": {"CommunicationStyle": STYLE, "Uri": way.uri, "Thumbprint": thumbprint},
            }
            for way in found.ways
        ],
        "proxied": found.proxied
        and {
            "proxy": {
                "hostname": found.proxied.proxy.address.host,
                "port": found.proxied.proxy.address.port,
                "hostname_is": found.proxied.proxy.source,
                "credentials": str(found.proxied.credentials) if found.proxied.credentials else None,
            },
            "endpoint": {"CommunicationStyle": STYLE, "Uri": found.proxied.uri, "Thumbprint": thumbprint},
        },
        "polled": found.polling
        and {
            "nodes": [f"https://{node}/" for node in found.polling.nodes],
            "connections": found.polling.connections,
            "endpoint": {"CommunicationStyle": POLLING_STYLE, "Uri": found.polling.uri, "Thumbprint": thumbprint},
        },
        "identity": identity and {"file": str(identity.file), "problem": identity.problem or None},
        "passthrough": found.machine.passthrough,
        "tentacle": {
            "uri": _tentacle(found.machine),
            "polls": found.back and f"https://{found.back.address}",
            "least_connections": found.connections if found.back else None,
            "pins": [str(pin) for pin in found.machine.thumbprints],
            "trusts": [
                {
                    "octopus": trusted.entry.name,
                    "thumbprint": str(trusted.identity.thumbprint) if trusted.identity else None,
                    "problem": trusted.problem or None,
                }
                for trusted in found.trusts
            ],
        },
    }
