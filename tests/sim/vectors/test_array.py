"""A layer as a vector file: kept whole, read back as what it was, and refused where it is not."""

import dataclasses
from itertools import product

import numpy as np
import pytest

from sim import cli
from sim.reference import InputError
from sim.reference.gemm import WEIGHT_BITS
from sim.vectors.array import ArraySet, array_set
from sim.vectors.array_suite import array_suite
from sim.vectors.files import load, load_folder

SETS = {vectors.name: vectors for vectors in array_suite(seed=1)}


@pytest.mark.parametrize("name", ["array-w4u-a8-two-pass-g64", "array-pwl", "array-memories-per-channel"])
def test_a_saved_set_is_read_back_whole(name, tmp_path):
    vectors = SETS[name]
    again = load(vectors.save(tmp_path))
    assert isinstance(again, ArraySet) and again.config == vectors.config and again.table == vectors.table
    assert again.widths == vectors.widths and again.configuration == {**vectors.configuration}
    assert all(np.array_equal(again.arrays[key], array) for key, array in vectors.arrays.items())
    assert np.array_equal(again.layer.output(again.arrays["inputs"]), vectors.layer.output(vectors.arrays["inputs"]))
    assert [found.name for found in load_folder(tmp_path, ("array",))] == [name]
    first = (tmp_path / f"{name}.npz").read_bytes(), (tmp_path / f"{name}.json").read_bytes()
    again.save(tmp_path)
    assert first == ((tmp_path / f"{name}.npz").read_bytes(), (tmp_path / f"{name}.json").read_bytes())


