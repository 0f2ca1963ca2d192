"""A whole installation in one folder: Tentacles, a relay in a process of its own, and an Octopus that works through it.

All of it is real: TLS, the protocol, files and scripts. Both peers are strict (see relay/peers), so a demo that ends well has
shown that the relay kept every rule that they know.
"""
