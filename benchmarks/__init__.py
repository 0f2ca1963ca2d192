"""Measures the relay beside what one would install instead. README.md says how; nothing of this is part of the package."""
