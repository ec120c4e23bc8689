"""Area, power, timing and their sources.

    measured = cost_model.measure(cost_model.reference_unit("INT8", entries=8, stages=1), cost_model.Flow())
    cost = cost_model.estimate("pwl", entries=8, in_bits=8, stages=1)
    frame = cost_model.table("results/cost.json")  # any file of results, or rows such as those of `sim.report`

The names load on first use, so that `import cost_model` stays light.
"""

from typing import TYPE_CHECKING

from sim.common.lazy import exports

if TYPE_CHECKING:
    from cost_model.analytical.estimate import estimate
    from cost_model.cells.library import Library
    from cost_model.designs.design import Design, PwlOptions, pwl_design, reference_unit
    from cost_model.measurement import Measured, measure
    from cost_model.netlist.synthesis import Flow, synthesise
    from sim.common.frames import table

__all__ = [
    "Design",
    "Flow",
    "Library",
    "Measured",
    "PwlOptions",
    "estimate",
    "measure",
    "pwl_design",
    "reference_unit",
    "synthesise",
    "table",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Design": "cost_model.designs.design",
        "Flow": "cost_model.netlist.synthesis",
        "Library": "cost_model.cells.library",
        "Measured": "cost_model.measurement",
        "PwlOptions": "cost_model.designs.design",
        "estimate": "cost_model.analytical.estimate",
        "measure": "cost_model.measurement",
        "pwl_design": "cost_model.designs.design",
        "reference_unit": "cost_model.designs.design",
        "synthesise": "cost_model.netlist.synthesis",
        "table": "sim.common.frames",
    },
)
