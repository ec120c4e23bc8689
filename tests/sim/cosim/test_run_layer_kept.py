"""The engine's Verilog that is kept beside the builds is believed only while its hash is right."""

from typing import Any

from sim.cosim import run_layer

engine_verilog: Any = run_layer.engine_verilog  # of a configuration that stands for another


def test_an_edited_engine_is_made_anew_with_a_warning(tmp_path, monkeypatch, capsys) -> None:
    made = []
    monkeypatch.setattr(run_layer, "Engine", lambda config: config)
    monkeypatch.setattr(run_layer.emit, "render", lambda *_: [made.append(1) or "module engine; endmodule\n"])
    texts = [engine_verilog("config", tmp_path) for _ in range(2)]
    assert len(made) == 1 and texts[0] == texts[1]
    [kept] = tmp_path.glob("engine-*.v")
    for damage in (
        lambda: kept.write_text("module engine(input clk); endmodule\n"),
        kept.with_suffix(".sha256").unlink,
    ):
        damage()
        assert engine_verilog("config", tmp_path) == texts[0] == kept.read_text()
        assert "damaged or altered, and made anew" in capsys.readouterr().err
    assert len(made) == 3
