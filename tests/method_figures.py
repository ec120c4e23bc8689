"""The tables of ZeroQuant and EfficientQAT in `quant/README.md`, from `results/`."""

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
STEPS = ("rounding", "+ row groups", "+ token-wise", "+ LKD", "per tensor", "per channel", "groups of 64", "GPTQ")
COLUMNS = (
    ("char_lm", "W8"), ("char_lm", "W4/8"), ("char_lm", "W3/8"), ("minilm", "W8"), ("minilm", "W4/8"),
    ("minilm", "W3/8"),
)  # fmt: skip
NAMES = {"char_lm": "nats", "minilm": "1 - cosine"}
FOLDERS = {"minilm": "MiniLM", "smollm2": "SmolLM2"}


def zeroquant(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """What each step costs, the mean over the seeds; inputs of 8 bits."""
    lines = []
    for method in STEPS:
        cells = [_rise(rows, {"model": model, "method": method, "weights": weights}) for model, weights in COLUMNS]
        lines.append([method, *cells])
    return ["", *(f"{weights}, {NAMES[model]}" for model, weights in COLUMNS)], lines


def efficientqat(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """What 2, 3 and 4 bits cost, the mean over the seeds, and the share of rounding's cost that is recovered."""
    subjects = list(dict.fromkeys((row["model"], row["weights"]) for row in rows if row["weights"] in SHAPES))
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for model, weights in subjects:
            chosen = {"model": model, "method": method, "weights": weights}
            cells += [_rise(rows, chosen), _recovered(rows, chosen)]
        lines.append([method, *cells])
    heads = [part for model, weights in subjects for part in (f"{model}, {weights}", "recovered")]
    return ["", *heads], lines


SHAPES = ("w2g64", "w3g64", "w4g64")


def cost(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Bytes, cycles and energy of the linear layers, in the paper's form."""
    lines = [
        [
            FOLDERS[row["folder"].split("-")[0]],
            row["numbers"],
            f"{row['bytes'] / 1e6:.2f} MB",
            f"{row['times_smaller']:.2f}",
            f"{row['times_smaller_with_the_rest']:.2f}",
            f"{row['cycles'] / 1e6:.2f} M",
            f"{row['energy'] * 1e3:.2f} mJ",
            f"{row['times_less_energy']:.2f}",
        ]
        for row in rows
    ]
    return ["", "", "linear layers", "smaller", "with the rest", "cycles", "energy", "less"], lines


def _found(rows: Rows, wanted: Mapping[str, Any]) -> Rows:
    data = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return [row for row in data if row["data"] in (None, "train", "long")]


def _rise(rows: Rows, wanted: Mapping[str, Any]) -> str:
    found = _found(rows, wanted)
    if not found:
        return "–"
    error = max(row["rise_se"] for row in found)
    return f"{sum(row['rise'] for row in found) / len(found):.4f} ± {error:.4f}"


def _recovered(rows: Rows, wanted: Mapping[str, Any]) -> str:
    found = [row for row in _found(rows, wanted) if "recovered" in row]
    return f"{100 * sum(row['recovered'] for row in found) / len(found):.1f} %" if found else "–"
