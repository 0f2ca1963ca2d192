"""The version of the relay, in one place."""

VERSION = "0.1.0"
