"""A folder that cannot be built in is the user's mistake and not the hardware's; what killed runs left goes away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim.cosim import regress, simulators
from sim.cosim.dut import device
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk
from sim.reference import InputError
from sim.vectors.pwl import random_set

VECTORS = random_set("s", 0, 1, 4, in_bits=4, coef_bits=4, per_table=3)
UNIT = device(VECTORS)


@pytest.mark.parametrize(
    "simulator, characters", [("icarus", '"\n\x7f'), ("verilator", "\"#$'`\\;&|<>*?()[]{}!%:= \n\t")]
)
def test_a_character_that_the_simulator_or_make_cannot_take_is_one_line_before_anything_is_built(
    simulator, characters, tmp_path
):
    for character in characters:
        with pytest.raises(
            InputError, match=r"build folder must have no .* in its path, which .* cannot take"
        ) as raised:
            run_bulk(VECTORS, BenchOptions(simulator, tmp_path / f"a{character}b", dut=UNIT))
        assert len(str(raised.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_icarus_builds_runs_and_traces_under_every_other_character(tmp_path):
    folder = tmp_path / "#$'`\\;&|<>*?()[]{}!%:= é"
    options = BenchOptions("icarus", folder, waves=folder / "x.fst", dut=UNIT)
    assert run_bulk(VECTORS, options).passed and (folder / "x.fst").stat().st_size > 0


# a file may be at most so large, which to a program is a disk that is full
FULL = """
import resource, sys, tempfile
from pathlib import Path
from sim.common.command import run
from sim.cosim.dut import device
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk, run_protocol
from sim.vectors.pwl import random_set

def main(argv):
    calls = {"bulk": run_bulk, "protocol": run_protocol}
    vectors = random_set("s", 0, 1, 4, in_bits=4, coef_bits=4, per_table=3)
    options = BenchOptions("icarus", Path(argv[1]), dut=device(vectors))
    if argv[2] == "built":
        calls[argv[0]](vectors, options)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(argv[3]), resource.RLIM_INFINITY))
    return int(not calls[argv[0]](vectors, options).passed)

sys.exit(run(main))
"""


@pytest.mark.parametrize(
    "call, built, most", [("bulk", "new", 100), ("bulk", "built", 10), ("protocol", "built", 2500)]
)
def test_a_full_build_or_temporary_folder_is_one_line_and_exit_2(call, built, most, tmp_path):
    command = [sys.executable, "-c", FULL, call, str(tmp_path / "build"), built, str(most)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"error: {tmp_path}")
    assert "cannot be written: File too large" in done.stderr


def test_what_a_killed_run_left_is_removed_at_the_next_and_a_running_one_keeps_its_own(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [tmp_path / f".unit-icarus-0123.{ended.pid}", tmp_path / f".x.json.{ended.pid}.partial"]
    kept = [tmp_path / f".unit-icarus-0123.{os.getpid()}", tmp_path / ".hidden", tmp_path / f"unit.{ended.pid}"]
    for path in (*left, *kept):
        path.mkdir()
        (path / "file").write_text("")
    left[1].joinpath("file").unlink()
    left[1].rmdir()
    left[1].write_text("")
    assert list(regress.run([], folder=tmp_path)) == []
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_simulation_in_a_folder_that_takes_no_file_is_not_the_hardware_s_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=f"{tmp_path}: cannot be written: No space left on device"):
        simulators.require_room(tmp_path)


def test_another_optimisation_than_the_compiler_s_is_one_line(monkeypatch):
    monkeypatch.setenv("OPT_FAST", "-O2 -fplugin=x")
    with (
        pytest.raises(InputError, match="OPT_FAST must be one of -O0, -O1, -O2, -O3, -Os"),
        simulators.environment("verilator"),
    ):
        pass


def test_builds_of_another_optimisation_are_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(simulators, "_build", lambda wanted, sources, place: place.mkdir(parents=True))
    places = {}
    for simulator in simulators.SIMULATORS:
        wanted = simulators.Build(simulator, {"unit.v": "module unit; endmodule\n"}, "unit", ())
        for level in ("-O1", "-O2"):
            monkeypatch.setenv("OPT_FAST", level)
            places[simulator, level] = simulators.build(wanted, tmp_path)
    assert places["verilator", "-O1"] != places["verilator", "-O2"]
    assert places["icarus", "-O1"] == places["icarus", "-O2"]
