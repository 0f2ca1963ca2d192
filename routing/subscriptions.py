"""The ids of polling Tentacles' subscriptions: ``poll://…/`` (wire.md 2.4, 6.1)."""

import re
from typing import Final

from routing.mistakes import WrongValueError

REMEDY: Final = "Write poll://ID/, as Octopus has it for this machine, such as poll://SQ-7Q2M4Z/."
# An id travels as the host of a URI: letters, digits, dots, dashes and underscores, so that .NET takes it.
PATTERN: Final = r"[Pp][Oo][Ll][Ll]://[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?/?"
_ID = re.compile(PATTERN)


def same_for_all(subscription: str) -> str:
    """One spelling for all that Halibut takes for the same id: lower case, with a slash behind it.

    A Tentacle that is configured with ``poll://SQ-TENTAPOLL`` says ``poll://sq-tentapoll/``. Case never tells two ids apart.
    """
    spelled = subscription.lower()
    _, separator, rest = spelled.partition("://")
    return f"{spelled}/" if separator and "/" not in rest else spelled


def subscription(text: str) -> str:
    """The id that an operator wrote, in the spelling of `same_for_all`. Raises WrongValueError."""
    if "://" not in text or not text.lower().startswith("poll:"):
        raise WrongValueError("not a subscription id", REMEDY)
    if not _ID.fullmatch(text):
        raise WrongValueError("not a subscription id of up to 63 letters, digits, dots, dashes and underscores", REMEDY)
    return same_for_all(text)
