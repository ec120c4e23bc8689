"""The command as a user meets it: rows, exit codes, and one line for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ..sim.reference.test_pwl import small_table

ROOT = Path(__file__).parents[2]
ROW_KEYS = {
    "function", "entries", "method", "objective", "slope_frac_bits", "intercept_frac_bits", "mse", "mse_full",
    "mse_inside", "mse_by_scale", "optimum", "gap", "max_ulp", "correctly_rounded", "seconds", "table",
}  # fmt: skip


def command(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from ga_search.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """A folder with two small fits."""
    folder = tmp_path_factory.mktemp("fitted")
    done = command("gelu", "--entries", 8, "--method", "genetic", "uniform", "--no-certificate", "--json", "-o", folder)
    assert done.returncode == 0, done.stderr
    (folder / "rows.out").write_text(done.stdout)
    return folder


def test_json_rows_have_every_key_and_only_json_is_on_stdout(fitted):
    rows = json.loads((fitted / "rows.out").read_text())
    assert [row["method"] for row in rows] == ["genetic", "uniform"]
    for row in rows:
        assert set(row) >= ROW_KEYS and row["gap"] is None
        assert Path(row["table"]).exists() and Path(row["table"]).with_suffix(".png").stat().st_size > 10_000


def test_the_module_runs_and_prints_a_table_with_progress_apart(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ga_search", "exp", "--entries", "8", "-o", tmp_path / "t", "--no-plots"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].split()[:5] == ["function", "N", "method", "λ", "μ"]
    assert lines[2].split() == ["exp", "8", "genetic", "7", "7", "4.62e-06", "2.17e-05", "9.22e-06", "1.22e-04",
                                "1.0000", "0.83·2^-6", "83.8%", lines[2].split()[-1]]  # fmt: skip
    assert "fit" in done.stderr and "fit/s" not in done.stdout


def test_help_has_an_example():
    done = command("--help")
    assert done.returncode == 0 and "python -m ga_search div --domain 2 4" in done.stdout


def test_a_users_own_function_in_the_working_folder_is_found(tmp_path):
    (tmp_path / "mine.py").write_text("import numpy as np\ndef swish(x):\n    return x / (1 + np.exp(-2 * x))\n")
    done = command("mine:swish", "--domain", -6, 6, "--entries", 8, "--no-plots", "--json", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["gap"] <= 1.02
    path = "out/mine-swish--6to6-8-genetic.json"
    alone = command("lint", path, cwd=tmp_path)
    assert alone.returncode == 0 and "only the structure is linted" in alone.stderr  # a table never runs code
    assert command("lint", path, "--function", "mine:swish", cwd=tmp_path).returncode in (0, 1)
    assert command("compare", path, path, "--function", "mine:swish", "--json", cwd=tmp_path).returncode == 0
    unknown = command("export", path, "--format", "c", cwd=tmp_path)
    assert unknown.returncode == 2 and "give --output-scale (its provenance notes " in unknown.stderr
    assert command("export", path, "--format", "c", "--function", "mine:swish", cwd=tmp_path).returncode == 0
    refused = command("compare", path, path, cwd=tmp_path)
    assert refused.returncode == 2 and "must be given with --function" in refused.stderr


BAD = [
    (["gelo"], "unknown function 'gelo'; did you mean gelu"),
    (["gelu", "--entries", "1"], "entries must be in 2..64, not 1"),
    (["gelu", "--entries", "8", "65"], "entries must be in 2..64, not 65"),
    (["gelu", "--entries", "many"], "argument --entries: invalid int value: 'many'"),
    (["gelu", "--domain", "1", "1"], "domain must be two finite numbers, low below high, not 1 1"),
    (["gelu", "--domain", "4", "-4"], "domain must be two finite numbers, low below high, not 4 -4"),
    (["gelu", "--domain", "0", "nan"], "domain must be two finite numbers, low below high, not 0 nan"),
    (["gelu", "--scales", "6", "0"], "scales must be a range, low first, not 6 0"),
    (["gelu", "--scales", "0", "8"], "scales must be in 0..7, not 8"),
    (["gelu", "--scales", "-1", "3"], "scales must be in 0..7, not -1"),
    (["gelu", "--bits", "3"], "in_bits must be in 4..32, not 3"),
    (["gelu", "--coef-bits", "33"], "coef_bits must be in 4..32, not 33"),
    (["gelu", "--jobs", "0"], "jobs must be at least 1, not 0"),
    (["gelu", "--seed", "-1"], "seed must be in 0.."),
    (["gelu", "--method", "magic"], "invalid choice: 'magic'"),
    (["gelu", "--objective", "weights"], "must be given together"),
    (["gelu", "--domain", "-1e-1", "-2e-1"], "low below high, not -0.1 -0.2"),
    (["gelu", "--domain", "200", "300"], "no code at scales 0..6 has weight in the domain of gelu"),
    (["gelu", "--out-unsigned"], "--out-unsigned needs a function that is never negative, but gelu is -0.1"),
    (["bad:counts", "--domain", "0", "1"], "bad:counts must return the same values each time"),
    (["bad:huge", "--domain", "0", "1"], "bad:huge must be below 1e+30 on all codes"),
    (["leaves:f", "--domain", "0", "1"], "leaves:f cannot be imported: SystemExit"),
    (["export", "wide.json", "--format", "gqa-lut", "--output-scale", "1"], "must not be given with gqa-lut"),
    (["gelu", "--nonsense"], "unrecognized arguments: --nonsense"),
    (["bad:nan", "--domain", "0", "1"], "bad:nan is not finite everywhere on its domain 0 1"),
    (["bad:shape", "--domain", "0", "1"], "bad:shape must return an array of its argument's shape"),
    (["bad:raises", "--domain", "0", "1"], "bad:raises raised ZeroDivisionError: first line"),
    (["absent:f", "--domain", "0", "1"], "absent:f cannot be imported"),
    (["broken:f", "--domain", "0", "1"], "broken:f cannot be imported: SyntaxError"),
    (["numpy:sin"], "--domain must be given"),
    (["gelu", "--objective", "weights", "--weights", "short.npz"], "histogram must have 256 counts"),
    (["gelu", "--objective", "weights", "--weights", "none.npz"], "none.npz: cannot be read"),
    (["gelu", "-o", "in_the_way"], "in_the_way: cannot be written"),
    (["gelu", "-o", "in_the_way/deep"], "in_the_way/deep: cannot be written"),
    (["gelu", "gelu"], "gelu-8-genetic is given twice"),
    (["lint", "truncated.json"], "truncated.json: not valid JSON"),
    (["lint", "missing.json"], "missing.json: cannot be read"),
    (["export", "other.json", "--format", "hex"], "other.json: format must be"),
    (["export", "truncated.json", "--format", "tiff"], "invalid choice: 'tiff'"),
    (["compare", "truncated.json"], "compare needs at least two tables"),
    (["import", "truncated.json"], "truncated.json: not valid JSON"),
]


@pytest.mark.parametrize("arguments, message", BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_input_is_one_line_and_exit_code_2_and_writes_nothing(arguments, message, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import numpy as np\n"
        "nan = lambda x: x * np.nan\n"
        "shape = lambda x: x[:3]\n"
        "huge = lambda x: x * 1e200\n"
        "calls = []\n"
        "def counts(x): calls.append(1); return x * len(calls)\n"
        "def raises(x): raise ZeroDivisionError('first line\\nsecond line')\n"
    )
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "in_the_way").write_text("")
    (tmp_path / "wide.json").write_text(small_table().to_json())
    (tmp_path / "truncated.json").write_text('{"format": "bitwright-pwl", "vers')
    (tmp_path / "other.json").write_text("{}")
    np.savez(tmp_path / "short.npz", histogram=np.ones(100))
    before = {p.name for p in tmp_path.iterdir()}
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert {p.name for p in tmp_path.iterdir()} - {"__pycache__"} == before


def test_lint_reports_and_fails_on_a_finding(fitted, tmp_path):
    clean = command("lint", fitted / "gelu-8-genetic.json")
    assert clean.returncode == 0 and "no findings" in clean.stdout
    broken = json.loads((fitted / "gelu-8-genetic.json").read_text())
    broken["slopes"][-1] -= 4
    (tmp_path / "b.json").write_text(json.dumps(broken))
    found = command("lint", tmp_path / "b.json", "--json")
    assert found.returncode == 1 and "upper tail" in {f["check"] for f in json.loads(found.stdout)}


def test_compare_measures_tables_side_by_side(fitted):
    one, two = fitted / "gelu-8-genetic.json", fitted / "gelu-8-uniform.json"
    rows = json.loads(command("compare", one, two, one, "--json").stdout)
    assert rows[0]["mse_full"] < rows[1]["mse_full"] and rows[0] == rows[2]
    assert rows[0]["differing_codes"] == 0 < rows[1]["differing_codes"] < rows[1]["codes"] == 7 * 256
    assert "gelu-8-uniform.json" in command("compare", one, two).stdout
