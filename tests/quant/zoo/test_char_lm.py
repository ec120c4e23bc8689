"""The language model on bytes learns, repeats, and goes on where it was interrupted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from quant.zoo import char_lm
from quant.zoo.char_lm import Recipe, load, losses, tokeniser, tokens, train, windows
from sim.reference import InputError

pytest.importorskip("transformers", reason="the architecture is that of transformers")

TEXT = tokens("a rose is a rose is a rose, and a rose it will be. " * 40)
SMALL = Recipe(width=16, layers=1, heads=2, key_heads=1, hidden=24, context=32, batch=4, steps=30, rate=1e-2)


def test_training_lowers_the_loss_and_repeats_to_the_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(SMALL, TEXT, tmp_path / name, progress=False)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    assert (
        float(losses(load(tmp_path / "a"), TEXT, 32).mean())
        < 4.5
        < float(losses(char_lm.build(SMALL), TEXT, 32).mean())
    )


def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: Any) -> None:
    train(SMALL, TEXT, tmp_path / "whole", progress=False)
    monkeypatch.setattr(char_lm, "KEPT_EVERY", 10)

    def interrupted(data: Any, count: int, length: int, seed: int) -> Any:
        if seed == 25:
            raise KeyboardInterrupt
        return windows(data, count, length, seed)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(char_lm, "windows", interrupted)
        train(SMALL, TEXT, tmp_path / "broken", progress=False)
    assert (tmp_path / "broken" / "state.pt").is_file()
    train(SMALL, TEXT, tmp_path / "broken", progress=False)
    assert not (tmp_path / "broken" / "state.pt").exists()
    paths = [tmp_path / name / "model.safetensors" for name in ("whole", "broken")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_token_is_a_byte_and_comes_back_as_one(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokeniser().save_pretrained(str(tmp_path))
    loaded = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    text = "Naïve — the 3 cafés,\n\t'quoted' & <more>."
    assert loaded(text)["input_ids"] == list(text.encode()) == tokens(text).tolist()
    assert loaded.decode(list(text.encode())) == text


def test_losses_are_those_of_the_model_itself() -> None:
    model = char_lm.build(SMALL).eval()
    rows = TEXT[:96].reshape(3, 32)
    with torch.no_grad():
        wanted = [float(model(input_ids=row[None], labels=row[None]).loss) for row in rows]
    assert losses(model, TEXT[:110], 32, batch=2).tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("change", "message"), [({"steps": 0}, "steps must be"), ({"rate": 1.5}, "rate must be")])
def test_recipes_out_of_range_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **change)


def test_data_shorter_than_a_window_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 32 tokens, not 5"):
        train(SMALL, TEXT[:5], tmp_path, progress=False)
