"""The work of a unit: real inputs through a table that is a GELU in every format."""

from functools import partial
from math import erf, sqrt

import numpy as np
import pytest

import rtl.cli
from cost_model.designs.design import (
    FORMATS,
    INPUTS,
    PwlOptions,
    codes,
    float_design,
    pwl_design,
    reference_unit,
)
from cost_model.designs.from_file import file_design
from cost_model.measurement import BIT_PARALLEL, measure
from cost_model.netlist.synthesis import Flow
from sim.cosim.check import Given
from sim.cosim.dut import lowered
from sim.reference import floating
from sim.reference.floating import FP16, FP32, FloatFormat
from tests.sim.tables import secant_table


@pytest.mark.parametrize("number", FORMATS)
@pytest.mark.parametrize("entries", [8, 16])
def test_the_work_is_gelu_at_the_formats_own_precision(number, entries):
    design = reference_unit(number, entries, 3)
    x = np.load(INPUTS).astype(np.float64)
    gelu = 0.5 * x * (1 + np.array([erf(v / sqrt(2)) for v in x]))
    slopes = design.work.arrays["slopes"][0]
    if number.startswith("FP"):
        y = floating.value({"FP16": FP16, "FP32": FP32}[number], design.work.arrays["expected"])
    else:
        table = lowered(design.work, 0)
        scale = {"INT8": 6, "INT16": 14, "INT32": 30}[number] + table.s - (table.output_shift or 0)
        y = design.work.arrays["expected"] * 2.0**-scale
    assert np.mean((y - gelu) ** 2) < (3e-4 if number == "INT8" else 6e-5)
    assert len(set(slopes.tolist())) == entries, "a table whose lines are all different"


def test_what_a_unit_refuses_is_refused():
    with pytest.raises(ValueError, match="format must be one of"):
        reference_unit("INT7", 8, 3)
    with pytest.raises(ValueError, match="entries must be in"):
        pwl_design(PwlOptions(1))


@pytest.mark.parametrize(
    "made", [lambda **o: pwl_design(PwlOptions(2, 4, **o)), partial(float_design, FloatFormat(4, 4), 2)]
)
def test_without_its_own_tree_a_unit_gives_the_same_results(made, tmp_path):
    own, other = (made(stages=2, own_tree=own) for own in (True, False))
    assert own.device.verilog != other.device.verilog
    verified = measure(other, Flow(), None, BIT_PARALLEL, False, tmp_path).power.source["verified_vectors"]
    assert verified == own.work.size + sum(check.size for check in own.checks)


FIXED = ["--scale", "5", "--output-scale", "4", "--output-shift", "7"]
WIRED = ["--scale", "3", "--output-scale", "4", "--storage", "constants"]


@pytest.mark.parametrize("options", [[], FIXED, WIRED], ids=["any scale", "shift fixed", "wired"])
def test_the_unit_in_a_file_is_a_design_whose_vectors_fit_it(options, tmp_path):
    table = secant_table("gelu")
    table.save(tmp_path / "gelu.json")
    file = tmp_path / "unit.v"
    assert rtl.cli.main(["pwl", "--table", str(tmp_path / "gelu.json"), *options, "-o", str(file)]) == 0
    design = file_design(file, Given((table,)))
    assert design.work.size == len(codes(5, 8)) and design.emitted is not None
    assert design.emitted.verilog == file.read_text()
