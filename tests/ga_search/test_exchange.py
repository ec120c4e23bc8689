"""Tables out and in again."""

import json

import numpy as np
import pytest

from ga_search.cli import main
from ga_search.config import FitConfig
from ga_search.exchange import export, import_gqa_lut
from ga_search.fit import fit
from ga_search.problem import prepare
from sim.reference import InputError, PwlTable

# the released layout, as its readers know it: per scale, breakpoints rounded to the nearest code by themselves
RELEASED = {
    "gelu": {
        str(s): {
            "breakpoints": [float(np.rint(v * 2**s) / 2**s) for v in (-2.3, -0.4, 0.7)],
            "slopes": [-0.015625, -0.125, 0.5, 1.03125],
            "intercepts": [0.0, -0.25, 0.0, -0.0625],
        }
        for s in range(7)
    }
}


@pytest.fixture
def table(tmp_path):
    fitted, _ = fit(prepare(FitConfig("gelu", 8, certificate=False)))
    return fitted, fitted.save(tmp_path / "gelu-8-genetic.json")


def test_each_scale_of_each_layout_is_a_file(table, tmp_path):
    fitted, path = table
    names = [p.name for p in export(path, "npz", None, None, tmp_path / "out")]
    assert names == [f"gelu-8-genetic.s{s}.npz" for s in fitted.scales]
    with np.load(tmp_path / "out" / names[3]) as content:
        low = fitted.lower(3, 4)  # gelu's output scale for 8 bits
        assert {k: v.tolist() for k, v in content.items()} == {
            k: list(v) if isinstance(v, tuple) else v for k, v in low.stored().items()
        }
    assert [p.suffix for layout in ("hex", "c") for p in export(path, layout, (2,), 5, tmp_path)] == [".hex", ".h"]


