"""A language model on bytes that trains in minutes on one core: a Llama of a million parameters, for the Brown corpus.

`python -m quant.zoo.char_lm` trains it. A trained model is kept in the cache, under a hash of its recipe and its data;
an interrupted training goes on where it was.
"""

import hashlib
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from quant.zoo.corpora import brown
from sim.common.cache import cache_folder
from sim.common.command import Parser, run
from sim.common.errors import require_range
from sim.common.files import locked, write_whole
from sim.reference import InputError

VOCABULARY = 256  # a token is a byte
KEPT_EVERY = 100  # steps


@dataclass(frozen=True)
class Recipe:
    """Shape and training of the model; fields are checked on construction.

    Parameters
    ----------
    width, layers, heads, key_heads, hidden : int
        Of the Llama; `key_heads`: heads of keys and values; `hidden`: width of the feed-forward part.
    context, batch, steps : int
        Tokens of a window, windows of a step, steps.
    rate : float
        Largest learning rate of AdamW; warmed up over a twentieth of the steps, then a cosine to a tenth.
    seed : int
        Of the weights and of the windows.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    key_heads: int = 2
    hidden: int = 512
    context: int = 128
    batch: int = 16
    steps: int = 1500
    rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "key_heads", "hidden", "context", "batch", "steps"):
            require_range(name, getattr(self, name), 1, 1 << 20)
        require_range("seed", self.seed, 0, (1 << 31) - 1)
        if not 0 < self.rate < 1:
            raise InputError(f"rate must be in 0..1, not {self.rate}")

    def learning_rate(self, step: int) -> float:
        """The rate of a step, 0..steps-1."""
        warm = max(1, self.steps // 20)
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / self.steps)
        return self.rate * min(1.0, (step + 1) / warm) * cosine


def tokens(text: str) -> Tensor:
    """The bytes of a text, int64."""
    return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).astype(np.int64))


def build(recipe: Recipe) -> Any:
    """The untrained `LlamaForCausalLM` of a recipe's seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=recipe.width, intermediate_size=recipe.hidden,
        num_hidden_layers=recipe.layers, num_attention_heads=recipe.heads, num_key_value_heads=recipe.key_heads,
        max_position_embeddings=2 * recipe.context, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def windows(data: Tensor, count: int, length: int, seed: int) -> Tensor:
    """(count, length): windows of `data` (n,) that begin anywhere, by the seed."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(len(data) - length + 1, (count, 1), generator=generator)
    return data[first + torch.arange(length)]


def train(recipe: Recipe, data: Tensor, folder: Path, progress: bool = True) -> Any:
    """Train the model of a recipe on tokens (n,), or go on with what `folder` holds of it.

    The folder holds `state.pt` while the training is on and the finished model, as transformers saves it, afterwards.
    Same recipe and data, same bytes.

    Raises
    ------
    InputError
        If another process trains in the folder, the data are shorter than a window, or the loss is not finite.
    """
    if len(data) < recipe.context:
        raise InputError(f"data must hold at least {recipe.context} tokens, not {len(data)}")
    with locked(folder):
        if not (folder / "model.safetensors").is_file():
            _save(_train(recipe, data, folder / "state.pt", progress), folder)
            (folder / "state.pt").unlink(missing_ok=True)
        return load(folder)


def load(folder: Path) -> Any:
    """The trained model of a folder, in evaluation mode."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32).eval()


def trained(recipe: Recipe | None = None, progress: bool = True) -> Path:
    """The folder of the model trained on Brown's training part: trained now if the cache does not have it."""
    recipe = recipe or Recipe()
    text = brown("train")
    said = json.dumps({**asdict(recipe), "data": hashlib.sha256(text.encode()).hexdigest()}, sort_keys=True)
    folder = cache_folder("char_lm") / f"seed{recipe.seed}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
    if not (folder / "model.safetensors").is_file():
        train(recipe, tokens(text), folder, progress)
    return folder


@torch.no_grad()
def losses(model: Any, data: Tensor, length: int = 128, batch: int = 16) -> Tensor:
    """Mean loss in nats a token of each window of `length` of the tokens (n,), in order, float64; the rest is left."""
    rows = data[: len(data) // length * length].reshape(-1, length)
    found = []
    for part in rows.split(batch):
        logits = model(input_ids=part, use_cache=False).logits[:, :-1].double()
        loss = functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none")
        found.append(loss.reshape(len(part), -1).mean(1))
    return torch.cat(found)


def tokeniser() -> Any:
    """Bytes as a tokeniser of transformers: token i is the byte i."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = _byte_alphabet()
    made = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    made.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=made)


def _byte_alphabet() -> list[str]:
    """The character by which byte-level tokenisers name each byte: itself if it is printable, else one from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(i) if i in printable else chr(next(others)) for i in range(256)]


def _train(recipe: Recipe, data: Tensor, state: Path, progress: bool) -> Any:
    model = build(recipe).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.05)
    start = 0
    if state.is_file():
        held = torch.load(state, weights_only=True)
        model.load_state_dict(held["model"])
        optimiser.load_state_dict(held["optimiser"])
        start = held["step"]
    bar = tqdm(range(start, recipe.steps), initial=start, total=recipe.steps, unit="step", file=sys.stderr,
               disable=None if progress else True)  # fmt: skip
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate(step)
        # the seed of a step's windows: a resumed training sees those that it would have seen
        batch = windows(data, recipe.batch, recipe.context, recipe.seed * (1 << 24) + step)
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        if not bool(torch.isfinite(loss)):
            raise InputError(f"the loss of step {step} is {float(loss)}; rate must be lower than {recipe.rate}")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 0:
            bar.set_postfix_str(f"{loss.item():.3f} nats", refresh=False)
        if (step + 1) % KEPT_EVERY == 0:
            buffer = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, buffer)
            write_whole(state, buffer.getvalue())
    return model.eval()


def _save(model: Any, folder: Path) -> None:
    """The model and its tokeniser as transformers' folder; the weights last, which say that it is finished."""
    from safetensors.torch import save

    tokeniser().save_pretrained(str(folder))
    content = {**json.loads(model.config.to_json_string()), "architectures": ["LlamaForCausalLM"]}
    write_whole(folder / "config.json", json.dumps(content, indent=2) + "\n")
    write_whole(folder / "model.safetensors", save(model.state_dict(), {"format": "pt"}))


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m quant.zoo.char_lm", description="Train the language model on bytes.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="(0)")
    parser.add_argument("--steps", type=int, default=Recipe.steps, metavar="N", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    recipes = [Recipe(seed=seed, steps=arguments.steps) for seed in arguments.seeds]
    test = tokens(brown("test"))[: 1 << 16]
    for recipe in recipes:
        folder = trained(recipe)
        print(f"{folder}  {float(losses(load(folder), test).mean()):.4f} nats a byte on 64 KiB of the test part")
    return 0


if __name__ == "__main__":
    sys.exit(main())
