"""The subcommands of `python -m sim`."""
