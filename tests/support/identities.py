"""Identities for tests: each is made once a run, because an RSA key takes a while."""

import functools

from certs.identity import Identity


@functools.cache
def identity(name: str) -> Identity:
    """The same one whenever the same name is asked for."""
    return Identity.new(name, name)
