"""Which scripts of a Tentacle may run at the same time: an isolated one runs alone under its mutex name (wire.md 9.1)."""

from collections import deque

from twisted.internet.defer import Deferred


class Mutex:
    """Shared by scripts without isolation, held alone by one with; first come, first served."""

    def __init__(self) -> None:
        self._holders = 0
        self._alone = False
        self._queue: deque[tuple[bool, Deferred[None]]] = deque()

    def acquire(self, *, alone: bool) -> Deferred[None]:
        """Fires when the mutex is held; cancel it to wait no longer."""
        waiting: Deferred[None] = Deferred(self._forget)
        self._queue.append((alone, waiting))
        self._admit()
        return waiting

    def release(self) -> None:
        """Give up what `acquire` gave."""
        self._holders -= 1
        self._alone = False
        self._admit()

    def _forget(self, waiting: Deferred[None]) -> None:
        self._queue = deque(entry for entry in self._queue if entry[1] is not waiting)
        self._admit()

    def _admit(self) -> None:
        while self._queue and not self._alone and not (self._queue[0][0] and self._holders):
            alone, waiting = self._queue.popleft()
            self._holders += 1
            self._alone = alone
            waiting.callback(None)
