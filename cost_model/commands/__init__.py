"""The subcommands of `python -m cost_model`, a file for each."""

from cost_model.commands import floating, unit

COMMANDS = (unit.add, floating.add)
