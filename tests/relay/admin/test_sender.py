from collections.abc import Iterator

import pytest

from relay.admin.sender import Sender


class Consumer:
    """Takes so many pieces, and then wants no more until it is asked again."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[bytes] = []
        self.producer: Sender | None = None
        self.over = 0

    def registerProducer(self, producer: Sender, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.taken.append(data)
        if len(self.taken) >= self.room and self.producer:
            self.producer.pauseProducing()

    def ended(self) -> None:
        self.over += 1


class Made:
    """Pieces, and how many of them were made."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for number in range(10):
            self.count += 1
            yield b"%d" % number


@pytest.fixture
def made() -> Made:
    return Made()


def test_nothing_is_made_before_it_can_be_taken(made: Made) -> None:
    consumer = Consumer(3)
    sender = Sender(consumer, iter(made), consumer.ended)
    assert made.count == 0
    sender.start()
    assert (made.count, consumer.over) == (3, 0)
    consumer.room = 5
    sender.resumeProducing()
    assert made.count == 5


def test_the_end_comes_behind_the_last_piece_and_once(made: Made) -> None:
    consumer = Consumer(100)
    sender = Sender(consumer, iter(made), consumer.ended)
    sender.start()
    sender.resumeProducing()
    assert b"".join(consumer.taken) == b"0123456789"
    assert (consumer.over, consumer.producer) == (1, None)


def test_a_lost_connection_is_written_to_no_more(made: Made) -> None:
    consumer = Consumer(2)
    sender = Sender(consumer, iter(made), consumer.ended)
    sender.start()
    sender.stopProducing()
    sender.resumeProducing()
    assert (made.count, consumer.over) == (2, 0)


def test_each_piece_is_told(made: Made) -> None:
    sent: list[bool] = []
    consumer = Consumer(100)
    Sender(consumer, iter(made), consumer.ended, lambda: sent.append(True)).start()
    assert len(sent) == 10
