"""The analytical model: against measured units it has not seen, vectorised, and honest about what it does not know."""

import json
from itertools import islice

import numpy as np
import pytest

from cost_model.analytical.estimate import COEFFICIENTS, coefficients, estimate
from cost_model.analytical.pipeline_registers import Pipeline, Step, register_bits
from cost_model.calibration import design_space as space
from cost_model.calibration.calibrate import fit, relative_errors, sizes
from cost_model.calibration.dataset import measured_record
from cost_model.calibration.design_space import parameters
from cost_model.cells import library
from cost_model.commands.calibrate import HELD_OUT_COUNT, HELD_OUT_SEED, drawn
from cost_model.netlist.synthesis import Flow
from rtl.blocks import pipeline
from rtl.floating.mac import MacConfig
from rtl.floating.pwl import FloatPwlConfig
from rtl.pwl import PwlConfig
from sim.reference import InputError
from sim.reference.floating import FP16, FP32

DATA = COEFFICIENTS.parent
HELD_OUT = json.loads((DATA / "held_out.json").read_text())
DATASET = json.loads((DATA / "dataset.json").read_text())


@pytest.mark.parametrize("name", HELD_OUT["libraries"])
def test_units_it_has_not_seen_are_priced_within_the_limits(name):
    rows = HELD_OUT["libraries"][name]
    assert len(rows) >= 30
    errors = relative_errors(rows, coefficients()["libraries"][name])
    assert np.abs(errors["area"]).mean() <= AREA_MEAN and np.abs(errors["area"]).max() <= AREA_WORST
    assert np.abs(errors["energy"]).mean() <= POWER_MEAN


def test_the_held_out_points_are_the_seeded_draw_and_none_was_fitted():
    seen = [row["point"] for row in DATASET["libraries"]["gate_equivalents"]]
    unseen = drawn(HELD_OUT_COUNT, HELD_OUT_SEED, seen)
    assert len(unseen) >= 30 and len(drawn(HELD_OUT_COUNT, HELD_OUT_SEED)) > len(unseen), "small spaces repeat"
    for rows in HELD_OUT["libraries"].values():
        assert [row["point"] for row in rows] == unseen


def test_every_depth_that_is_drawn_can_be_built():
    deepest = {"fp-pwl": FloatPwlConfig.deepest(16, FP16), "fp-element": 9, "requant": 4, "normaliser": 8, "pwl": 7}
    drawn_depths = dict.fromkeys(deepest, 0)
    for point in space.sample(2000, 1):
        if (name := point["unit"]) in deepest:
            drawn_depths[name] = max(drawn_depths[name], point["stages"])
    assert all(0 < drawn_depths[name] <= most for name, most in deepest.items())
    assert PwlConfig(stages=7).deepest == 7 and MacConfig(FP16, FP32, 9).stages == 9


def test_the_coefficients_are_those_of_the_dataset():
    cells = library.load()
    fitted = fit(DATASET["libraries"][cells.name], cells)
    kept = coefficients()["libraries"][cells.name]
    for what in ("area", "energy", "activity"):
        assert set(fitted[what]) == set(kept[what])
        for key, value in fitted[what].items():
            assert value == pytest.approx(kept[what][key], rel=1e-3), key


def test_a_drifted_model_is_noticed():
    name = "gate_equivalents"
    drifted = json.loads(json.dumps(coefficients()["libraries"][name]))
    drifted["area"]["flip-flops"] *= 1.3
    errors = np.abs(relative_errors(HELD_OUT["libraries"][name], drifted)["area"])
    assert errors.mean() > AREA_MEAN or errors.max() > AREA_WORST


def test_a_measured_record_is_measured_again(tmp_path):
    rows = DATASET["libraries"]["gate_equivalents"]
    row = min((r for r in rows if r["point"]["unit"] == "element"), key=lambda r: r["area"])
    again = measured_record(row["point"], Flow(), tmp_path)
    assert again == row


def test_a_million_points_are_one_call():
    rng = np.random.default_rng(0)
    count = 10_000  # a million in `make bench`
    cost = estimate("pwl", entries=rng.integers(2, 17, count), in_bits=rng.integers(4, 17, count), stages=3).total
    assert cost.area_ge.shape == (count,) and (cost.area_ge > 0).all() and np.isnan(cost.area_m2).all()


def test_arrays_give_what_single_points_give():
    points = [p for p in islice(space.sample(60, 5), 60) if p["unit"] == "pwl"]
    arrays = {key: np.array([p[key] for p in points]) for key in points[0] if key != "unit"}
    together = estimate("pwl", "gate_equivalents", **arrays).total.area_ge
    alone = [estimate(p["unit"], **parameters(p)).total.area_ge for p in points]
    assert np.allclose(together, np.array(alone, dtype=float), rtol=1e-12)


@pytest.mark.parametrize("data", [DATASET, HELD_OUT], ids=["dataset", "held out"])
def test_flip_flops_are_those_of_the_netlists(data):
    """A flip-flop's clock weighs 12 in the gate-equivalent library, so that the clock counts them."""
    # bits that are constant or alike in ways that the model does not follow
    slack = {"pwl": 1, "fp-pwl": 2, "fp-element": 4, "normaliser": 9}
    for row in data["libraries"]["gate_equivalents"]:
        point = row["point"]
        if point.get("storage") == "latches":
            continue  # of its port half the flip-flops hang behind an inverter
        assert abs(sizes(point)["flip-flops"] - row["clock"] / 12) <= slack.get(point["unit"], 0), point


def test_register_bits_are_where_the_pipeline_puts_them():
    rng = np.random.default_rng(0)
    steps = []
    for _ in range(50):
        delays, bits = rng.integers(1, 40, 6).tolist(), rng.integers(1, 50, 6).tolist()
        steps = [Step((f"f{k}",), delay, {f"f{k + 1}": bits[k]}) for k, delay in enumerate(delays)]
        stages = int(rng.integers(1, 7))
        expected = sum(bits[k] for k in pipeline.cut(delays, stages)) + stages
        assert register_bits([Pipeline(steps, "f6", np.array([stages]))])[0] == expected
    with pytest.raises(InputError, match=r"stages must be in 1\.\.6, not 7"):
        register_bits([Pipeline(steps, "f6", np.array([7]))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit_name": "dragon"}, "unit must be one of pwl, "),
        ({"unit_name": "pwl", "entries": 8}, "pwl: in_bits, stages must be given"),
        ({"unit_name": "pwl", "entries": 8, "depth": 3}, "pwl: parameters must be among entries, .*not depth"),
        ({"unit_name": "pwl", "library": "nangate", "entries": 8, "in_bits": 8, "stages": 3}, "library must be one of"),
    ],
)
def test_an_unknown_unit_parameter_or_library_is_one_line(arguments, message):
    with pytest.raises(InputError, match=f"^{message}"):
        estimate(**arguments)


# what the model must keep to, in every library
AREA_MEAN, AREA_WORST, POWER_MEAN = 0.05, 0.12, 0.15
