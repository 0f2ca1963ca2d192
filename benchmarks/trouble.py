"""The one error that the tools of this folder raise on purpose."""


class TroubleError(Exception):
    """Something that the person at the terminal has to know, and that ends the measurement."""
