"""What the kernel holds of TCP connections, at both ends: it lets its buffers grow as it likes, to tens of megabytes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

Ends = tuple[tuple[str, int], tuple[str, int]]


def queued(connections: Iterable[Ends]) -> int:
    """Bytes that were written and not read yet: sent and not acknowledged, or acknowledged and waiting. All of loopback."""
    ports = {frozenset((one[1], other[1])) for one, other in connections}
    found = 0
    for table in _TABLES:
        for line in table.read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if frozenset(int(end.rpartition(":")[2], 16) for end in (local, remote)) in ports:
                found += sum(int(queue, 16) for queue in queues.split(":"))
    return found
