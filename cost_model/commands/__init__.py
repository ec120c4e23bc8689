"""The subcommands of `python -m cost_model`, one file each."""

from cost_model.commands import (
    build,
    calibrate,
    compare,
    explore,
    floating,
    layer,
    layout,
    memories,
    model,
    plot,
    sensitivity,
    stages,
    table,
    unit,
)
from cost_model.commands import rowwise as rows

COMMANDS = (
    unit.add,
    table.add,
    sensitivity.add,
    floating.add,
    rows.add,
    model.add,
    layer.add,
    compare.add,
    explore.add,
    build.add,
    layout.add,
    memories.add,
    plot.add,
    stages.add,
    calibrate.add,
)