def test_a_set_that_does_not_fit_is_refused():
    vectors = SETS["array-w4u-a8-two-pass-g64"]
    arrays, configuration = dict(vectors.arrays), dict(vectors.configuration)
    for changes, message in (
        ({"configuration": {**configuration, "operands": "magic"}}, "operands must be one of stream, memory"),
        ({"configuration": {**configuration, "weight_bits": 3}}, r"weights must be in 0\.\.7, not 15"),
        ({"configuration": {**configuration, "colour": 3}}, "configuration: .*colour"),
        ({"configuration": {**configuration, "acc_bits": 9}}, "acc_bits must be at least"),
        (
            {"arrays": {**arrays, "expected": arrays["expected"][1:]}},
            r"expected must have shape \[9, 7\], not \[8, 7\]",
        ),
        ({"arrays": {key: a for key, a in arrays.items() if key != "bias"}}, "missing array 'bias'"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(vectors, **changes)


PWL = SETS["array-pwl"]  # has every kind of array


def broken(fault: str, array: np.ndarray) -> np.ndarray:
    """The array empty, or transposed; as a row of itself where that changes nothing."""
    if fault == "empty":
        return array[:0]
    return array.T if array.T.shape != array.shape else array[None]


@pytest.mark.parametrize("key", PWL.arrays)
@pytest.mark.parametrize("fault", ["absent", "empty", "transposed"])
def test_an_array_that_is_absent_empty_or_transposed_is_refused(key, fault):
    arrays, widths = dict(PWL.arrays), dict(PWL.widths)
    if fault == "absent":
        del arrays[key]
        widths.pop(key, None)
    else:
        arrays[key] = broken(fault, arrays[key])
    with pytest.raises(InputError, match=r"missing array|must have (shape|at least one vector)|must be a matrix"):
        dataclasses.replace(PWL, arrays=arrays, widths=widths)


def test_what_no_array_or_job_can_be_is_refused():
    arrays, configuration = dict(PWL.arrays), dict(PWL.configuration)
    for changes, message in (
        ({"arrays": {**arrays, "more": np.zeros(3, dtype=int)}}, "unknown array 'more'"),
        ({"arrays": {**arrays, "inputs": np.tile(arrays["inputs"], 2)}}, r"inputs must have shape \[9, 203\], not"),
        ({"arrays": {**arrays, "inputs": 2 * arrays["inputs"]}}, r"activations must be in -128\.\.127, not -256"),
        ({"arrays": {**arrays, "intercept_shift": np.array([-3])}}, r"intercept_shift must be in 0\.\.7, not -3"),
        ({"arrays": {**arrays, "output_shift": np.array([99])}}, r"output_shift must be in 0\.\.15, not 99"),
        ({"configuration": {**configuration, "count_bits": 2}}, r"tokens must be in 1\.\.3, not 9"),
        ({"configuration": {**configuration, "pwl": None}}, "unknown array 'thresholds'"),
        ({"configuration": {**configuration, "pwl": "x"}}, "configuration: "),
        ({"configuration": {**configuration, "rows": "5"}}, "rows must be an integer in"),
        ({"configuration": {**configuration, "pwl": {**configuration["pwl"], "output": "acc"}}}, "output of pwl"),
        (
            {"widths": {**PWL.widths, "expected": (9, True)}},
            r"expected must have the width \(8, True\), not \(9, True\)",
        ),
        ({"widths": {"inputs": (8, True), "weights": (4, False)}}, "expected must have a width"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(PWL, **changes)


def test_a_bad_vector_file_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys):
    arrays = {key: array for key, array in PWL.arrays.items() if key != "thresholds"}
    with monkeypatch.context() as patch:
        patch.setattr(ArraySet, "_check_rows", lambda self: None)
        dataclasses.replace(PWL, arrays=arrays).save(tmp_path)
    assert cli.main(["regress", "--from", str(tmp_path), "--simulator", "icarus"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "array-pwl.json: missing array 'thresholds'" in error


def test_a_layer_without_zero_points_or_multipliers_is_kept_with_those_that_do_nothing():
    config = dataclasses.replace(PWL.config, pwl=None, stages=3)
    layer = dataclasses.replace(PWL.layer, zero_points=None, group_multipliers=None)
    vectors = array_set("plain", config, layer, PWL.arrays["inputs"], {})
    assert not vectors.arrays["zero_points"].any() and (vectors.arrays["group_multipliers"] == 1).all()
    assert np.array_equal(vectors.layer.output(vectors.arrays["inputs"]), vectors.arrays["expected"])
    ones = dataclasses.replace(layer, bias=np.zeros(7, dtype=int), group_multipliers=np.ones((7, 7), dtype=int))
    vectors = array_set("ones", dataclasses.replace(config, group_multiplier_bits=0), ones, PWL.arrays["inputs"], {})
    assert "group_multipliers" not in vectors.arrays


def test_the_suite_has_every_width_group_kind_of_edge_and_both_ends():
    widths = {(v.config.weight_bits, v.config.weight_signed, v.layer.activation_bits, v.passes) for v in SETS.values()}
    assert len(widths) >= 4 * 2 * 3
    assert {v.config.group for v in SETS.values()} == {32, 64, 128, None}
    shapes = {(*v.arrays["inputs"].shape, v.layer.outputs) for v in SETS.values()}
    assert (1, 1, 1) in shapes and {v.config.rows for v in SETS.values()} >= {1, 6, 40}
    assert {v.configuration["operands"] for v in SETS.values()} == {"stream", "memory"}
    assert {
        (v.config.weight_bits, v.config.weight_signed, v.config.two_pass) for v in SETS.values() if "bound" in v.name
    } == {*product(WEIGHT_BITS, (True, False), (True, False))}
    assert max(int(v.arrays.get("group_multipliers", np.zeros(1)).max()) for v in SETS.values()) == (1 << 16) - 1
    for vectors in SETS.values():
        layer, config = vectors.layer, vectors.config
        if "bound" in vectors.name:
            reached = layer.accumulate(vectors.arrays["inputs"])
            assert vectors.source["bound"] in config.accumulator_range and (reached == vectors.source["bound"]).all()
            assert np.array_equal(vectors.arrays["expected"], reached)
            continue
        if layer.zero_points is not None and layer.zero_points.size > 1:
            assert (layer.zero_points.min(), layer.zero_points.max()) == (0, (1 << layer.weight_bits) - 1)
        if vectors.size > 1:
            assert (
                len(np.unique(vectors.arrays["expected"])) > 20 and (abs(vectors.arrays["expected"]) < 127).mean() > 0.7
            )
    ragged = [v for v in SETS.values() if v.layer.inputs % v.config.rows and v.layer.outputs % v.config.columns]
    assert len(ragged) > 20 and all(len(v.arrays["inputs"]) % v.config.depth for v in ragged if v.config.depth == 4)
