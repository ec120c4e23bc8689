"""Units that are as small as their tables let them be."""

import numpy as np
import pytest

from cost_model.analytical.estimate import estimate
from cost_model.analytical.trimmed import trimmed_area
from cost_model.designs.table_unit import fixed_unit, table_unit, unit_config
from ga_search import fit_table
from ga_search.exact import truth_table
from rtl.pwl import PwlConfig
from sim.cosim.dut import device
from sim.reference import InputError

GELU = fit_table("gelu", 3, "optimal", scales=(3, 5), symmetry="gated", coef_bits=7, slope_sign="unsigned")
OTHER = fit_table("hswish", 4, "optimal", scales=(3,), symmetry="gated", coef_bits=6, slope_sign="unsigned")


def test_widths_and_shift_ranges_are_those_of_the_tables():
    config = unit_config([GELU])
    shifts = [GELU.lower(s, GELU.provenance["output_scale"]) for s in GELU.scales]
    assert config.ends("output_shift") == (shifts[0].output_shift, shifts[1].output_shift)
    assert config.ends("intercept_shift") == (shifts[0].intercept_shift, shifts[1].intercept_shift)
    for one in shifts:
        config.check_fit(one)


@pytest.mark.parametrize("storage", ["flops", "latches", "constants"])
def test_its_work_is_every_code_at_every_scale_as_the_table_defines_it(storage):
    design = table_unit([GELU], storage=storage)
    work = design.work
    for load, scale in enumerate(work.arrays["s"].tolist()):
        mine = slice(256 * load, 256 * load + 256)
        want = GELU.define(work.arrays["inputs"][mine], scale, GELU.provenance["output_scale"])
        assert (work.arrays["expected"][mine] == want.astype(np.int64)).all()
    assert len(work.counts) == (1 if storage == "constants" else 2)
    assert device(work).latency == 1 and bool(design.checks) == (storage != "constants")


def test_tables_share_a_unit_only_if_they_fold_alike():
    fold = OTHER.slope_frac_bits
    other = fit_table("gelu", 3, "optimal", scales=(3,), symmetry="gated", coef_bits=7, slope_sign="unsigned",
                      slope_frac_bits=fold, intercept_frac_bits=fold)  # fmt: skip
    assert unit_config([OTHER, other]).entries == 4
    plain = fit_table("gelu", 4, "optimal", scales=(3,), coef_bits=7, slope_sign="unsigned")
    with pytest.raises(InputError, match="symmetry of gelu must be that of hswish, gated"):
        unit_config([OTHER, plain])


def test_a_truth_table_s_work_is_every_code():
    assert fixed_unit(truth_table("gelu", (3, 5))).work.size == 512


def test_the_reference_unit_costs_what_the_analytical_model_says():
    config = PwlConfig(8, stages=1, max_intercept_shift=7, max_output_shift=15)
    assert trimmed_area(config) == pytest.approx(float(estimate("pwl", entries=8, in_bits=8, stages=1).total.area_ge))
    assert trimmed_area(unit_config([GELU])) < trimmed_area(config) / 2
    with pytest.raises(InputError, match="library must be one of"):
        trimmed_area(config, "nothing")
