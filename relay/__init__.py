"""The running service and its command line (design: rooms)."""
