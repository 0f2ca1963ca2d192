"""The command line: one file per command family, no logic beyond arguments and printing."""
