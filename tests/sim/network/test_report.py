"""The report of the sites: every operator, shares that add up, clipping that is there where it must be."""

import pytest
import torch

import sim
from sim.network.operators.base import Grid
from tests.sim.network.models import EXACT, TABLES, bert, plan, real_batches, token_batches, torch_encoder


def test_every_operator_has_a_row_and_the_shares_add_up():
    network = sim.convert(bert(), plan(TABLES), token_batches())
    codes = network.codes(**token_batches(1)[0])
    rows = sim.report(network, token_batches(1))
    assert [row["site"] for row in rows] == [operator.name for operator in network.operators()]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert all(0 <= row["error"] < 0.1 and 0 <= row["clipped"] < 0.2 for row in rows)
    assert torch.equal(network.codes(**token_batches(1)[0]), codes)  # it is in integers again
    by_kind = {row["kind"]: row for row in rows}
    assert by_kind["softmax"]["tables"] == {"exp": "8 entries", "div": "8 entries"}
    assert sum(by_kind["activation"]["scale_exponents"].values()) == 48  # one exponent for each channel
    assert by_kind["norm"]["tables"] == {"rsqrt": "8 entries"} and 8 < by_kind["linear"]["bound_bits"] < 62


def test_a_grid_that_is_too_small_shows_as_clipping_and_takes_the_error():
    network = sim.convert(torch_encoder(), plan(EXACT), real_batches())
    first = {row["site"]: row for row in sim.report(network, real_batches(1))}
    site = network["layers.1.context"]
    grid = site.outputs[0]
    p, v = site.inputs
    site.quantise(p, v, Grid(grid.bits, grid.scale / 8))
    rows = {row["site"]: row for row in sim.report(network, real_batches(1))}
    assert first[site.name]["clipped"] == 0 and rows[site.name]["clipped"] > 0.05
    assert rows[site.name]["share"] > max(0.5, 5 * first[site.name]["share"])


def test_shares_can_be_left_out():
    network = sim.convert(torch_encoder(), plan(EXACT), real_batches())
    assert all(row["share"] is None for row in sim.report(network, real_batches(1), shares=False))
