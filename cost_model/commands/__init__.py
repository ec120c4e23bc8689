"""The subcommands of `python -m cost_model`, a file for each."""

from cost_model.commands import unit

COMMANDS = (unit.add,)
