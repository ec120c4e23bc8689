"""A folder is one run's at a time: every command that writes several files into one, or is long, holds it."""

import pytest

from bitwright import COMMANDS
from ga_search import fit_table
from ga_search.cli import main as fits
from sim.common.command import start
from sim.common.files import locked


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A table, and the same in the released layout."""
    folder = tmp_path_factory.mktemp("inputs")
    fit_table("gelu", 8).save(folder / "gelu.json")
    assert fits(["export", str(folder / "gelu.json"), "--format", "gqa-lut"]) == 0
    return folder


WRITERS = {
    "fits": ("fit", "gelu", "--no-certificate", "--no-plots", "-o", "{out}"),
    "exported table": ("fit", "export", "{inputs}/gelu.json", "--format", "hex", "--output-scale", "4", "-o", "{out}"),
    "exported reals": ("fit", "export", "{inputs}/gelu.json", "--format", "gqa-lut", "-o", "{out}"),
    "imported table": ("fit", "import", "{inputs}/gelu.gqa-lut.json", "-o", "{out}"),
    "Verilog": ("rtl", "requant", "-o", "{out}/unit.v"),
    "vectors": ("sim", "vectors", "--quick", "--unit", "requant", "-o", "{out}"),
    "waveforms": ("sim", "regress", "--quick", "--unit", "requant", "--waves", "--build", "{build}"),
    "calibration": ("cost", "calibrate", "-o", "{out}"),
    "plots": ("cost", "plot", "-o", "{out}"),
    "plan": ("quant", "plan", "-o", "{out}/plan.json"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_second_run_in_a_folder_is_refused_in_one_line_and_writes_nothing(
    name, inputs, tmp_path, monkeypatch, capsys
):
    for module in ("rtl.emit", "ga_search.exchange", "ga_search.cli"):
        monkeypatch.setattr(f"{module}.PATIENCE", 0)
    out = tmp_path / "waves"
    words = [word.format(inputs=inputs, out=out, build=tmp_path) for word in WRITERS[name]]
    with locked(out):
        code = start(COMMANDS[words[0]][0], words[1:])
        assert [path.name for path in out.iterdir()] == [".lock"]
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.splitlines()[-1] == f"error: {out}: another run is writing here"


REWRITERS = {
    "quantise": ("quant", "quantize", "{folder}", "--no-activations"),
    "blocks": ("quant", "zeroquant", "{folder}"),
    "export": ("quant", "export", "{folder}"),
    "import": ("quant", "import", "{folder}"),
    "convert": ("sim", "convert", "{folder}", "--data", "text.txt"),
}


@pytest.mark.parametrize("name", REWRITERS)
def test_the_folder_that_a_command_reads_is_never_its_output(name, tmp_path, capsys):
    pytest.importorskip("transformers", reason="the models are transformers'")
    (tmp_path / "config.json").write_text("{}")
    words = [word.format(folder=tmp_path) for word in REWRITERS[name]]
    same = tmp_path / "x" / ".."
    assert start(COMMANDS[words[0]][0], [*words[1:], "-o", str(same)]) == 2
    assert capsys.readouterr().err == f"error: {same}: the output must be another folder than the input\n"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("config.json", "{}")]
