"""One run of the scaling law: a small Llama trained on bytes from scratch, in full precision or with quantised linears.

The quantised run has the initial weights and the order of the data of its full-precision pair, so that their difference
is δ and little else. Source: 2505.14302, section 3.1 (symmetric INT4, largest magnitudes as scales, learned clipping of
inputs where a group is 256 or more).
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.primitives.quantisers import Replaced, codes_ste, round_half_up
from sim.common.errors import InputError, require_range

FULL = "w16a16"
SCHEMES = ("w4a4", "w4a16", "w16a4", "w4a4-fc2-8", "w16a4-fc2-8")
FC2 = "down_proj"  # the second feed-forward layer of a Llama
LEARNED_FROM = 256  # group size from which clipping of inputs is learned
CHUNK = 32  # windows that are evaluated together


@dataclass(frozen=True)
class Size:
    """Shape of a model: width, layers, and heads of 32 channels; the feed-forward part is 8/3 as wide, in 64s."""

    width: int
    layers: int

    def __post_init__(self) -> None:
        require_range("width", self.width, 32, 8192)
        require_range("layers", self.layers, 1, 128)
        if self.width % 32:
            raise InputError(f"width must be a multiple of 32, not {self.width}")

    def __str__(self) -> str:
        return f"{self.width}x{self.layers}"

    @property
    def hidden(self) -> int:
        """Width of the feed-forward part."""
        return 64 * max(1, round(self.width * 8 / 3 / 64))

    @property
    def parameters(self) -> int:
        """Weights of the linear layers in the blocks: the N of the law (embeddings are not counted)."""
        return self.layers * (4 * self.width**2 + 3 * self.width * self.hidden)


@dataclass(frozen=True)
class Run:
    """One training run.

    Parameters
    ----------
    size : Size
    tokens : int
        Seen in training.
    scheme : str
        One of `SCHEMES`, or "w16a16".
    group : int
        Weights, and inputs, that share a scale; 0 for a whole row.
    seed : int
        Of the initial weights and of the order of the data.
    rate : float
        Largest learning rate.
    context, batch : int
        Tokens of a window, windows of a step.

    Raises InputError if a field is out of its range.
    """

    size: Size
    tokens: int
    scheme: str = FULL
    group: int = 0
    seed: int = 0
    rate: float = 3e-3
    context: int = 128
    batch: int = 16

    def __post_init__(self) -> None:
        if self.scheme not in (FULL, *SCHEMES):
            raise InputError(f"scheme must be one of {', '.join((FULL, *SCHEMES))}, not {self.scheme!r}")
        require_range("group", self.group, 0, 1 << 16)
        if self.group == 1:
            raise InputError("group must be 0 (a whole row) or at least 2, not 1")
        require_range("tokens", self.tokens, self.context * self.batch, 1 << 50)
        require_range("seed", self.seed, 0, (1 << 31) - 1)
        if not 0 < self.rate < 1:
            raise InputError(f"rate must be in 0..1, not {self.rate}")

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        return self.tokens // (self.context * self.batch)

    @property
    def name(self) -> str:
        """The run as a file name: every field is in it."""
        shape = f"d{self.size.width}l{self.size.layers}"
        rest = f"D{self.tokens}-G{self.group or 'row'}-s{self.seed}-r{self.rate:g}-c{self.context}b{self.batch}"
        return f"{shape}-{rest}-{self.scheme}"

    def to_row(self) -> dict[str, Any]:
        """The run's settings as columns of a table."""
        columns = {key: value for key, value in asdict(self).items() if key != "size"}
        # the law's G of a whole row: most layers have as many inputs as the width
        columns["group"] = min(self.group or self.size.width, self.size.width)
        return {"width": self.size.width, "layers": self.size.layers, "parameters": self.size.parameters, **columns}


