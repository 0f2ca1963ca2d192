"""``relay-tentacle identity rotate``: another key and certificate, in steps."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from certs.errors import CertificateError
from certs.identity import Identity
from relay import rotating, running
from relay.cli.configuration import config_option, load_or_exit
from relay.cli.exits import NOT_FINE, fail
from relay.cli.identity_asked import asked, described, json_option, name_argument, open_store
from relay.cli.rotate_texts import after, headline, next_steps
from relay.cli.tables import print_table
from relay.cli.waiting import wait_for
from relay.identities import Entry
from relay.rotating import Action, Ask, Step
from relay.running import Reloaded
from relay.trust import Trust, told_by_relay, who_trusts
from routing.table import Machine, Table


@click.command()
@name_argument
@click.option(
    "--tentacle-side", is_flag=True, help="The octopus entry NAME: what its Tentacles see. A single entry needs no NAME."
)
@click.option("--activate", is_flag=True, help="Use the new identity from now on.")
@click.option("--cancel", is_flag=True, help="Delete the new identity, before it is in use.")
@click.option("--back", is_flag=True, help="Use the identity from before again.")
@click.option("--force", is_flag=True, help="With --tentacle-side: activate although not every Tentacle is known to trust it.")
@json_option
@config_option
def rotate(
    name: str | None,
    tentacle_side: bool,
    activate: bool,
    cancel: bool,
    back: bool,
    force: bool,
    as_json: bool,
    config: Path,
) -> None:
    """Replace the identity of the machine NAME, or with --tentacle-side of the octopus entry NAME, in two steps.

    First a new identity is made, which nobody is shown yet, and whose thumbprint the other side must be told; the same command
    shows it again. With --tentacle-side, each Tentacle is asked whether it trusts it yet. Then --activate uses it, and tells a
    running relay. Exit code 1: the step could not be done.
    """
    flags: dict[Action, bool] = {"activate": activate, "cancel": cancel, "back": back}
    actions = [word for word, given in flags.items() if given]
    if len(actions) > 1:
        fail(f"--{actions[0]} and --{actions[1]} are given. Give one of them.")
    action: Action = actions[0] if actions else "prepare"
    if force and not (tentacle_side and activate):
        fail("--force belongs to --tentacle-side --activate.")
    table = load_or_exit(config)
    entry = _entry(table, name, tentacle_side)
    try:
        step = rotating.rotate(table, open_store(table), entry, action, force, _asking(table, quiet=as_json))
    except CertificateError as error:
        fail(str(error), NOT_FINE)
    if as_json:
        click.echo(json.dumps(_as_dict(step), indent=2))
    else:
        _print(table, step)
    if step.reloaded and step.reloaded.problem:
        click.echo(f"relay-tentacle: the running relay does not show it yet: {step.reloaded.problem}", err=True)
    if not step.fine:
        sys.exit(NOT_FINE)


def _entry(table: Table, name: str | None, tentacle_side: bool) -> Entry:
    if name is None and tentacle_side and len(table.octopus) == 1:
        name = table.octopus[0].name
    if name is None:
        known = [each.name for each in (table.octopus if tentacle_side else table.machines)]
        fail(f"of which {'octopus entry' if tentacle_side else 'machine'}? Give its name: {', '.join(known[:5])}.")
    if not tentacle_side and table.machine(name) is None and any(octopus.name == name for octopus in table.octopus):
        fail(f"{name} is an octopus entry, and its Tentacles see its identity. Give --tentacle-side, too.")
    entry = asked(table, None, None if tentacle_side else name, name if tentacle_side else None)
    assert entry is not None
    return entry


def _asking(table: Table, quiet: bool) -> Ask:
    """Asks the Tentacles, and says on a terminal how far it is."""

    def ask(machines: list[Machine], new: Identity, current: Identity) -> list[Trust]:
        hidden = quiet or not sys.stderr.isatty()
        with click.progressbar(length=len(machines), label="asking the Tentacles", file=sys.stderr, hidden=hidden) as bar:
            found = wait_for(lambda reactor: who_trusts(reactor, machines, new, current, lambda _: bar.update(1)))
        if all(machine.tentacle for machine in machines):
            return found
        return told_by_relay(found, running.machines(table.relay.state))

    return ask


def _print(table: Table, step: Step) -> None:
    rotation = step.rotation
    rows = [("in use", rotation.current), ("new", rotation.next), ("before", rotation.old)]
    click.echo(f"{step.entry}: {headline(step)}")
    for word, identity in rows:
        if identity:
            click.echo(f"  {word:<7} {identity.thumbprint}")
    if step.trusts is not None:
        click.echo()
        print_table(
            ("MACHINE", "TENTACLE", "TRUSTS THE NEW ONE", "WHY NOT"),
            [(each.machine.name, _tentacle(each), _word(each), _why(each)) for each in step.trusts],
        )
    click.echo("\n" + (next_steps(table, step) if step.result in ("prepared", "waits", "refused") else after(table, step)))


def _tentacle(trust: Trust) -> str:
    return str(trust.machine.tentacle or trust.machine.uri)


def _word(trust: Trust) -> str:
    return {True: "yes", False: "no", None: "unknown"}[trust.trusts]


def _why(trust: Trust) -> str:
    if trust.trusts:
        return ""
    return trust.detail if trust.outcome is None or trust.trusts is False else f"{trust.outcome.value}: {trust.detail}"


def _as_dict(step: Step) -> dict[str, Any]:
    rotation = step.rotation
    there = {"current": rotation.current, "next": rotation.next, "old": rotation.old}
    return {
        "kind": step.entry.kind,
        "name": step.entry.name,
        "result": step.result,
        **{word: described(identity) if identity else None for word, identity in there.items()},
        "trust": None if step.trusts is None else [_trust_as_dict(trust) for trust in step.trusts],
        "all_trust": None if step.trusts is None else all(trust.trusts for trust in step.trusts),
        "reload": step.reloaded.word if step.reloaded else None,
        "reload_problem": (step.reloaded.problem or None) if step.reloaded else None,
        "reload_changes": _changes(step.reloaded),
    }


def _changes(reloaded: Reloaded | None) -> dict[str, list[str]] | None:
    if reloaded is None or reloaded.word != "done":
        return None
    return {"added": list(reloaded.added), "changed": list(reloaded.changed), "removed": list(reloaded.removed)}


def _trust_as_dict(trust: Trust) -> dict[str, Any]:
    return {
        "machine": trust.machine.name,
        "tentacle": _tentacle(trust),
        "trusts": trust.trusts,
        "outcome": trust.outcome.value if trust.outcome else None,
        "detail": trust.detail or None,
    }
