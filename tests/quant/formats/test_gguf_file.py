"""GGUF files: what is loaded is what the format's own package dequantises; other formats and damage are one line."""

import json
import string
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from quant.cli import main
from quant.formats.checkpoint import load_model
from quant.formats.gguf_file import origin_line, read_origin
from quant.gguf_folder import import_gguf
from quant.plan import Plan
from sim.reference import InputError

gguf = pytest.importorskip("gguf", reason="GGUF files are read with gguf (the extra gguf)")
pytest.importorskip("accelerate", reason="transformers reads GGUF files with accelerate (the extra gguf)")

WIDTH, HEADS, KEYS, HIDDEN, VOCABULARY = 64, 2, 1, 96, 32
SHAPES = {"token_embd": (VOCABULARY, WIDTH), "output_norm": (WIDTH,), "blk.0.attn_norm": (WIDTH,),
          "blk.0.ffn_norm": (WIDTH,), "blk.0.attn_q": (WIDTH, WIDTH), "blk.0.attn_k": (WIDTH // 2, WIDTH),
          "blk.0.attn_v": (WIDTH // 2, WIDTH), "blk.0.attn_output": (WIDTH, WIDTH), "blk.0.ffn_gate": (HIDDEN, WIDTH),
          "blk.0.ffn_up": (HIDDEN, WIDTH), "blk.0.ffn_down": (WIDTH, HIDDEN)}  # fmt: skip
NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm",
         "blk.0.attn_norm": "model.layers.0.input_layernorm",
         "blk.0.ffn_norm": "model.layers.0.post_attention_layernorm", "blk.0.attn_q": "model.layers.0.self_attn.q_proj",
         "blk.0.attn_k": "model.layers.0.self_attn.k_proj", "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
         "blk.0.attn_output": "model.layers.0.self_attn.o_proj", "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj",
         "blk.0.ffn_up": "model.layers.0.mlp.up_proj", "blk.0.ffn_down": "model.layers.0.mlp.down_proj"}  # fmt: skip


def write(path: Path, kind: str, embedding: str = "F16", tokens: bool = False) -> dict[str, np.ndarray]:
    """A small Llama whose matrices have a number format, with a tokeniser of letters if asked for; returns the values
    that they stand for, by GGUF name.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    if tokens:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(["<s>", "</s>", *string.ascii_lowercase, "ab", *"ABC"])
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
    generator, values = np.random.default_rng(0), {}
    for name, shape in SHAPES.items():
        real = generator.standard_normal(shape, dtype=np.float32)
        chosen = gguf.GGMLQuantizationType[embedding if name == "token_embd" else kind if len(shape) > 1 else "F32"]
        stored = gguf.quants.quantize(real, chosen)
        values[name] = gguf.quants.dequantize(stored, chosen).reshape(shape)
        writer.add_tensor(f"{name}.weight", stored, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def halves_apart(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key in transformers' order; llama.cpp interleaves the two halves of a head."""
    rows = matrix.reshape(heads, -1, 2, matrix.shape[1])
    return rows.swapaxes(1, 2).reshape(matrix.shape)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "F16", "F32"])
def test_a_gguf_file_becomes_the_folder_of_the_values_it_stands_for(kind, tmp_path, capsys):
    path = tmp_path / "model.gguf"
    values = write(path, kind)
    rows = import_gguf(path, tmp_path / "folder")
    assert {row["number_format"]: row["tensors"] for row in rows} == (
        {"F16": 1, "F32": 3, kind: 7} if kind.startswith("Q") else {"F16": 8, "F32": 3} if kind == "F16"
        else {"F16": 1, "F32": 10}
    )  # fmt: skip
    stored = load_file(tmp_path / "folder" / "model.safetensors")
    heads = {"blk.0.attn_q": HEADS, "blk.0.attn_k": KEYS}
    for name, real in values.items():
        expected = halves_apart(real, heads[name]) if name in heads else real
        assert np.array_equal(stored[f"{NAMES[name]}.weight"].numpy(), expected), name
    model, unused = load_model(tmp_path / "folder")
    direct, _ = load_model(path)
    assert unused == [] and all(map(torch.equal, model.parameters(), direct.parameters()))
    line = origin_line(model.config)
    bits = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}.get(kind)
    assert line is None if bits is None else line and line.startswith(f"weights came as {bits} bit in groups of 32")
    assert origin_line(direct.config) == line and ("weights came as" in capsys.readouterr().err) == (bits is not None)


@pytest.mark.parametrize("command", ["quantize", "zeroquant"])
def test_a_quantised_gguf_file_is_a_packed_folder_that_is_evaluated(command, tmp_path, capsys):
    path, text = tmp_path / "model.gguf", tmp_path / "text.txt"
    write(path, "Q8_0", tokens=True)
    text.write_text("thequickbrownfox" * 4)
    Plan.uniform("lm_head", activation_granularity="token").save(tmp_path / "plan.json")
    options = {"quantize": ["--plan", str(tmp_path / "plan.json")], "zeroquant": ["--groups", "2"]}
    assert main([command, str(path), *options[command], "-o", str(tmp_path / "packed")]) == 0
    assert "no tokeniser" not in capsys.readouterr().err
    stored = json.loads((tmp_path / "packed" / "packed.json").read_text())["details"]["coverage"]
    assert stored["bytes_before"] == path.stat().st_size
    assert main(["evaluate", str(tmp_path / "packed"), "--data", str(text), "--sequence-length", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["weights"] == "packed"


def test_another_number_format_and_damage_are_one_line(tmp_path):
    path = tmp_path / "model.gguf"
    write(path, "Q5_0")
    with pytest.raises(InputError, match=r"model\.gguf: blk\.0\.attn_q\.weight must be one of .*F32, not Q5_0"):
        read_origin(path)
    write(path, "Q4_0")
    data = path.read_bytes()
    for bad in (b"", data[:40], data[:-5000], b"GGUF" + b"\xff" * 60):
        path.write_bytes(bad)
        with pytest.raises(InputError, match=r"model\.gguf: (not a whole GGUF file|holds no tensor)"):
            load_model(path)
    with pytest.raises(InputError, match=r"none\.gguf: cannot be read"):
        read_origin(tmp_path / "none.gguf")
