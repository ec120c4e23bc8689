"""A unit in a Verilog file that `python -m rtl` wrote, as a design."""

from pathlib import Path

from cost_model.designs.design import Design, codes
from cost_model.designs.rowwise import UNITS as ROWWISE
from cost_model.designs.rowwise import emitted_row_design
from rtl.units import UNITS
from sim.cosim.check import Given, check_set
from sim.cosim.dut import lowered, read_device
from sim.reference import InputError
from sim.vectors.pwl import pwl_set

SCALE = 5  # of the real inputs in 8 bits
WORK_VECTORS = 2048  # random operands whose toggles are counted


def file_design(path: Path, given: Given, memories_inside: bool = False) -> Design:
    """The unit in a file, whose netlist must pass what `python -m sim check` tries.

    Parameters
    ----------
    path : Path
        `FILE.v`, with `FILE.rtl.json` beside it.
    given : Given
        The tables and parameters that the unit needs.
    memories_inside : bool
        Whether the row memories of a unit for rows become flip-flops of its netlist.

    Raises
    ------
    InputError
        If file, description and what is given do not fit.
    """
    unit = read_device(path, given.edited)[1].get("unit")
    if unit in ROWWISE:
        return emitted_row_design(path, given.tables, given.parameters, memories_inside)
    if memories_inside:
        raise InputError(f"--memories is for a unit for rows, not for {unit}")
    if unit == "pwl":
        return _pwl(path, given)
    dut, check = check_set(path, given)
    first = check.head(int(check.counts[0]))  # work is one load
    # in the order of the check, neighbours are alike; rows keep theirs
    longest = max(first.lengths(0, first.size)) if first.in_rows else 0
    work = first.head(max(WORK_VECTORS, longest)) if longest else first.shuffled(WORK_VECTORS, 0)
    return Design(path.stem, str(unit), work, (check,), emitted=dut, random_work=True)


def _pwl(path: Path, given: Given) -> Design:
    """Its work is the real inputs at scale 5, or at the nearest one that the unit is for."""
    unit, check = check_set(path, given)
    table = given.tables[0]
    if not table.in_signed:
        raise InputError("the real inputs are signed, so the table's must be")
    scales = check.arrays["s"].tolist()
    scale = min(scales, key=lambda s: abs(s - SCALE))
    loaded = lowered(check, scales.index(scale))
    config = UNITS["pwl"].configuration(check.configuration, loaded.to_dict())
    work = pwl_set("gelu", [(loaded, codes(scale, table.in_bits))], {"table": table.digest}, **vars(config))
    return Design(path.stem, f"INT{table.in_bits}", work, (check,), emitted=unit)