class QatLinear(nn.Module):
    """A linear layer whose weights and inputs are rounded in the forward pass; gradients pass the rounding.

    Parameters
    ----------
    linear : nn.Linear
        Its weights become this layer's.
    weight_bits, input_bits : int
        16 leaves them as they are.
    group : int
        Elements of a row that share a scale; 0 for all.
    """

    def __init__(self, linear: nn.Linear, weight_bits: int, input_bits: int, group: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.weight_bits, self.input_bits = weight_bits, input_bits
        self.group = min(group or linear.in_features, linear.in_features)
        learned = input_bits < 16 and self.group >= LEARNED_FROM
        # sigmoid(4) = 0.98: clipping starts near the largest magnitude
        self.clip = nn.Parameter(torch.tensor(4.0)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        weight = fake_groups(self.weight, self.group, self.weight_bits) if self.weight_bits < 16 else self.weight
        if self.input_bits < 16:
            x = fake_groups(x, self.group, self.input_bits, self.clip)
        return functional.linear(x, weight, self.bias)


def fake_groups(values: Tensor, group: int, bits: int, clip: Tensor | None = None) -> Tensor:
    """Symmetric codes times their scale, differentiable: the largest magnitude of each group is the top code.

    With `clip` the range is sigmoid(clip) times that, and has a gradient.
    """
    padded = functional.pad(values, (0, -values.shape[-1] % group))
    parts = padded.reshape(*padded.shape[:-1], -1, group)
    step = _steps(parts.detach(), bits)
    if clip is None:  # nothing saturates, so that the gradient is that of the values themselves
        rounded = Replaced.apply(parts, round_half_up(parts.detach() / step).mul_(step))
    else:
        step = torch.sigmoid(clip) * step
        rounded = codes_ste(parts, step, 0, bits, True) * step
    return rounded.reshape(padded.shape)[..., : values.shape[-1]]


def _steps(parts: Tensor, bits: int) -> Tensor:
    """What the largest magnitude of each group (..., group) makes a step, (..., 1)."""
    largest = parts.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
    # the next number above: rounding must not put the largest beyond the top code, where it has no gradient
    return torch.nextafter(largest / ((1 << (bits - 1)) - 1), largest.new_tensor(torch.inf))


def quantised(model: nn.Module, scheme: str, group: int) -> nn.Module:
    """The model with every linear layer of its blocks as `QatLinear`; the head stays in full precision."""
    weight_bits, input_bits = (int(part) for part in scheme.split("-")[0][1:].split("a"))
    for name, module in list(model.named_modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and "layers." in f"{name}.":
                bits = 8 if scheme.endswith("fc2-8") and child_name == FC2 else input_bits
                setattr(module, child_name, QatLinear(child, weight_bits, bits, group))
    return model


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The optimiser's groups: learned clipping does not decay, for 0 would be half the range."""
    clips = [m.clip for m in model.modules() if isinstance(m, QatLinear) and m.clip is not None]
    known = set(map(id, clips))
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if id(p) not in known]}]
    return [*groups, {"params": clips, "weight_decay": 0.0}] if clips else groups


def train(run: Run, data: Tensor, validation: Tensor, device: str = "cpu") -> dict[str, Any]:
    """Train one run.

    Parameters
    ----------
    run : Run
    data, validation : Tensor
        Bytes (n,) as int64.
    device : str
        With "cuda" the products run in bfloat16.

    Returns
    -------
    dict
        `loss` in nats per token on `validation`, and `epochs`: how often the data were seen.

    Raises
    ------
    InputError
        The data are shorter than a window, or the loss is not finite.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if min(len(data), len(validation)) < run.context + 1:
        raise InputError(f"data must hold more than {run.context} tokens, not {min(len(data), len(validation))}")
    torch.manual_seed(run.seed)
    heads = run.size.width // 32
    config = LlamaConfig(
        vocab_size=256, hidden_size=run.size.width, intermediate_size=run.size.hidden,
        num_hidden_layers=run.size.layers, num_attention_heads=heads, num_key_value_heads=heads,
        max_position_embeddings=run.context, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    if run.scheme != FULL:
        quantised(model, run.scheme, run.group)
    model.to(device).train()
    optimiser = torch.optim.AdamW(parameter_groups(model), lr=run.rate, betas=(0.9, 0.95), weight_decay=0.05)
    generator = torch.Generator().manual_seed(run.seed)
    # windows without overlap in a random order: below one epoch every token is new
    count = len(data) // run.context
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-run.steps * run.batch // count))])
    span = torch.arange(run.context)
    for step in range(run.steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(run, step)
        batch = data[order[step * run.batch : (step + 1) * run.batch, None] * run.context + span].to(device)
        with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        if not bool(torch.isfinite(loss)):
            raise InputError(f"{run.name}: the loss of step {step} is {float(loss)}; the rate {run.rate} is too high")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    seen = run.steps * run.batch * run.context
    return {"loss": _loss(model.eval(), validation, run.context, device), "epochs": seen / len(data)}


@torch.no_grad()
def _loss(model: Any, data: Tensor, length: int, device: str) -> float:
    """Nats per token on the windows of the data, in order."""
    rows = data[: len(data) // length * length].reshape(-1, length)
    total = 0.0
    for part in rows.split(CHUNK):
        logits = model(input_ids=part.to(device), use_cache=False).logits[:, :-1].double()
        total += float(
            functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten().to(device), reduction="sum")
        )
    return total / (rows.shape[0] * (length - 1))


def _rate(run: Run, step: int) -> float:
    """Warm-up over a twentieth of the steps, then a cosine to a tenth."""
    warm = max(1, run.steps // 20)
    return run.rate * min(1.0, (step + 1) / warm) * (0.55 + 0.45 * math.cos(math.pi * step / run.steps))
