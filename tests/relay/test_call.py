import pytest

from relay.call import Call
from relay.halibut.message import Kind, Message

REQUEST = Message(Kind.REQUEST, "call 1", unknown=("later",))


def call(request: Message | None, reply: Message | None) -> Call:
    return Call("web01", "production", "192.0.2.1:50000", 100.0, request=request, reply=reply)


@pytest.mark.parametrize(
    ("request_", "reply", "mismatched"),
    [
        (None, None, False),
        (REQUEST, None, False),
        (REQUEST, Message(Kind.RESPONSE, "call 1"), False),
        (REQUEST, Message(Kind.RESPONSE, "call 2"), True),
        (REQUEST, Message(Kind.RESPONSE, "CALL 1"), True),
        (REQUEST, Message(Kind.RESPONSE, ""), True),
        (REQUEST, Message(Kind.NULL), False),
    ],
)
def test_a_reply_is_its_request_s_where_it_bears_its_id(
    request_: Message | None, reply: Message | None, mismatched: bool
) -> None:
    assert call(request_, reply).mismatched is mismatched


def test_unknown_members_are_those_of_both_messages() -> None:
    assert call(None, None).unknown == ()
    assert call(REQUEST, None).unknown == ("later",)
    assert call(REQUEST, Message(Kind.RESPONSE, "call 1", unknown=("more",))).unknown == ("later", "more")
