"""The ids of polling Tentacles' subscriptions: ``poll://…/`` (wire.md 2.4, 6.1)."""


def same_for_all(subscription: str) -> str:
    """One spelling for all that Halibut takes for the same id: lower case, with a slash behind it.

    A Tentacle that is configured with ``poll://SQ-TENTAPOLL`` says ``poll://sq-tentapoll/``. Case never tells two ids apart.
    """
    spelled = subscription.lower()
    _, separator, rest = spelled.partition("://")
    return f"{spelled}/" if separator and "/" not in rest else spelled
