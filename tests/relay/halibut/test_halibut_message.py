"""Ids that may be data streams'."""

import uuid

import pytest
from halibut_bytes import bounded
from hypothesis import given
from hypothesis import strategies as st

from relay.halibut.errors import SmugglingError
from relay.halibut.message import judged_id


@bounded(200)
@given(st.uuids(version=4))
def test_every_version_4_guid_of_dotnet(value: uuid.UUID) -> None:
    assert judged_id(value.bytes_le) == value.bytes_le


@bounded(300)
@given(st.binary(min_size=16, max_size=16))
def test_no_other(id_: bytes) -> None:
    value = uuid.UUID(bytes_le=id_)
    if value.version == 4 and not id_.lstrip(b"\r\n").startswith((b"NEXT\r", b"NEXT\n")):
        assert judged_id(id_) == id_
    else:
        with pytest.raises(SmugglingError):
            judged_id(id_)


def test_next_in_a_version_4_guid() -> None:
    """Byte 7 is 4x and byte 8 is no ASCII, so these are all the places that are left."""
    rest = b"\x4a\x80" + bytes(7)
    for start in (b"NEXT\r\n.", b"NEXT\n..", b"\nNEXT\r\n", b"\rNEXT\n.", b"\r\nNEXT\n", b"NEXT\r.."):
        assert uuid.UUID(bytes_le=start + rest).version == 4
        with pytest.raises(SmugglingError, match="reads as a control line"):
            judged_id(start + rest)
    for start in (b"NEXT...", b"NEXTNEX", b"next\r\n.", b".NEXT\r\n"):
        assert judged_id(start + rest) == start + rest
