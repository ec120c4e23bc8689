"""The tables of ZeroQuant and EfficientQAT in `quant/README.md`, from `results/`."""

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
STEPS = ("rounding", "+ row groups", "+ token-wise", "+ LKD", "per tensor", "per channel", "groups of 64", "GPTQ")
COLUMNS = (
    ("char_lm", "W8"), ("char_lm", "W4/8"), ("char_lm", "W3/8"), ("minilm", "W8"), ("minilm", "W4/8"),
    ("minilm", "W3/8"), ("smollm2", "W8"), ("smollm2", "W4/8"), ("smollm2", "W3/8"),
)  # fmt: skip
NAMES = {"char_lm": "char_lm", "minilm": "MiniLM", "smollm2": "SmolLM2"}
FOLDERS = {"minilm": "MiniLM", "smollm2": "SmolLM2"}


def zeroquant(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """What each step costs, the mean over the seeds; inputs of 8 bits."""
    lines = []
    for method in STEPS:
        cells = [_rise(rows, {"model": model, "method": method, "weights": weights}) for model, weights in COLUMNS]
        lines.append([method, *cells])
    return ["", *(f"{NAMES[model]}, {weights}" for model, weights in COLUMNS)], lines


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
    heads = [part for model, weights in subjects for part in (f"{NAMES[model]}, {weights}", "recovered")]
    return ["", *heads], lines


def groups(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """What 2 bits cost in groups of other sizes, and with group multipliers of 4 bits."""
    shapes = ("w2g32", "w2g64", "w2g64m4", "w2g128", "w2g256")
    lines = []
    for shape in shapes:
        chosen = [{"model": "char_lm", "method": method, "weights": shape} for method in ("rounding", "Block-AP")]
        bits = next(row["bits_per_weight"] for row in _found(rows, chosen[0]))
        lines.append([shape, f"{bits:.3f}", *(_rise(rows, one) for one in chosen), _recovered(rows, chosen[1])])
    return ["", "bits per weight", "rounding", "Block-AP", "recovered"], lines


def sentences(distilled: Rows, trained: Rows) -> list[str]:
    """The claims of the two papers, as measured."""

    def recovered(data: str) -> str:
        found = [100 * row["recovered"] for row in distilled if row["method"] == "+ LKD" and row["data"] == data
                 and row["weights"] == "W3/8"]  # fmt: skip
        return f"{min(found):.0f} to {max(found):.0f} %"

    two = [row for row in trained if row["model"] == "char_lm" and row["weights"] == "w2g64"]

    def errors(method: str, other: str) -> str:
        return f"{min(row['beside'][other]['errors'] for row in two if row['method'] == method):.1f}"

    first = min(row["gain"] / row["gain_se"] for row in two if row["method"] == "E2E-QP")
    return [
        f"LKD recovers {recovered('train')} of what W3/8 costs with row groups, {recovered('dictionary')} on the text "
        f"of a dictionary and {recovered('random')} on random bytes",
        f"in every seed E2E-QP alone is {first:.1f} standard errors or more below rounding, GPTQ "
        f"{errors('GPTQ, long', 'E2E-QP')} below that, and Block-AP {errors('Block-AP, long', 'GPTQ, long')} below "
        "GPTQ",
    ]


def diagnosis(found: Mapping[str, Rows]) -> tuple[list[str], list[list[str]]]:
    """Nats a token that plans cost over floating point; the kinds of layers that 4-bit inputs hurt most."""
    lines = []
    for model, rows in found.items():
        plans = {row["plan"]: row for row in rows if row["table"] == "plans"}
        kinds = sorted((r for r in rows if r["table"] == "kinds"), key=lambda row: -row["loss_increase"])
        costs = [f"{plans[name]['loss'] - plans['floating point']['loss']:.3f}" for name in ("W4A4", "mixed", "W4A8")]
        worst = ", ".join(f"{row['kind']} {row['loss_increase']:.3f}" for row in kinds[:2])
        lines.append([NAMES[model], f"{plans['floating point']['perplexity']:.2f}", *costs, worst,
                      f"{kinds[0]['loss_increase_hadamard']:.3f}"])  # fmt: skip
    heads = ["", "perplexity", "W4A4", "mixed", "W4A8", "inputs of one kind at 4 bits", "the worst behind a Hadamard"]
    return heads, lines


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
