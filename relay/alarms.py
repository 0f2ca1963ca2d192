"""One timer for all of the thousands who wait for 30 s or for 60: each with its own, they cost more than what is due then.

Time is cut into halves of a second. Whoever is due in one is woken at its start, together with all others of it: never late,
and early by less than half a second. A process that has slept for so long finds nothing of its memory in the CPU's caches:
waking it twice a second for many costs a fraction of waking it for each.
"""

from typing import Final, Protocol

from relay.clock import Clock, Timer

SLOT: Final = 0.5  # seconds; a power of two, so that no multiple of it is rounded
AT_ONCE: Final = 16  # that are woken before calls have their turn


class Sleeper(Protocol):
    """Whoever has set an alarm."""

    def wake(self, until: float) -> None:
        """Its alarm is over. until: seconds of the clock; what is due before that is to be done now."""


class Alarms:
    """See above."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: dict[int, set[Sleeper]] = {}
        self._waking: set[Sleeper] = set()
        self._timer: Timer | None = None
        self._armed = 0  # the slot that the timer is for

    def set(self, sleeper: Sleeper, when: float) -> int:
        """Wakes it once, in the slot of this time; the number of that slot is returned, and is what forget() wants.

        A sleeper has one alarm at most.
        """
        slot = int(when / SLOT)
        sleepers = self._slots.get(slot)
        if sleepers is None:
            self._slots[slot] = {sleeper}
            if self._timer is None or slot < self._armed:
                self._arm()
        else:
            sleepers.add(sleeper)
        return slot

    def forget(self, sleeper: Sleeper, slot: int) -> None:
        """It sleeps on."""
        self._waking.discard(sleeper)
        sleepers = self._slots.get(slot)
        if sleepers is not None:
            sleepers.discard(sleeper)
            if not sleepers:
                del self._slots[slot]
                self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waking or self._slots:
            self._armed = 0 if self._waking else min(self._slots)
            self._timer = self._clock.callLater(max(0.0, self._armed * SLOT - self._clock.seconds()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = int(self._clock.seconds() / SLOT)
        for slot in [slot for slot in self._slots if slot <= now]:
            self._waking |= self._slots.pop(slot)
        left = AT_ONCE
        try:
            while self._waking and left:
                left -= 1
                self._waking.pop().wake((now + 1) * SLOT)
        finally:  # what one of them raises is the reactor's to log, and no matter of the others
            self._arm()
