"""Halibut without input and output: bytes in, events and units out. No socket, no clock, nothing of ours but itself."""
