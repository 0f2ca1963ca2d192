"""How far a value reaches, and what cannot be one."""

import struct

import pytest
from halibut_bytes import binary, document, string

from relay.halibut.bson_values import value_end
from relay.halibut.errors import EnvelopeError, SmugglingError

WIDTHS = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0}
VALUES = {
    2: string("text"),
    13: string(""),
    14: string("é"),
    3: document(),
    4: document(b"\x0a0\0"),
    5: binary(b"data", 4),
    11: b"a.*\0i\0",
    12: string("db") + bytes(12),
}
OLD = binary(struct.pack("<i", 4) + b"data", 2)


@pytest.mark.parametrize("type_", range(256))
def test_every_type(type_: int) -> None:
    if type_ in WIDTHS:
        assert value_end(type_, b"..", 2, 100) == 2 + WIDTHS[type_]
    elif type_ in VALUES:
        assert value_end(type_, b".." + VALUES[type_] + b"....", 2, 100) == 2 + len(VALUES[type_])
    else:
        with pytest.raises(EnvelopeError, match=f"never writes: {type_}"):
            value_end(type_, bytes(100), 2, 100)


@pytest.mark.parametrize(("type_", "value"), [*VALUES.items(), (5, OLD)])
def test_more_is_asked_for_until_it_can_be_said(type_: int, value: bytes) -> None:
    needed = {11: len(value), 5: 9 if value is OLD else 5}.get(type_, 4)
    for length in range(len(value)):
        assert value_end(type_, value[:length], 0, 100) == (len(value) if length >= needed else -1)


@pytest.mark.parametrize("type_", [2, 3, 4, 5, 12, 13, 14])
def test_lengths_have_a_smallest_and_no_sign(type_: int) -> None:
    smallest = {3: 5, 4: 5, 5: 0}.get(type_, 1)
    assert value_end(type_, struct.pack("<i", smallest) + bytes(9), 0, 100) > 0
    for length in (smallest - 1, -1, -(1 << 31)):
        with pytest.raises(EnvelopeError, match=f"cannot have this length: {length}"):
            value_end(type_, struct.pack("<i", length) + bytes(9), 0, 100)
    assert value_end(type_, struct.pack("<i", (1 << 31) - 1) + bytes(9), 0, 100) >= (1 << 31) - 1


def test_both_parts_of_a_regular_expression_are_bounded() -> None:
    assert value_end(11, b"a" * 9 + b"\0" + b"i" * 9 + b"\0", 0, 10) == 20
    for value in (b"a" * 10, b"a" * 10 + b"\0\0", b"\0" + b"i" * 10):
        with pytest.raises(EnvelopeError, match="longer than 10 bytes"):
            value_end(11, value, 0, 10)


def test_an_old_binary_has_one_length_twice() -> None:
    assert value_end(5, OLD, 0, 100) == len(OLD)
    for inner in (3, 5, -4, 0):
        with pytest.raises(SmugglingError, match="two lengths"):
            value_end(5, binary(struct.pack("<i", inner) + b"data", 2), 0, 100)
    for length in range(4):  # no room for the second one: it would be read out of what follows
        with pytest.raises(SmugglingError):
            value_end(5, struct.pack("<iB", length, 2) + struct.pack("<i", length - 4), 0, 100)
