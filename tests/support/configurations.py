"""Configurations by Hypothesis: right ones of every shape, and the same with something broken in them."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

PORTS = 6  # that a configuration may use


@dataclass(frozen=True)
class Written:
    """The files of a configuration by name; relay.yaml is the main one. identities: the files of keys that it names."""

    files: dict[str, str]
    identities: tuple[str, ...]

    def write(self, folder: Path) -> Path:
        """Puts the files there; the main one."""
        (folder / "machines.d").mkdir()
        for name, text in self.files.items():
            (folder / name).write_text(text, "utf-8")
        return folder / "relay.yaml"


@st.composite
def thumbprint(draw: st.DrawFn, number: int) -> str:
    """That of this number, in any spelling and of either length."""
    digits = f"{number:0{draw(st.sampled_from([40, 64]))}x}"
    separator = draw(st.sampled_from(["", ":", " ", "-"]))
    text = separator.join(digits[index : index + 2] for index in range(0, len(digits), 2))
    return draw(st.sampled_from([text, text.upper()]))


@st.composite
def pins(draw: st.DrawFn, number: int) -> dict[str, object]:
    """Under either key, one or several."""
    key = draw(st.sampled_from(["thumbprint", "thumbprints"]))
    several = draw(st.booleans())
    return {key: [draw(thumbprint(number)), draw(thumbprint(number + 500))] if several else draw(thumbprint(number))}


def some(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these keys."""
    return st.fixed_dictionaries({}, optional=values)


def duration(least: int, most: int) -> st.SearchStrategy[str]:
    """In milliseconds, in several spellings."""
    return st.integers(least, most).flatmap(
        lambda ms: st.sampled_from([f"{ms}ms", f"{ms / 1000:.3f}s", f"{ms // 1000}s {ms % 1000} ms"])
    )


COUNT = st.integers(1, 10_000) | st.just("1_000")
LIMITS = some(
    {
        "connections": COUNT,
        "envelope": st.sampled_from([1, 65536, "64MiB", "1.5 GiB", "10MB"]),
        "waiting": st.integers(1, 10_000),
    }
)
# ready is always more than connect and prove, whether it stands in the same section, in the other one, or nowhere.
TIMEOUTS = some(
    {
        "ready": duration(30_000, 59_999),
        "connect": duration(1, 29_999),
        "prove": duration(1, 29_999),
        "back_idle": duration(1, 55_000),
        "front_idle": duration(1000, 3_600_000),
    }
)
SETTINGS = some({"limits": LIMITS, "timeouts": TIMEOUTS})


@st.composite
def relay_section(draw: st.DrawFn) -> dict[str, Any]:
    more = some(
        {
            "log_level": st.sampled_from(["debug", "info", "warning", "error"]),
            "access_log": st.sampled_from(["-", "access.jsonl"]),
            "limits": some({"connections": st.integers(1, 1_000_000), "handshakes": st.integers(1, 1_000_000)}),
            "timeouts": some(
                {"client_hello": duration(1, 9_999), "identify": duration(10_000, 60_000), "drain": duration(0, 3_600_000)}
            ),
        }
    )
    return {"name": draw(st.sampled_from(["dc-east", "r", "0815"])), "state": "state", **draw(more)}


def doors(ports: list[int], ipv6: bool) -> list[str | int]:
    """Doors of which no two overlap: one of every interface, many of one address each, and one of each family."""
    loopback = [f"127.0.0.{last}:{ports[1]}" for last in range(1, 7)]
    other = [f"[::1]:{ports[1]}", f"[::]:{ports[2]}"] if ipv6 else []
    return [ports[0], *loopback, *other[:1], f"0.0.0.0:{ports[2]}"]


@st.composite
def configuration(draw: st.DrawFn, ports: list[int], ipv6: bool) -> dict[str, Any]:
    """The data of a right main file, with all machines in it."""
    names = draw(st.lists(st.sampled_from(["production", "Staging", "test.1"]), min_size=1, max_size=3, unique=True))
    octopus = [
        {"name": name, **draw(pins(index)), **draw(some({"identity": st.just("octopus.pem")})), **draw(nodes(index))}
        for index, name in enumerate(names)
    ]
    data: dict[str, Any] = {"relay": draw(relay_section()), "octopus": octopus}
    if front := draw(st.booleans()):
        hosts = ["", "127.0.0.1:", "0.0.0.0:", *(["[::1]:", "[::]:"] if ipv6 else [])]
        data["front"] = {"listen": f"{draw(st.sampled_from(hosts))}{ports[3]}", **draw(some({"connect": st.booleans()}))}
    connect = front and data["front"].get("connect", False)
    admin = draw(st.sampled_from([None, {}, {"listen": "none"}, {"listen": ports[4]}, {"listen": f"0.0.0.0:{ports[4]}"}]))
    if admin is not None:
        data["admin"] = admin
    data |= draw(some({"version": st.just(1), "defaults": SETTINGS}))
    if back := draw(st.booleans()):
        named = {"octopus": draw(st.sampled_from(names))} if len(names) > 1 or draw(st.booleans()) else {}
        data["back"] = {"listen": ports[5], **named}
    polled = [entry["name"] for entry in octopus if "nodes" in entry]
    free = draw(st.permutations(doors(ports, ipv6)))
    machines = [draw(machine(index, names, free, front, connect)) for index in range(draw(st.integers(0, 5)))]
    data["machines"] = [
        draw(st.one_of(polling(index, each, polled, back), passed_through(each))) for index, each in enumerate(machines)
    ]
    return data