def test_a_refused_scale_writes_nothing(table, tmp_path):
    with pytest.raises(InputError, match="output_scale must be at most 6 at scale 0"):
        export(table[1], "hex", None, 7, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_released_layout_comes_back_as_the_same_function(table, tmp_path):
    fitted, path = table
    [out] = export(path, "gqa-lut", None, None, tmp_path / "out")
    for again in import_gqa_lut(out).values():
        for scale in again.scales:
            low, other = again.lower(scale), fitted.lower(scale)
            got = low.accumulate(low.codes()) / 2.0 ** (again.slope_frac_bits + scale)
            assert (got == other.accumulate(other.codes()) / 2.0 ** (fitted.slope_frac_bits + scale)).all()


def test_released_tables_are_imported_exactly_one_per_scale(tmp_path):
    path = tmp_path / "gelu_pwl_3.json"
    path.write_text(json.dumps(RELEASED))
    tables = import_gqa_lut(path)
    assert list(tables) == [f"gelu_pwl_3-s{s}" for s in range(7)]
    for scale, table in enumerate(tables.values()):
        real = RELEASED["gelu"][str(scale)]
        low = table.lower(scale)
        x = low.codes() / 2**scale
        i = (x[:, None] >= np.array(real["breakpoints"])).sum(1)
        expected = np.array(real["slopes"])[i] * x + np.array(real["intercepts"])[i]
        assert (low.accumulate(low.codes()) / 2.0 ** (table.slope_frac_bits + scale) == expected).all()


def test_a_networks_domain_comes_back_where_it_is_given(tmp_path):
    fitted, _ = fit(prepare(FitConfig("div", 4, domain=(2.0, 4.0), certificate=False)))
    [out] = export(fitted.save(tmp_path / "d.json"), "gqa-lut", None, None, tmp_path / "out")
    assert list(json.loads(out.read_text())) == ["reci"]  # the name that the layout's readers know
    [again] = import_gqa_lut(out, domain=(2.0, 4.0)).values()
    assert (again.domain, again.normaliser_step, again.scales) == ((2.0, 4.0), 1, (5,))
    [paper] = import_gqa_lut(out).values()
    assert paper.domain == (0.5, 4.0)


def test_older_key_names_and_wide_coefficients_are_read(tmp_path):
    path = tmp_path / "r.json"
    part = {"split_points": [1.0], "coeff": [-4.015625, -0.25], "bias": [3.5, 1.0]}
    path.write_text(json.dumps({"reci": {"5": part}}))
    [table] = import_gqa_lut(path).values()
    assert (table.function, table.coef_bits, table.normaliser_step, table.slopes) == ("div", 10, 3, (-257, -16))


@pytest.mark.parametrize(
    "content, message",
    [
        ([], 'must be one object {"FUNCTION"'),
        ({"gelu": {}}, "gelu must have at least one scale"),
        ({"nope": {"0": {}}}, "unknown function 'nope'"),
        ({"gelu": {"9": {}}}, "scale must be in 0..7, not '9'"),
        ({"gelu": {"0": {"breakpoints": [0.0]}}}, "scale 0: missing key 'slopes'"),
        ({"gelu": {"0": {"breakpoints": ["a"], "slopes": [], "intercepts": []}}}, "must be a list of finite numbers"),
        ({"gelu": {"0": {"breakpoints": [0.5], "slopes": [0, 1], "intercepts": [0, 0]}}}, "multiples of 2^-0, not 0.5"),
        ({"gelu": {"0": {"breakpoints": [1], "slopes": [0.1, 1], "intercepts": [0, 0]}}}, "exact in 32 bits"),
        ({"gelu": {"0": {"breakpoints": [1], "slopes": [0], "intercepts": [0]}}}, "entries must be in 2..64, not 1"),
        ({"gelu": {"0": {"breakpoints": [2, 1], "slopes": [0, 0, 0], "intercepts": [0, 0, 0]}}}, "sorted"),
        ({"gelu": {"0": {"breakpoints": [1], "slopes": [], "intercepts": []}}}, "entries must be in 2..64, not 0"),
    ],
)
def test_a_bad_file_in_the_released_layout_is_one_line(content, message, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        import_gqa_lut(path)
    assert message in str(error.value) and str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_import_writes_tables_and_never_over_its_source(tmp_path, capsys):
    path = tmp_path / "r.json"
    part = {"breakpoints": [1.0], "slopes": [-4.0, -0.25], "intercepts": [3.5, 1.0]}
    path.write_text(json.dumps({"div": {"5": part}}))
    assert main(["import", str(path)]) == 2 and "would overwrite" in capsys.readouterr().err
    assert main(["import", str(path), "-o", str(tmp_path / "out")]) == 0
    assert PwlTable.load(capsys.readouterr().out.strip()).function == "div"


def test_an_edited_output_scale_is_refused_since_no_hash_covers_it(table, tmp_path):
    _, path = table
    path.write_text(path.read_text().replace('"output_scale": 4', '"output_scale": 3'))
    with pytest.raises(InputError, match=r"provenance.output_scale must be 4, .* not 3"):
        export(path, "hex", folder=tmp_path / "out")


def test_a_users_table_comes_back_and_real_slopes_are_rounded_where_that_is_wanted(tmp_path):
    path = tmp_path / "a.json"
    part = {"breakpoints": [0.0], "slopes": [0.4987, 1], "intercepts": [0, 0.1]}
    path.write_text(json.dumps({"numpy:arctan": {"3": part}}))
    with pytest.raises(InputError, match="--coef-bits 8 rounds them"):
        import_gqa_lut(path, domain=(-3.0, 3.0))
    [table] = import_gqa_lut(path, domain=(-3.0, 3.0), coef_bits=8).values()
    assert table.function == "numpy:arctan" and table.coef_bits == 8
    assert [k * 2.0**-table.slope_frac_bits for k in table.slopes] == [0.5, 1.0]
    path.write_text(json.dumps({"gelu": {"3": part | {"slopes": [10**400, 1]}}}))
    with pytest.raises(InputError, match="finite numbers below 2"):
        import_gqa_lut(path)
