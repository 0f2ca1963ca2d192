"""The four roles of wire.md section 3, as two tables.

A conversation has one state, which both ends share; a role is a style and an end of it. So one table a style says for each
state who may send which unit, and where that leads; the roles of one style are its two ends, and cannot disagree.

    listening style     dialling client (Octopus)       3.1     listening service (Tentacle)    3.2
    polling style       dialling service (Tentacle)     3.3     listening client (Octopus)      3.4

``MESSAGE`` stands for an envelope with the frames behind it. A message of the null kind is a keep-alive: in the polling style
the client may send it in the place of a request (wire.md 4.3), and no reply follows. ``END``, or a close, is the dialler's way
to give up anywhere outside a message; a listener never sends it (wire.md 1.10).
"""

from typing import Final

from relay.halibut.events import Unit
from relay.halibut.words import Word


class Side(Word):
    DIALLER = "dialler"
    LISTENER = "listener"


class Style(Word):
    LISTENING = "listening"
    POLLING = "polling"


class Role(Word):
    """Each value: the style, which end, and whether it sends requests."""

    DIALLING_CLIENT = (Style.LISTENING, Side.DIALLER, True)
    LISTENING_SERVICE = (Style.LISTENING, Side.LISTENER, False)
    DIALLING_SERVICE = (Style.POLLING, Side.DIALLER, False)
    LISTENING_CLIENT = (Style.POLLING, Side.LISTENER, True)

    @property
    def style(self) -> Style:
        return self.value[0]

    @property
    def side(self) -> Side:
        return self.value[1]

    @property
    def is_client(self) -> bool:
        return self.value[2]


class State(Word):
    """What is due on a connection."""

    PREAMBLE = "the preamble"
    IDENTITY = "the dialler's identity"
    ANSWER = "MX-SERVER"
    REQUEST = "a request"
    REPLY = "a reply"
    TURN = "NEXT or END"
    PROCEED = "PROCEED"
    ENDED = "nothing any more"


# Stands for an envelope with its frames.
MESSAGE: Final = Unit.ENVELOPE

Transitions = dict[State, dict[tuple[Side, Unit], State]]

_D, _L = Side.DIALLER, Side.LISTENER


def _table(client: Side, identity: Unit) -> Transitions:
    service = _L if client is _D else _D
    return {
        State.PREAMBLE: {(_D, Unit.PREAMBLE): State.IDENTITY},
        State.IDENTITY: {(_D, identity): State.ANSWER},
        State.ANSWER: {(_L, Unit.SERVER_IDENTITY): State.REQUEST, (_D, Unit.END): State.ENDED},
        State.REQUEST: {(client, MESSAGE): State.REPLY, (_D, Unit.END): State.ENDED},
        State.REPLY: {(service, MESSAGE): State.TURN, (_D, Unit.END): State.ENDED},
        State.TURN: {(_D, Unit.NEXT): State.PROCEED, (_D, Unit.END): State.ENDED},
        State.PROCEED: {(_L, Unit.PROCEED): State.REQUEST, (_D, Unit.END): State.ENDED},
        State.ENDED: {},
    }


TRANSITIONS: Final[dict[Style, Transitions]] = {
    Style.LISTENING: _table(client=_D, identity=Unit.CLIENT_IDENTITY),
    Style.POLLING: _table(client=_L, identity=Unit.SUBSCRIBER_IDENTITY),
}

# The same of one end: what it may send in each state, and where that leads.
TURNS: Final[dict[tuple[Style, Side], dict[State, dict[Unit, State]]]] = {
    (style, end): {state: {unit: to for (side, unit), to in due.items() if side is end} for state, due in table.items()}
    for style, table in TRANSITIONS.items()
    for end in Side
}

# Where it is the listener's turn, and all that the dialler may do is to give up.
LISTENERS_TURN: Final[dict[Style, frozenset[State]]] = {
    style: frozenset(state for state, due in TURNS[style, _D].items() if set(due) == {Unit.END}) for style in Style
}
