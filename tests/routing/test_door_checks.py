"""Doors, names at the shared door, and addresses at which the relay would meet itself."""

from pathlib import Path

import pytest
from configuration_text import C, configuration, machine, read, two

TAKEN = (
    "machines[0] on line 5 has this door: a caller there could mean either. "
    "Give each machine its own port, or its own IP address."
)

BAD = {
    "one port twice": (two(11001, 11001), f"6: machines[1].port: '11001': {TAKEN}"),
    "every interface and one": (two(11001, "127.0.0.1:11001"), f"6: machines[1].port: '127.0.0.1:11001': {TAKEN}"),
    "one interface and every": (two("127.0.0.1:11001", 11001), f"6: machines[1].port: '11001': {TAKEN}"),
    "every interface and one of IPv6": (two(11001, "[::1]:11001"), f"6: machines[1].port: '[::1]:11001': {TAKEN}"),
    "every IPv4 interface and one": (
        two("0.0.0.0:11001", "10.0.0.1:11001"),
        f"6: machines[1].port: '10.0.0.1:11001': {TAKEN}",
    ),
    "one and every IPv4 interface": (
        two("10.0.0.1:11001", "0.0.0.0:11001"),
        f"6: machines[1].port: '0.0.0.0:11001': {TAKEN}",
    ),
    "all of IPv6 takes IPv4 too": (two("[::]:11001", "10.0.0.1:11001"), f"6: machines[1].port: '10.0.0.1:11001': {TAKEN}"),
    "IPv4 and all of IPv6": (two("10.0.0.1:11001", "[::]:11001"), f"6: machines[1].port: '[::]:11001': {TAKEN}"),
    "one address in two spellings": (
        two("[2001:db8::1]:11001", "[2001:DB8:0::1]:11001"),
        f"6: machines[1].port: '[2001:db8::1]:11001': {TAKEN}",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_doors_that_overlap(case: str, tmp_path: Path) -> None:
    text, said = BAD[case]
    assert read(text, tmp_path) == [said]


LOOPS = [
    ("https://127.0.0.1:11001", 11001),
    ("https://localhost:11001", 11001),
    ("https://localhost.:11001", 11001),
    ("https://LOCALHOST:11001", "127.0.0.1:11001"),
    ("https://[::1]:11001", 11001),
    ("https://[::1]:11001", "[::]:11001"),
    ("https://127.0.0.1:11001", "0.0.0.0:11001"),
    ("https://127.1.2.3:11001", "127.1.2.3:11001"),
    ("https://localhost:11001", "[::1]:11001"),
    ("https://10.0.0.5:11001", "10.0.0.5:11001"),
]


@pytest.mark.parametrize(("tentacle", "port"), LOOPS)
def test_a_relay_does_not_call_itself(tentacle: str, port: object, tmp_path: Path) -> None:
    (said,) = read(configuration(machines=machine("web01", port, tentacle=tentacle)), tmp_path)
    assert said == (
        f"5: machines[0].tentacle: '{tentacle.lower()}': the relay's own door, machines[0] on line 5: "
        "it would call itself. Write the address of the Tentacle."
    )


def test_the_door_of_another_machine_is_a_loop_too(tmp_path: Path) -> None:
    text = configuration(machines=machine("web01", 11001) + "\n" + machine("web02", 11002, tentacle="https://127.0.0.1:11001"))
    (said,) = read(text, tmp_path)
    assert said.startswith("6: machines[1].tentacle: 'https://127.0.0.1:11001': the relay's own door, machines[0] on line 5:")


@pytest.mark.parametrize("front", ["10933", "127.0.0.1:10933", "'[::1]:10933'"])
def test_the_shared_door_is_the_relays_own(front: str, tmp_path: Path) -> None:
    text = configuration(machines=machine("w", 11001, tentacle="https://localhost")) + f"front: {{listen: {front}}}\n"
    (said,) = read(text, tmp_path)
    assert said == (
        "5: machines[0].tentacle: 'https://localhost:10933': the relay's own door, front.listen on line 6: "
        "it would call itself. Write the address of the Tentacle."
    )


def test_a_wrong_address_of_the_metrics_is_not_taken_for_the_usual_one(tmp_path: Path) -> None:
    for admin, start in [
        ("{listen: '127.0.0.1:x'}", "6: admin.listen: '127.0.0.1:x': not a port from 1 to 65535."),
        ("9933", "6: admin: '9933': not a mapping."),
        ("{liste: 9934}", "6: admin.liste: unknown key. Did you mean listen?"),
    ]:
        said = read(configuration(machines=machine("w", 9933)) + f"admin: {admin}\n", tmp_path)
        assert len(said) == 1, said
        assert said[0].startswith(start)


FRONT = "front: {listen: 10933}\n"
BOTH = machine("w1", 11001, ", host: w1.relay") + "\n" + machine("w2", 11002, ", host: w2.relay")
GOOD = {
    "one port on several addresses": two("127.0.0.1:11001", "127.0.0.2:11001"),
    "one port on IPv4 and IPv6": two("127.0.0.1:11001", "[::1]:11001"),
    "every IPv4 interface and one of IPv6": two("0.0.0.0:11001", "[::1]:11001"),
    "a Tentacle on this host": configuration(machines=machine("w", 11001, tentacle="https://127.0.0.1:10933")),
    "a Tentacle on a loopback address without a door": configuration(
        machines=machine("w", "127.0.0.1:11001", tentacle="https://127.0.0.2:11001")
    ),
    "a Tentacle elsewhere on a door's port": configuration(machines=machine("w", 11001, tentacle="https://10.0.0.5:11001")),
    "a port and a host": configuration(machines=BOTH) + FRONT,
    "a host alone": configuration(machines="{name: w, tentacle: 'https://t', thumbprint: " + C + ", host: w}") + FRONT,
    "a shared door without names": configuration() + FRONT,
    "a host that is the Tentacle's own name, for a relay with other DNS": configuration(
        machines=machine("w", 11001, ", host: w.corp", tentacle="https://w.corp")
    )
    + FRONT,
    "metrics elsewhere": configuration(machines=machine("w", 9933)) + "admin: {listen: 9934}\n",
    "no metrics": configuration(machines=machine("w", 9933)) + "admin: {listen: none}\n",
    "metrics beside a door of another address": configuration(machines=machine("w", "10.0.0.1:9933")),
    "a Tentacle at the port of metrics that are off": configuration(machines=machine("w", 1, tentacle="https://127.0.0.1:9933"))
    + "admin: {listen: none}\n",
}


@pytest.mark.parametrize("case", GOOD)
def test_doors_that_can_be_told_apart(case: str, tmp_path: Path) -> None:
    assert read(GOOD[case], tmp_path) == []


def test_ten_thousand_doors_that_are_one(tmp_path: Path) -> None:
    """Each is compared with a few others, not with all."""
    entries = "\n".join(machine(f"w{number}", 11001) for number in range(10_000))
    said = read(configuration(machines=entries), tmp_path)
    assert len(said) == 9999
    assert all("machines[0] on line 5 has this door" in line for line in said)