@st.composite
def nodes(draw: st.DrawFn, index: int) -> dict[str, Any]:
    """Of an octopus entry, if it has any. Nobody listens there."""
    if not draw(st.booleans()):
        return {}
    several = [f"https://127.0.0.1:{index + 1}", f"https://127.0.0.2:{index + 1}/"]
    more = some({"node_connections": st.integers(1, 512), "proxy": st.just("http://127.0.0.1:9")})
    return {"nodes": draw(st.sampled_from([several, several[0]])), **draw(more)}


@st.composite
def polling(draw: st.DrawFn, index: int, entry: dict[str, Any], polled: list[str], back: bool) -> dict[str, Any]:
    """The same machine with a side that polls, or two, where there are nodes and a door for it."""
    if back and {"port", "host", "connect"} & set(entry) and draw(st.booleans()):  # a target by default is of those that listen
        entry["tentacle"] = draw(st.sampled_from([f"poll://SQ-{index}/", f"POLL://sq-{index}"]))
        for key in ("connect", "prove", "back_idle"):  # of those that listen
            entry.get("timeouts", {}).pop(key, None)
    if polled and draw(st.booleans()):
        entry |= {"front": "polling", "octopus": [*polled]}
        if entry["tentacle"].startswith("https"):
            entry |= draw(some({"subscription": st.just(f"poll://web{index}/")}))
        if draw(st.booleans()):
            entry.pop("port", None)
            entry.pop("host", None)
    return entry


@st.composite
def passed_through(draw: st.DrawFn, entry: dict[str, Any]) -> dict[str, Any]:
    """The same machine with TLS between Octopus and its Tentacle."""
    kept = {key: value for key, value in entry.items() if key in ("name", "tentacle", "port", "host")}
    settings = some({"limits": some({"connections": COUNT}), "timeouts": some({"connect": duration(1, 60_000)})})
    return {**kept, "passthrough": draw(st.sampled_from([True, "true", "TRUE"])), **draw(settings)}


@st.composite
def machine(
    draw: st.DrawFn, index: int, octopus: list[str], free: list[str | int], front: bool, connect: bool
) -> dict[str, Any]:
    """One with a thumbprint and an address of its own; its door is the one of its index."""
    entry: dict[str, Any] = {"name": f"web{index:02}", "tentacle": f"https://tentacle{index}.internal:10933"}
    entry |= draw(pins(1000 + index))
    entry |= draw(SETTINGS)
    entry |= draw(some({"identity": st.just(f"web{index:02}.pem")}))
    if connect:
        entry |= draw(some({"connect": st.sampled_from(["none", f"Web{index}.target", f"[2001:db8::{index}]:1"])}))
    ways = draw(st.sampled_from(["port", "host", "both"])) if front else "port"
    if connect and entry.get("connect") != "none" and entry["tentacle"].startswith("https") and draw(st.booleans()):
        ways = "none"
    if ways in ("port", "both"):
        entry["port"] = free[index]
    if ways in ("host", "both"):
        entry["host"] = draw(st.sampled_from([f"web{index}.relay.corp", f"WEB{index}.Relay.Corp."]))
    if len(octopus) > 1 or draw(st.booleans()):
        allowed = draw(st.lists(st.sampled_from(octopus), min_size=1, unique=True))
        entry["octopus"] = allowed[0] if len(allowed) == 1 and draw(st.booleans()) else allowed
    return entry


@st.composite
def written(draw: st.DrawFn, data: dict[str, Any]) -> Written:
    """The configuration as files: its machines are in the main one, in included ones, or in both."""
    data = copy.deepcopy(data)
    machines = data.get("machines")
    files: dict[str, str] = {}
    if isinstance(machines, list) and (not machines or draw(st.booleans())):
        cuts = sorted(draw(st.lists(st.integers(0, len(machines)), min_size=2, max_size=2)))
        data["machines"] = machines[: cuts[0]]
        parts = [machines[cuts[0] : cuts[1]], machines[cuts[1] :]]
        files = {f"machines.d/{name}.yaml": dump(draw, {"machines": part}) for name, part in zip("ab", parts, strict=True)}
        data["include"] = draw(st.sampled_from(["machines.d/*.yaml", ["machines.d/b.yaml", "machines.d/*.y?ml"], [*files]]))
        if not data["machines"] and draw(st.booleans()):
            del data["machines"]
    files["relay.yaml"] = dump(draw, data)
    identities = [entry.get("identity") for entry in [*data["octopus"], *(machines or ())] if isinstance(entry, dict)]
    return Written(files, tuple({str(name) for name in identities if isinstance(name, str | int)}))


def dump(draw: st.DrawFn, data: object) -> str:
    return yaml.safe_dump(data, default_flow_style=draw(st.sampled_from([None, True, False])), sort_keys=draw(st.booleans()))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [inner for key, each in items for inner in ((*path, key), *places(each, (*path, key)))]


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


@st.composite
def broken(draw: st.DrawFn, data: dict[str, Any]) -> dict[str, Any]:
    """With one or two things taken out, put twice, exchanged, or replaced. It may be right all the same."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(data)))
        section, key = at(data, path[:-1]), path[-1]
        change = draw(st.sampled_from(["remove", "replace", "copy", "add"]))
        if change == "remove":
            del section[key]
        elif change == "replace":
            section[key] = draw(st.sampled_from(["", "x", None, [], {}, 0, "45s", "web00", ["production"], "f" * 40]))
        elif change == "add" and isinstance(section, dict):
            section[draw(st.sampled_from(["colour", "listen", "host", "port", "identity", "octopus", "passthrough"]))] = "x"
        else:
            # The value of the same key somewhere else: what was unique is not any more.
            others = [other for other in places(data) if other[-1:] == path[-1:]]
            section[key] = copy.deepcopy(at(data, draw(st.sampled_from(others))))
        if not data:
            break
    return data
