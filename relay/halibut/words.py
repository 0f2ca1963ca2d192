"""A base for the codec's enumerations."""

from enum import Enum


class Word(Enum):
    """An Enum that is hashed by identity, in C. Enum's own hash is Python, and tables are looked up several times a unit."""

    __hash__ = object.__hash__
