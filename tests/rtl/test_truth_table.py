"""The truth-table unit against its table, on every code at every scale."""

import numpy as np
import pytest

from ga_search.exact import truth_table
from ga_search.functions import FUNCTIONS
from rtl.truth_table import TruthTableConfig, TruthTableUnit
from sim.reference import InputError
from sim.reference.truth_table import TruthTable
from tests.rtl.bench import simulate

SMALL = TruthTable("f", (1, 3), 2, (tuple(range(-8, 8)), (7,) * 16), 4, True, 4, True)


@pytest.mark.parametrize("table", [SMALL, truth_table("gelu", (5,))], ids=["two scales", "gelu"])
def test_every_code_at_every_scale_is_the_table_s_under_stalls(table):
    config = TruthTableConfig(table)
    codes = config.random_inputs(np.random.default_rng(0), 0)["payload"]
    for row in range(len(table.scales)):
        load = {"scale": row} if len(table.scales) > 1 else {}
        got, taken, given = simulate(TruthTableUnit(config), codes.tolist(), settings=load, seed=row or None)
        assert got == table.output(codes, row).tolist()
        assert row or [g - t for t, g in zip(taken, given, strict=True)] == [1] * len(codes)
    assert TruthTableConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("function", ["gelu", "exp", "div"])
def test_a_function_s_truth_table_rounds_correctly_wherever_it_is_defined(function):
    table = truth_table(function)
    known = FUNCTIONS[function]
    for row, scale in enumerate(table.scales):
        q = np.arange(-128, 128)
        q = q[known.defined(q * 2.0**-scale)]
        exact = np.clip(known.evaluate(q * 2.0**-scale) * 2.0**table.output_scale, -200, 200)
        assert (table.output(q, row) == np.clip(np.floor(exact + 0.5), -128, 127)).all()


def test_a_file_keeps_the_table_and_a_mistake_is_one_line(tmp_path):
    assert TruthTable.load(SMALL.save(tmp_path / "t.json")) == SMALL
    content = SMALL.to_dict()
    for change, message in (
        ({"scales": [3, 1]}, "t: scales must be distinct and ascending, not [3, 1]"),
        ({"codes": [[0] * 16]}, "t: codes must have 2 rows, one for each scale, not 1"),
        ({"codes": [[0] * 15, [0] * 16]}, "t: codes[0] must have 16 integers, not 15"),
        ({"codes": [[8] + [0] * 15, [0] * 16]}, "t: codes[0][0] must be in -8..7, not 8"),
        ({"extra": 1}, "t: unknown key 'extra'"),
        ({"version": 2}, 't: format must be "bitwright-truth-table" and version 1'),
    ):
        with pytest.raises(InputError) as caught:
            TruthTable.from_dict(content | change, "t")
        assert str(caught.value) == message
    with pytest.raises(InputError, match=r"stages must be in 1\.\.1, not 2"):
        TruthTableConfig(SMALL, 2)
