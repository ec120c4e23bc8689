"""The subcommands of `python -m cost_model`, a file for each."""

from cost_model.commands import calibrate, floating, model, plot, rows, sensitivity, stages, table, unit

COMMANDS = (
    unit.add,
    table.add,
    sensitivity.add,
    floating.add,
    rows.add,
    model.add,
    plot.add,
    stages.add,
    calibrate.add,
)
