"""``python -m relay`` is ``relay-tentacle``."""

from relay.cli.main import main

if __name__ == "__main__":
    main(prog_name="relay-tentacle")
