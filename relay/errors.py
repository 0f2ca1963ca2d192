"""What the running relay refuses to do, for whoever asked it to."""


class StartError(Exception):
    """The relay cannot start, or not run by a new configuration; nothing has changed. The text says why, and what to do."""


class NoSuchNameError(Exception):
    """The running relay knows no machine, or no octopus entry, of this name. The text says which come near."""
