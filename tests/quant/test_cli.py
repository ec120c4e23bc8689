"""The command from a checkpoint folder to packed and GPTQ folders; every mistake is one line and exit code 2."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import quant
from quant.calibration import tokeniser_of
from quant.cli import main
from quant.formats.checkpoint import load_model
from quant.methods import post_training
from quant.plan import Plan
from quant.primitives.linear import QuantisedLinear
from quant.run_directory import RunDirectory
from sim.common.files import locked
from sim.reference import InputError
from tests.quant.formats.test_gptq_layout import unpacked
from tests.quant.models import bert_folder, llama_folder

TEXT = "the cat sat on the mat\na red dog ran\nthe blue cat ran over the red dog\n"


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    bert_folder(folder)
    (folder / "text.txt").write_text(TEXT)
    return folder


def output(capsys, *argv: object) -> tuple[int, str, str]:
    code = main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_a_checkpoint_and_text_become_a_packed_model_that_python_loads(bert, tmp_path, capsys):
    code, out, err = output(
        capsys, "quantize", bert, "--data", bert / "text.txt", "--batch-size", 2, "-o", tmp_path, "--json"
    )
    rows = json.loads(out)
    assert code == 0 and "the packed model is in" in err
    assert len(rows) == 13 and all(row["weight_bits"] == row["activation_bits"] == 8 for row in rows)
    model = quant.from_pretrained(tmp_path)
    original, _ = load_model(bert)
    ids, mask = torch.tensor([[2, 5, 7, 3, 0]]), torch.tensor([[1, 1, 1, 1, 0]])
    with torch.no_grad():
        a, b = (m(ids, attention_mask=mask).last_hidden_state for m in (model, original))
    assert 0 < float((a - b).abs().max()) < 0.1
    api = quant.quantize(original, Plan.uniform(), bert / "text.txt", sampling=quant.Sampling(batch_size=2),
                         tokeniser=tokeniser_of(bert))  # fmt: skip
    with torch.no_grad():
        assert torch.equal(api(ids, attention_mask=mask).last_hidden_state, a), "the command is a shell over the API"
    code, out, _ = output(capsys, "show", tmp_path, "--json")
    assert code == 0 and json.loads(out) == rows
    assert (tmp_path / "tokenizer.json").exists()


def test_a_plan_file_says_it_all(bert, tmp_path, capsys):
    plan = tmp_path / "plan.json"
    assert (
        output(capsys, "plan", "--weight-bits", 4, "--group-size", 8, "--per-token", "--skip", "pooler.*", "-o", plan)[
            0
        ]
        == 0
    )
    assert Plan.load(plan).digest == Plan.uniform("pooler.*", weight_bits=4, weight_granularity="group", group_size=8,
                                                  activation_granularity="token").digest  # fmt: skip
    code, out, _ = output(capsys, "quantize", bert, "--plan", plan, "-o", tmp_path / "out", "--json")
    rows = json.loads(out)
    assert code == 0 and len(rows) == 12 and all(row["group_size"] == 8 and row["per_token"] for row in rows)
    code, _, err = output(capsys, "quantize", bert, "--plan", plan, "--weight-bits", 8, "-o", tmp_path / "out")
    assert code == 2 and "--weight-bits contradicts it" in err


def test_a_sharded_tied_bfloat16_checkpoint_goes_to_gptq_and_back(tmp_path, capsys):
    llama_folder(tmp_path / "llama")
    options = ["--weight-bits", 4, "--group-size", 16, "--asymmetric", "--no-activations", "--skip", "lm_head"]
    code, _, _ = output(capsys, "quantize", tmp_path / "llama", *options, "--dtype", "auto", "-o", tmp_path / "packed")
    assert code == 0
    for scales in ("float16", "float32"):
        target = tmp_path / scales
        code, out, _ = output(capsys, "export", tmp_path / "packed", "--scales", scales, "-o", target, "--json")
        rows = json.loads(out)
        assert code == 0 and all((row["scale_change"] == 0) == (scales == "float32") for row in rows)
        assert max(row["scale_change"] for row in rows) <= 2.0**-11
    model = quant.from_pretrained(tmp_path / "packed")
    stored = load_file(tmp_path / "float32" / "model.safetensors")
    assert stored["model.embed_tokens.weight"].dtype == torch.float32
    for row in rows:
        layer = model.get_submodule(row["module"])
        assert isinstance(layer, QuantisedLinear)
        parts = {key.rpartition(".")[2]: t for key, t in stored.items() if key.rpartition(".")[0] == row["module"]}
        assert (unpacked(parts, 4, 0) == layer.weight.dequantise(torch.float64).numpy()).all()
    config = json.loads((tmp_path / "float16" / "config.json").read_text())["quantization_config"]
    assert (config["bits"], config["group_size"], config["sym"], config["checkpoint_format"]) == (
        4,
        16,
        False,
        "gptq_v2",
    )
    code, out, _ = output(capsys, "import", tmp_path / "float16", "-o", tmp_path / "back", "--json")
    assert code == 0 and all(row["scale_change"] == 0 for row in json.loads(out))
    back = quant.from_pretrained(tmp_path / "back")
    ids = torch.tensor([[1, 2, 3, 4]])
    for row in rows:
        a, b = (m.get_submodule(row["module"]) for m in (model, back))
        assert isinstance(a, QuantisedLinear) and isinstance(b, QuantisedLinear)
        assert torch.equal(a.weight.codes, b.weight.codes) and torch.equal(a.weight.zero_point, b.weight.zero_point)
    with torch.no_grad():
        assert torch.allclose(back(ids).logits.float(), model(ids).logits.float(), atol=0.05)
    again = output(capsys, "export", tmp_path / "back", "-o", tmp_path / "again")
    assert again[0] == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("float16", "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_v1_of_a_symmetric_model_comes_back_with_the_same_weights(bert, tmp_path, capsys):
    assert output(capsys, "quantize", bert, "--no-activations", "-o", tmp_path / "packed")[0] == 0
    assert output(capsys, "export", tmp_path / "packed", "--format", "gptq", "-o", tmp_path / "gptq")[0] == 0
    assert output(capsys, "import", tmp_path / "gptq", "-o", tmp_path / "back")[0] == 0
    model, back = (quant.from_pretrained(tmp_path / name) for name in ("packed", "back"))
    for name, layer in model.named_modules():
        if isinstance(layer, QuantisedLinear):
            other = back.get_submodule(name)
            assert isinstance(other, QuantisedLinear) and torch.equal(other.weight.codes, layer.weight.codes)


def test_an_interrupted_command_resumes_with_the_same_bytes(bert, tmp_path, capsys, monkeypatch):
    command = ["quantize", bert, "--data", bert / "text.txt", "--weight-bits", 4, "-o"]
    assert output(capsys, *command, tmp_path / "whole")[0] == 0
    real, calls = post_training.quantise_weight, []

    def interrupted(weight, settings):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(weight, settings)

    monkeypatch.setattr(post_training, "quantise_weight", interrupted)
    assert output(capsys, *command, tmp_path / "cut")[0] == 130
    assert not (tmp_path / "cut" / "packed.json").exists()
    code, _, err = output(capsys, *command, tmp_path / "cut", "--resume", "--weight-bits", 3)
    assert code == 2 and "cannot resume, plan.rules[0].weight_bits was 4, not 3" in err
    (bert / "other.txt").write_text(TEXT + "a cat\n")
    code, _, err = output(capsys, "quantize", bert, "--data", bert / "other.txt", "--weight-bits", 4, "--resume",
                          "-o", tmp_path / "cut")  # fmt: skip
    assert code == 2 and "cannot resume, data_sha256 was" in err
    assert output(capsys, *command, tmp_path / "cut", "--resume")[0] == 0
    assert len(calls) == 5 + 13 - 4 and files(tmp_path / "cut") == files(tmp_path / "whole")


def test_a_second_run_in_the_folder_is_refused(bert, tmp_path, capsys):
    with RunDirectory.open(tmp_path / "run", {}):
        code, _, err = output(capsys, "quantize", bert, "--no-activations", "-o", tmp_path)
    assert code == 2 and err.endswith(f"error: {tmp_path / 'run'}: another run is writing here\n")


def test_every_writer_keeps_out_of_a_folder_that_another_run_holds(bert, tmp_path, capsys):
    whole, held = tmp_path / "whole", tmp_path / "held"
    assert output(capsys, "quantize", bert, "--no-activations", "-o", whole)[0] == 0
    assert output(capsys, "export", whole, "-o", tmp_path / "gptq")[0] == 0
    model = quant.from_pretrained(whole)
    with locked(held):
        before = files(held)
        for argv in (
            ("quantize", bert, "--no-activations"), ("export", whole), ("import", tmp_path / "gptq"),
        ):  # fmt: skip
            code, _, err = output(capsys, *argv, "-o", held)
            assert code == 2 and f"error: {held}: another run is writing here" in err
        assert output(capsys, "plan", "-o", held / "plan.json")[0] == 2
        with pytest.raises(InputError, match="another run is writing here"):
            quant.save_pretrained(model, held)
        assert files(held) == before


def test_mistakes_are_one_line_and_exit_code_2_and_write_nothing(bert, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "empty.txt").write_text("\n")
    (bert / "long.txt").write_text("the cat " * 50)
    (bert / "odd.jsonl").write_text('{"input_ids": [1, 16]}\n')
    bad_plan = Plan.uniform(skip="decoder.*").save(tmp_path / "plan.json")
    cases = [
        (("quantize", bert, "-o", out), "data must be given: encoder.layer.0"),
        (("quantize", bert, "--weight-bits", "1", "-o", out), "weight_bits must be in 2..8, not 1"),
        (("quantize", bert, "--data", tmp_path / "empty.txt", "-o", out), "empty.txt: the data set is empty"),
        (("quantize", bert, "--data", tmp_path / "none", "-o", out), "none: cannot be read"),
        (("quantize", bert, "--samples", 0, "-o", out), "samples must be in 1.."),
        (("quantize", bert, "--threads", 0, "-o", out), "threads must be in 1..1024, not 0"),
        (("quantize", bert, "--no-activations", "--per-token", "-o", out), "contradict each other"),
        (("quantize", bert, "--no-activations", "--device", "gpu7", "-o", out), "--device must be a device"),
        (("quantize", bert, "--no-activations", "--skip", "(", "-o", out), "must be a regular expression"),
        (("quantize", bert, "--plan", bad_plan, "--data", bert / "text.txt", "-o", out), "rules[1]: 'decoder.*'"),
        (("quantize", bert, "--data", bert / "long.txt", "-o", out), "sequences must have at most 40 tokens"),
        (("quantize", bert, "--data", bert / "odd.jsonl", "-o", out), "input_ids must be in 0..15, not 1..16"),
        (("quantize", tmp_path, "--no-activations", "-o", out), "has no checkpoint"),
        (("show", tmp_path), "packed.json: cannot be read"),
        (("export", tmp_path, "-o", out), "packed.json: cannot be read"),
        (("import", bert, "-o", out), "has no quantize_config.json"),
    ]  # fmt: skip
    for argv, message in cases:
        code, printed, err = output(capsys, *argv)
        line = [text for text in err.splitlines() if text.startswith("error: ")]
        assert code == 2 and not printed and len(line) == 1 and message in line[0], (argv, err)
    assert not list(tmp_path.rglob("packed.json")) and not list(tmp_path.rglob("*.safetensors"))


def test_faults_of_the_model_are_one_line_with_the_key(bert, tmp_path, capsys):
    state = load_file(bert / "model.safetensors")
    key = "encoder.layer.1.output.dense.weight"

    def run(change) -> str:
        damaged = dict(state)
        change(damaged)
        folder = tmp_path / "damaged"
        folder.mkdir(exist_ok=True)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (folder / name).write_bytes((bert / name).read_bytes())
        save_file(damaged, folder / "model.safetensors")
        code, _, err = output(capsys, "quantize", folder, "--data", bert / "text.txt", "-o", tmp_path / "out")
        assert code == 2
        return err.splitlines()[-1]

    assert f"{key} is missing" in run(lambda s: s.pop(key))
    assert f"{key} must be of shape [16, 32], not [16, 31]" in run(lambda s: s.update({key: s[key][:, 1:].clone()}))
    assert f"{key}: holds NaN" in run(lambda s: s.update({key: s[key] * float("nan")}))
    norm = "encoder.layer.0.output.LayerNorm.weight"
    line = run(lambda s: s.update({norm: s[norm] * float("inf")}))
    assert line == f"error: {norm}: holds NaN or infinite values" and not (tmp_path / "out").exists()


def test_a_truncated_packed_file_is_one_line(bert, tmp_path, capsys):
    assert output(capsys, "quantize", bert, "--no-activations", "-o", tmp_path)[0] == 0
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    for command in (("show", tmp_path), ("export", tmp_path, "-o", tmp_path / "gptq")):
        code, _, err = output(capsys, *command)
        assert code == 2 and err == f"error: {path}: truncated or altered: its SHA-256 is not the one in packed.json\n"
    assert not (tmp_path / "gptq").exists()


def test_layers_that_differ_do_not_fit_one_gptq_checkpoint(bert, tmp_path, capsys):
    plan = quant.Plan((quant.Rule(".*", activation_bits=None), quant.Rule("pooler.*", weight_bits=4)))
    plan.save(tmp_path / "plan.json")
    assert output(capsys, "quantize", bert, "--plan", tmp_path / "plan.json", "-o", tmp_path)[0] == 0
    code, _, err = output(capsys, "export", tmp_path, "-o", tmp_path / "gptq")
    assert code == 2 and "error: pooler.dense.weight: must have the bits" in err and not (tmp_path / "gptq").exists()


def test_without_torch_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "quant.exchange", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = output(capsys, "export", tmp_path, "-o", tmp_path / "x")
    assert code == 2 and err == 'error: torch is not installed: pip install "bitwright[quant]"\n'


def test_a_run_that_fails_late_leaves_no_folder(bert, tmp_path, capsys, monkeypatch):
    def late(*_):
        raise InputError("late")

    monkeypatch.setattr(post_training, "quantise_weight", late)
    code, _, err = output(capsys, "quantize", bert, "--no-activations", "-o", tmp_path / "out")
    assert code == 2 and err.splitlines()[-1].endswith(".weight: late") and not (tmp_path / "out").exists()
