import pytest
from twisted.internet.task import Clock

from relay.alarms import AT_ONCE, SLOT, Alarms


class Scene:
    """Alarms, and when each sleeper was woken."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.alarms = Alarms(self.clock)
        self.woken: list[tuple[str, float, float]] = []

    def sleeper(self, name: str, after: float) -> "Sleeper":
        sleeper = Sleeper(self, name)
        sleeper.slot = self.alarms.set(sleeper, self.clock.seconds() + after)
        return sleeper

    def names(self) -> list[str]:
        names = sorted(name for name, _, _ in self.woken)
        self.woken.clear()
        return names


class Sleeper:
    slot = 0

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene = scene
        self.name = name

    def wake(self, until: float) -> None:
        self.scene.woken.append((self.name, self.scene.clock.seconds(), until))


class Faulty(Sleeper):
    def wake(self, until: float) -> None:
        super().wake(until)
        raise ValueError(self.name)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("after", [30, 30.1, 30.49, 30.5, 31.3])
def test_nobody_is_woken_late_or_early_by_a_slot(scene: Scene, after: float) -> None:
    scene.sleeper("one", after)
    while not scene.woken:
        scene.clock.advance(0.01)
    [(_, at, until)] = scene.woken
    due = 1000 + after
    assert due - SLOT < at < due + 0.011  # the clock's step
    assert due < until <= due + SLOT


def test_all_of_a_slot_have_one_timer(scene: Scene) -> None:
    for number in range(10):
        scene.sleeper(str(number), 30 + number * SLOT / 10)
        scene.sleeper(str(number), 60)
    assert len(scene.clock.getDelayedCalls()) == 1
    scene.clock.advance(30)
    assert len(scene.names()) == 10
    scene.clock.advance(30)
    assert len(scene.names()) == 10
    assert scene.clock.getDelayedCalls() == []


def test_whoever_is_due_first_is_woken_first(scene: Scene) -> None:
    scene.sleeper("late", 60)
    scene.sleeper("soon", 5)
    scene.sleeper("overdue", -5)
    scene.clock.advance(0)
    assert scene.names() == ["overdue"]
    scene.clock.advance(5)
    assert scene.names() == ["soon"]


def test_what_was_missed_comes_at_once(scene: Scene) -> None:
    """The process stood still."""
    for after in (3, 4, 5):
        scene.sleeper(str(after), after)
    scene.clock.advance(10)
    assert [(at, until) for _, at, until in scene.woken] == [(1010, 1010 + SLOT)] * 3


def test_one_that_is_forgotten_sleeps_on(scene: Scene) -> None:
    one, two = scene.sleeper("one", 10), scene.sleeper("two", 10)
    scene.alarms.forget(one, one.slot)
    scene.alarms.forget(one, one.slot)
    scene.clock.advance(10)
    assert scene.names() == ["two"]
    scene.alarms.forget(two, two.slot)
    three = scene.sleeper("three", 10)
    scene.alarms.forget(three, three.slot)
    assert scene.clock.getDelayedCalls() == []


def test_one_that_another_makes_sleep_on_is_not_woken(scene: Scene) -> None:
    class Jealous(Sleeper):
        def wake(self, until: float) -> None:
            super().wake(until)
            for other in others:
                scene.alarms.forget(other, other.slot)

    others = [Jealous(scene, str(number)) for number in range(5)]
    for sleeper in others:
        sleeper.slot = scene.alarms.set(sleeper, 1010)
    scene.clock.advance(10)
    assert len(scene.names()) == 1


def test_calls_have_their_turns_between_many(scene: Scene) -> None:
    for number in range(3 * AT_ONCE):
        scene.sleeper(str(number), 10)
    counts: list[int] = []

    def look(more: int) -> None:
        counts.append(len(scene.woken))
        if more:
            scene.clock.callLater(0, look, more - 1)

    scene.clock.callLater(10, look, 5)
    scene.clock.advance(10)
    assert {AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE} <= set(counts)


def test_an_error_of_one_is_no_matter_of_the_others(scene: Scene) -> None:
    for name in "abc":
        scene.alarms.set(Faulty(scene, name), 1010)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"^[abc]$"):
            scene.clock.advance(10)
    assert scene.names() == ["a", "b", "c"]
