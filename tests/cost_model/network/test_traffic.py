"""Traffic and waiting bits by hand on a small network, and what must hold for any machine."""

import math

import pytest

from cost_model.network.machine import Machine
from cost_model.network.memory import DRAM_J, Memories, sram
from cost_model.network.shapes import size
from cost_model.network.sites import Gemm, sites
from cost_model.network.traffic import Traffic, traffic
from quant.formats.packed_index import PackedIndex
from sim.network import packed
from sim.network.convert import convert
from sim.reference import InputError
from tests.sim.network.models import bert, plan, token_batches

TOKENS = 16
FIRST = "encoder.layer.0"


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> PackedIndex:
    """Two layers of 32 channels and 4 heads, 48 in the feed-forward network, activations per token."""
    path = tmp_path_factory.mktemp("model")
    packed.save(convert(bert(), plan(), token_batches()), path)
    return PackedIndex.load(path)


def moved(index: PackedIndex, machine: Machine, tokens: int = TOKENS) -> tuple[dict[str, Traffic], int]:
    listed = sites(index, "", tokens)
    found, waiting = traffic(index, listed, machine, {"tokens": tokens, "batch": 1})
    return {row.site: row for row in found}, waiting


def test_the_bits_are_those_by_hand(index) -> None:
    machine = Machine(4, 4, 16)
    rows, waiting = moved(index, machine)
    query = rows[f"{FIRST}.attention.self.query"]  # with key and value, which share its input
    codes = TOKENS * 32 * 8
    assert query.written == 3 * TOKENS * 32 * 8 + codes  # results, and the codes of the 16-bit input
    assert query.read == TOKENS * 32 * 16 + 3 * (32 // 4) * codes
    by_name = {site.name: site for site in sites(index, "", TOKENS)}
    of_query = [by_name[f"{FIRST}.attention.self.{name}"] for name in ("query", "key", "value")]
    assert query.weights == 8 * sum(sum(site.bytes.values()) for site in of_query)
    assert isinstance(of_query[0], Gemm)
    width = machine.array_of(of_query[0]).accumulator_bits
    assert query.accumulated == 3 * TOKENS * 32 * (32 // 4) * width  # a sum for each tile of inputs
    scores = rows[f"{FIRST}.attention.self.scores"]  # a head: 16 x 8 queries times 8 x 16 keys
    assert scores.read == 4 * (TOKENS // 4 * TOKENS * 8 * 8 + 8 * TOKENS * 8)
    assert scores.written == 4 * TOKENS * TOKENS * 16
    added = rows[f"{FIRST}.attention.output.dense.residual"]
    assert (added.read, added.written) == (2 * TOKENS * 32 * 16, TOKENS * 32 * 16)
    embedding = rows["embeddings"]  # three tables, a row of 32 codes for each token
    stored = [index.tensors[f"embedding.{k}"] for k in range(3)]
    assert embedding.weights == TOKENS * 32 * sum(8 * len(t.data) // math.prod(t.shape) for t in stored)
    # what waits is most where the softmax has its 16-bit scores and 8-bit weights, beside values and the residual
    assert waiting == 4 * TOKENS * TOKENS * (16 + 8) + TOKENS * 32 * 8 + TOKENS * 32 * 16


def test_shallower_arrays_load_weights_again_and_wider_ones_read_activations_less(index) -> None:
    name = f"{FIRST}.output.dense"
    rows = [moved(index, machine)[0][name] for machine in (Machine(4, 4, 16), Machine(4, 4, 4), Machine(4, 8, 16))]
    assert rows[1].weights == 4 * rows[0].weights and rows[1].read == rows[0].read
    assert rows[2].read < rows[0].read and rows[2].weights == rows[0].weights


def test_memories_hold_whole_macros_and_dram_takes_the_weights() -> None:
    rows = [Traffic("a", read=3, written=5, weights=7, accumulated=11)]
    one, two = sram(1), sram(2)
    shared = 3 * one.read_j + 5 * one.write_j + 11 * (two.read_j + two.write_j)
    outside, inside = (Memories(place, 100, one.size + 1, 0, 1) for place in ("dram", "sram"))
    assert outside.energy(rows) == pytest.approx({"sram": shared, "dram": 7 * DRAM_J})
    assert inside.energy(rows) == pytest.approx({"sram": shared + 7 * one.read_j, "dram": 0})
    macros = 2 * one.size * one.area_um2 + two.size * two.area_um2
    assert outside.area_um2 == pytest.approx(macros)
    assert inside.area_um2 == pytest.approx(macros + one.size * one.area_um2)
    assert inside.on_chip_bits - outside.on_chip_bits == 100
    with pytest.raises(InputError, match="weights must be in one of dram, sram, not 'disk'"):
        Memories("disk", 0, 0, 0, 0)


def test_a_model_that_is_no_integer_network_has_no_traffic() -> None:
    other = PackedIndex({"details": {"maker": "quant"}}, {})
    with pytest.raises(InputError, match="must be an integer network"):
        traffic(other, [], Machine(), {})


def test_sizes_are_products_with_divisions() -> None:
    assert size("height/4/-2*width", {"height": 9, "width": 5}) == 5  # 3, then 1
    assert size(7, {}) == 7 and size("batch*tokens", {"batch": 2, "tokens": 3}) == 6
    with pytest.raises(InputError, match="follows from the image"):
        size("height", {})


def test_an_accumulator_that_is_too_narrow_is_refused(index) -> None:
    site = next(site for site in sites(index, "", TOKENS) if isinstance(site, Gemm))
    assert Machine(4, 4, 16, acc_bits=40).array_of(site).accumulator_bits == 40
    with pytest.raises(InputError, match="acc_bits must be at least"):
        Machine(4, 4, 16, acc_bits=18).array_of(site)
