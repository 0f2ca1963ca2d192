"""A strict Octopus and a strict Tentacle: for probe, demo and tests.

They say what real ones say, and end the connection where the other side breaks a rule of wire.md. Of the relay's own code
they use nothing but the protocol's words: their framing is written apart from the codec on purpose, so that the two check
each other.
"""
