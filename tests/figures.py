"""The measured figures of the .md files, as `results/` and the programs give them.

`python -m tests.figures` rewrites the tables between `<!-- figures: NAME -->` and `<!-- end -->`, and lists the
sentences that no longer hold.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cost_model.commands import floating
from cost_model.commands.calibrate import error_record
from ga_search.paper import released_mse
from ga_search.report import table_text
from rtl.array.config import ArrayConfig
from rtl.units import UNITS
from sim.common.results import read_results
from sim.vectors.rowwise_suite import row_suite
from tests import engine_figures, method_figures

ROOT = Path(__file__).parent.parent
RESULTS = sorted((ROOT / "results").glob("*.json"))
DATA = ROOT / "cost_model" / "data"
GE, IHP = "gate_equivalents", "sg13g2_stdcell_typ_1p20V_25C"
SAVINGS = ("area_saving_vs_fp32", "area_saving_vs_int32", "power_saving_vs_fp32", "power_saving_vs_int32")
BLOCK = re.compile(r"<!-- figures: ([\w ]+) -->\n(.*?)<!-- end -->", re.DOTALL)

Results = Mapping[str, Any]  # the rows of each file by its stem, and what the programs give
Text = Mapping[str, str]  # the documents by their path


def documents() -> dict[str, str]:
    """Every .md file of the repository, by its path."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/README.md")]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(paths)}


def results() -> dict[str, Any]:
    """What the figures are made of; a file whose hash is wrong raises `InputError`."""
    found: dict[str, Any] = {path.stem: read_results(path)["rows"] for path in RESULTS}
    found["sentence options"] = read_results(ROOT / "results" / "sentence.json")["options"]
    found["four-bits options"] = read_results(ROOT / "results" / "four-bits.json")["options"]
    found["row_units"] = read_results(DATA / "row_units.json")["rows"]
    held_out, fitted = (
        json.loads((DATA / f"{name}.json").read_text())["libraries"] for name in ("held_out", "coefficients")
    )
    found["analytical errors"] = [error_record(name, rows, fitted[name]) for name, rows in held_out.items()]
    larger = {name: [row for row in rows if row["point"].get("entries") != 2] for name, rows in held_out.items()}
    found["analytical errors, larger"] = [error_record(name, rows, fitted[name]) for name, rows in larger.items()]
    return found | schedules()


@cache
def schedules() -> dict[str, Any]:
    """The cycle formulas of the rowwise units and of the array at the shapes that the text names."""
    names = ("softmax", "layernorm", "rmsnorm")
    softmax, *norms = row_suite(0, True, names, dict.fromkeys(names, ("40",)))
    (norm,) = {UNITS[v.unit].configuration(v.configuration).schedule for v in norms}
    array = ArrayConfig(16, 16, 4, False, group=64, max_inputs=512).schedule
    return {"softmax": UNITS["softmax"].configuration(softmax.configuration).schedule, "norm": norm, "array": array}


def blocks(found: Results) -> dict[str, str]:
    """The text of each marked table."""
    return {
        "zeroquant": _table(*method_figures.zeroquant(found["zeroquant"])),
        "zeroquant cost": _table(*method_figures.cost(found["zeroquant_cost"])),
        "efficientqat": _table(*method_figures.efficientqat(found["efficientqat"])),
        "groups": _table(*method_figures.groups(found["efficientqat"])),
        "diagnosis": _table(
            *method_figures.diagnosis(
                {name: found[f"diagnose_{name}"] for name in ("char_lm", "smollm2") if f"diagnose_{name}" in found}
            )
        ),
        "first result": f"```text\n{table_text(found['default_fits'])}\n```\n",
        "headline": _savings(found["cost"])[0],
        "savings": _savings(found["cost"])[1],
        "factors": _factors(found["cost_sensitivity"]),
        "rows": _rowwise(found["row_units"]),
        "floating": _floating(found["floating"]),
        "engine": _table(*engine_figures.cost(found["engine"])),
        "units": _units(found["explore_unit"]),
        "units osu": _units_beside(found["explore_unit"], found["explore_unit_osu018"]),
        "libraries": _libraries(found["cost"], found["cost_osu018"]),
        "layout": _layout(found["layout"]),
        "sentence": _sentence(found["sentence"]),
        "language": _language(found["language"]),
        "speed": _speed(found["network"]),
        "four bits": _four_bits(found["four-bits"]),
        "vision": _vision(found["segment"], found["lightweight"], found["vision"]),
        "two powers": _without_multiplier(found),
        "explored": _explored(found["explore_minilm"], found["explore_char_lm"]),
    }


def sentences(found: Results) -> dict[str, list[str]]:
    """What each document must say, white space apart."""
    return {
        "README.md": _readme(found),
        "quant/README.md": method_figures.sentences(found["zeroquant"], found["efficientqat"]),
        "rtl/README.md": _rtl(found),
        "sim/README.md": _sim(found),
        "cost_model/README.md": [*_cost(found), *engine_figures.sentences(found["engine"])],
    }


def problems(texts: Text, tables: Mapping[str, str], said: Mapping[str, Sequence[str]]) -> list[str]:
    """The tables and sentences that the documents do not have, each as it must read."""
    missing = []
    for path, text in texts.items():
        for name, shown in BLOCK.findall(text):
            if shown != tables.get(name):
                missing.append(f"{path}, table {name}:\n{tables.get(name)}")
        flat = " ".join(text.split())
        missing += [f"{path}: {line}" for line in said.get(path, ()) if line not in flat]
    return missing


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    marks = ["|".join(["", *("---" for _ in headings), ""])]
    return "".join(f"{line}\n" for line in [_line(headings), *marks, *map(_line, lines)])


def _line(cells: Sequence[str]) -> str:
    return "".join(["|", *(f" {cell} |" if cell else " |" for cell in cells)])


def _reference(cost: Sequence[Any]) -> list[Any]:
    return [row for row in cost if row["unit"] == "pwl" and row["entries"] == 8 and row["reference"]]


def _saved(row: Mapping[str, Any]) -> list[str]:
    return [f"{100 * row[name]:.1f} %" for name in SAVINGS]


def _savings(cost: Sequence[Any]) -> tuple[str, str]:
    """The paper beside the synthesised units, and the same with the analytical model's."""
    int8 = {(row["view"], row["library"]): row for row in _reference(cost) if row["format"] == "INT8"}
    clock = int8["synthesised", IHP]["clock_hz"] / 1e6
    views = {
        ("paper", "TSMC 28 nm"): "paper, TSMC 28 nm",
        ("synthesised", GE): "gate equivalents (power: switching proxy)",
        ("synthesised", IHP): f"IHP SG13G2, 130 nm, {clock:.0f} MHz",
        ("analytical", GE): "analytical model, gate equivalents",
        ("analytical", IHP): "analytical model, IHP",
    }
    headings = ["INT8 saves, 8 entries", "area, FP32", "area, INT32", "power, FP32", "power, INT32"]
    lines = [[name, *_saved(int8[view])] for view, name in views.items()]
    return _table(headings, lines[:3]), _table(headings, lines)


# the changed factor and its value, as `python -m cost_model sensitivity` names them
FACTORS = (
    ("pipeline depth", "INT8 in 3 stages"), ("pipeline depth", "INT8 in 4 stages"), ("pipeline depth", "3 stages each"),
    ("multiplier", "the synthesiser's"), ("multiplier", "the synthesiser's, Booth"),
    ("table storage", "latches"), ("table storage", "wired in"),
    ("shifters", "output shift fixed"), ("stall logic", "none"), ("INT32 coefficients", "24 bits"),
    ("clock", "80 % gated"),
)  # fmt: skip


def _factors(sensitivity: Sequence[Any]) -> str:
    measured = {(row["factor"], row["value"], row["library"]): _saved(row) for row in sensitivity}
    headings = ["changed", "library", "area, FP32", "area, INT32", "power, FP32", "power, INT32"]
    libraries = {"GE": GE, "IHP": IHP}
    return _table(
        headings,
        [
            [f"{factor}: {value}", short, *measured[factor, value, name]]
            for factor, value in FACTORS
            for short, name in libraries.items()
        ],
    )


def _rowwise(row_units: Sequence[Any]) -> str:
    ge = {row["unit"]: row for row in row_units if row["area_unit"] == "GE"}
    physical = {row["unit"]: row for row in row_units if row["area_unit"] == "um2"}
    (clock,) = {row["clock_hz"] for row in physical.values()}
    headings = ["unit", "longest row", "gate equivalents", "switching proxy", "SG13G2, um²"]
    names = {"softmax": "softmax", "layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}
    return _table(
        [*headings, f"at {clock / 1e6:.0f} MHz", "memories, bits"],
        [
            [
                name,
                str(ge[unit]["length"]),
                f"{ge[unit]['area']:,.0f}",
                f"{ge[unit]['switching_proxy']:,.0f}",
                f"{physical[unit]['area']:,.0f}",
                f"{physical[unit]['power_w'] * 1e3:#.3g} mW",
                f"{ge[unit]['memory_bits']:,}",
            ]
            for unit, name in names.items()
        ],
    )


def _floating(areas: Sequence[Any]) -> str:
    rows = {(row["unit"], row["format"]): row for row in areas}
    return _table(
        ["", "here", "published", ""],
        [
            [
                f"{number.upper()} {name}",
                f"{rows[unit, number]['logic_ge']:.0f}",
                f"{rows[unit, number]['published_ge_low']}",
                f"{rows[unit, number]['published_um2']} um²",
            ]
            for number in ("fp32", "fp16")
            for unit, name in (("add", "adder"), ("multiply", "multiplier"))
        ],
    )


METHODS = {
    "exact": "exact functions",
    "gqa-lut": "GQA-LUT's recipe",
    "gqa-lut-paper": "GQA-LUT's recipe, the paper's domains",
    "nn-lut": "NN-LUT",
    "genetic": "ours",
    "genetic-16-bit": "ours, coefficients of 16 bits",
    "genetic-folded": "ours, activations folded",
}


def _units(rows: Sequence[Any]) -> str:
    """Units at the released tables' errors: area, saved against FP32 with 8 and with its own fewest entries."""

    def share(row: Mapping[str, Any], key: str) -> str:
        return f"{100 * row[key]:.1f} %" if row.get(key) is not None else ""

    lines = []
    for row in rows:
        errors = row.get("errors", {}).values()
        signs = [{"signed": "", "unsigned": "+", "negative": "-"}[row[key]] for key in row if key.endswith("_sign")]
        widths = [f"{row[key]}{sign}" for key, sign in zip(("slope_bits", "intercept_bits"), signs, strict=False)]
        lines.append(
            [
                row["unit"],
                str(row.get("entries", "")),
                ", ".join(widths),
                f"{row['area_ge']:,.0f}",
                share(row, "saving_ge"),
                f"{row['area_um2']:,.0f}",
                share(row, "saving_um2"),
                share(row, "saving_um2_fewest_entries"),
                ", ".join(f"{100 * one['correctly_rounded']:.0f} %" for one in errors),
                ", ".join(f"{one['mse_rounded']:.1e}" for one in errors),
            ]
        )
    headings = ["unit", "entries", "bits of slopes, intercepts", "gate equivalents", "saved", "SG13G2, um²", "saved"]
    return _table([*headings, "of FP32's fewest entries", "correctly rounded", "MSE rounded"], lines)


def _units_beside(first: Sequence[Any], second: Sequence[Any]) -> str:
    """What the loaded units save of FP32 with 8 entries in one library and in another."""
    before = {row["unit"]: row for row in first}
    lines = [
        [
            row["unit"],
            f"{100 * before[row['unit']]['saving_um2']:.1f} %",
            f"{row['area_um2']:,.0f}",
            f"{row['stages']}",
            f"{100 * row['saving_um2']:.1f} %",
        ]
        for row in second
        if "saving_um2" in row
    ]
    return _table(["unit", "saved in SG13G2", "OSU 180 nm, um²", "stages", "saved"], lines)


def _layout(rows: Sequence[Any]) -> str:
    """Units without wires and after routing."""
    lines = [
        [
            row["format"],
            *(f"{row[key]:,.0f}" for key in ("area_um2", "row_area_um2")),
            f"{row['wire_mm']:.1f}",
            f"{row['failed_nets']}",
            *(f"{row[key]:.2f}" for key in ("path_no_wires_ns", "path_routed_ns", "path_library_model_ns")),
            *(f"{1e3 * row[key]:.2f}" for key in ("power_w", "power_routed_w")),
        ]
        for row in rows
    ]
    headings = ["unit, 8 entries", "cells, um²", "rows, um²", "wire, mm", "nets that failed", "path, ns, no wires"]
    return _table([*headings, "routed", "wire load model", "mW, no wires", "routed"], lines)


def _libraries(*costs: Sequence[Any]) -> str:
    """The savings in real libraries, each at equal clock with its own stage counts."""
    lines = []
    for cost in costs:
        rows = [row for row in _reference(cost) if row["view"] == "synthesised" and row["area_unit"] == "um2"]
        by_format = {row["format"]: row for row in rows}
        int8 = by_format["INT8"]
        stages = ", ".join(str(by_format[name]["stages"]) for name in ("INT8", "INT32", "FP32"))
        area = f"{int8['area']:,.0f}"
        lines.append([int8["library"], f"{1e9 / int8['clock_hz']:.0f} ns", stages, area, *_saved(int8)])
    headings = ["library", "period", "stages of INT8, INT32, FP32", "INT8, um²", "saves area, FP32", "area, INT32"]
    return _table([*headings, "power, FP32", "power, INT32"], lines)


def _seed_zero(sentence: Sequence[Any]) -> list[Any]:
    return [row for row in sentence if row["operation"] == "all" and row["seed"] == 0]


def _sentence(sentence: Sequence[Any]) -> str:
    lines = []
    for row in _seed_zero(sentence):
        exact = row["entries"] is None
        fall = "–" if exact else f"{row['fall_low']:.4f} .. {row['fall_high']:.4f}"
        entries = "–" if exact else str(row["entries"])
        lines.append([METHODS[row["method"]], entries, f"{row['cosine']:.4f}", fall, f"{row['spearman']:.4f}"])
    return _table(["tables", "entries", "cosine to FP32", "fall against exact, 95 %", "Spearman"], lines)


def _language(language: Sequence[Any]) -> str:
    lines = []
    for row in language:
        if row["operation"] == "all":
            exact = row["entries"] is None
            rise = "–" if exact else f"{row['over_exact_low']:.1f} .. {row['over_exact_high']:.1f}"
            entries = "–" if exact else str(row["entries"])
            lines.append([METHODS[row["method"]], entries, f"{row['perplexity']:.1f}", f"{row['over_fp32']:.1f}", rise])
    return _table(["tables", "entries", "perplexity", "% over FP32", "% over exact, 95 %"], lines)


def _four_bits(rows: Sequence[Any]) -> str:
    """A line for each choice of inputs and transforms, a column for each model."""
    names = {"minilm": "MiniLM, cosine", "char_lm": "small Llama, loss", "smollm2": "SmolLM2, loss"}
    models = [*dict.fromkeys(row["model"] for row in rows)]
    values = {
        (row["bits"], row["down_bits"], row["hadamard"], row["model"]): f"{row['value']:.3f} ({row['low']:.3f} .. "
        f"{row['high']:.3f})"
        for row in rows
    }
    places = {"down": "before down", "all": "before every layer", None: "–"}
    lines = [
        [f"{bits} bits", f"{down} bits", places[where], *(values[bits, down, where, model] for model in models)]
        for bits, down, where in dict.fromkeys(key[:3] for key in values)
    ]
    return _table(["inputs", "of down layers", "Hadamard", *(names[model] for model in models)], lines)


def _vision(segment: Sequence[Any], lightweight: Sequence[Any], masks: Sequence[Any]) -> str:
    """The mean over the seeds of the fall of mIoU in points, and the IoU of masks at one seed."""
    falls = [{(row["method"], row["entries"]): row for row in _all(rows, None)} for rows in (segment, lightweight)]
    lines = []
    for mask in _all(masks, 0):
        key, exact = (mask["method"], mask["entries"]), mask["entries"] is None
        own = [f"{row[key]['fall']:.2f} ({row[key]['fall_low']:.2f} .. {row[key]['fall_high']:.2f})"
               if key in row and not exact else "–" for row in falls]  # fmt: skip
        iou = "–" if exact else f"{mask['iou_exact']:.3f}"
        lines.append([METHODS[mask["method"]], "–" if exact else str(mask["entries"]), *own, iou])
    return _table(["tables", "entries", "SegFormer, fall", "linear attention, fall", "ViT masks, IoU to exact"], lines)


def _all(rows: Sequence[Any], seed: int | None) -> list[Any]:
    """The rows with all operations replaced, at a seed or averaged over the seeds."""
    return [row for row in rows if row["operation"] == "all" and row["seed"] == seed]


def _speed(network: Sequence[Any]) -> str:
    """Multiples of FP32's speed by the clock on the wall."""
    cases = [(size, threads) for size in ("16 x 128", "1 x 32") for threads in (1, 2)]
    speeds = {(row["what"], row["size"], row["threads"]): row["speed"] for row in network}
    names = ["W8A8", "W4 g64", "W4 g64 m4", "torch dynamic INT8", "ONNX Runtime dynamic INT8"]
    names = [name for name in names if any(row["what"] == name for row in network)]
    lines = [[name, *(f"{speeds[name, size, threads]:.1f}" for size, threads in cases)] for name in names]
    return _table(["network", *(f"{size}, {t} thread{'s' * (t > 1)}" for size, t in cases)], lines)


def _ours(sentence: Sequence[Any]) -> Any:
    return next(row for row in _seed_zero(sentence) if (row["method"], row["entries"]) == ("genetic", 8))


def _explored(minilm: Sequence[Mapping[str, Any]], char_lm: Sequence[Mapping[str, Any]]) -> str:
    """The papers' points of the explored networks."""
    lines = []
    for name, rows in (("all-MiniLM-L6-v2", minilm), ("language model on bytes", char_lm)):
        for row in (row for row in rows if row["label"]):
            loss = (
                f"cosine {1 - row['error_cosine']:.4f}"
                if "error_cosine" in row
                else f"perplexity +{100 * math.expm1(row['error_nats']):.2f} %"
            )
            parts = [row[f"energy_{part}_uj"] for part in ("units", "sram", "dram")]
            lines.append(
                [
                    name, row["label"], loss, f"{row['model_bytes'] / 1e6:.2f}", f"{row['area_mm2']:.1f}",
                    f"{row['energy_uj']:,.0f}", " / ".join(f"{part:,.0f}" for part in parts),
                    f"{row['latency_ms']:.1f}", "yes" if row["on_front"] else "no",
                ]
            )  # fmt: skip
    headings = ("network", "point", "accuracy", "MB", "mm²", "µJ", "units / SRAM / DRAM", "ms", "on the front")
    return _table(headings, lines)


def _readme(found: Results) -> list[str]:
    gelu = found["default_fits"][0]
    ours = _ours(found["sentence"])
    released = released_mse(gelu)
    assert released is not None and (gelu["function"], gelu["entries"]) == ("gelu", 8)
    return [
        f"GELU with {gelu['entries']} entries. The table follows the function to within one output step "
        f"({gelu['max_ulp']:.2f} ULP). Its mean squared error is {100 * gelu['mse_full'] / released[0]:.0f} % of the",
        f"with {ours['entries']}-entry tables, keeps a mean cosine of {ours['cosine']:.4f} to its FP32 self on "
        f"{found['sentence options']['count']:,} sentences",
    ]


KEPT = {
    (): "Neither 8 nor 16 entries keep",
    (8,): "Of 8 and 16 entries only 8 keep",
    (16,): "Of 8 and 16 entries only 16 keep",
    (8, 16): "8 and 16 entries keep",
}


def _sim(found: Results) -> list[str]:
    ours = _ours(found["sentence"])
    every = [row for row in found["language"] if row["method"] == "genetic" and row["operation"] == "all"]
    kept = tuple(sorted(row["entries"] for row in every if row["over_exact"] <= 0.5))
    masks = [row["iou_exact"] for row in found["vision"] if (row["method"], row["entries"]) == ("genetic", 8)]
    alone = {row["operation"]: row["over_exact"] for row in found["language"]}
    costs = [f"{name} {alone[name.lower()]:.1f} %" for name in ("DIV", "SILU", "EXP", "RSQRT")]
    return [
        f"{KEPT[kept]} the perplexity within half a per cent of exact functions.",
        f"With 8 entries the ViT's masks {'reach' if min(masks) >= 0.99 else 'miss'} the 0.99 that was aimed at.",
        f"One function alone by 8 entries costs {', '.join(costs[:3])} and {costs[3]}.",
        f"with floating point on {found['sentence options']['count']:,} English sentences",
        f"all-MiniLM-L6-v2 by the cosine of {found['four-bits options']['sentences']} sentences to floating point",
        f"Eight fitted entries lose {ours['fall']:.4f};",
    ]


def _rtl(found: Results) -> list[str]:
    softmax, norm, array = found["softmax"], found["norm"], found["array"]
    assert (softmax.passes, norm.passes, softmax.rows) == (2, 1, norm.rows)
    whole = next(row for row in found["floating"] if row["unit"].startswith("pwl-8") and row["format"] == "fp32")
    stages = re.fullmatch(r"pwl-8, (\d+) stages", whole["unit"])
    assert stages
    low, high = whole["published_ge_low"], whole["published_ge_high"]
    small, large = floating.NAND2_28_UM2
    size = (512, 512, 512)
    (layers,), (llama,) = found["layer"], found["layer_language"]
    assert not layers["mismatches"] and not llama["mismatches"]
    busy = layers["array_cycles"] / layers["cycles"]
    return [
        f"at least {softmax.unlimited} elements in softmax and at least {norm.unlimited} in the norms",
        f"E + 2 M + {softmax.latency} cycles in softmax and E + M + {norm.latency} in the norms",
        f"only {norm.rows} rows may be inside",
        f"An FP32 unit with 8 entries meets 8 ns in IHP's SG13G2 with {stages[1]} stages",
        f"The whole FP32 unit takes {whole['area_ge']:,.0f}: its table's flip-flops {whole['table_ge']:.0f}, "
        f"the pipeline's {whole['pipeline_ge']:.0f}, logic {whole['logic_ge']:.0f}.",
        f"GQA-LUT's, {whole['published_um2']} um² in TSMC 28 nm, is {low} to {high} if a NAND2 there takes "
        f"{small} to {large} um²",
        f"{floating.NAND2_UM2} um² a NAND2, as in NanGate FreePDK45",
        f"Ours is {whole['area_ge'] - high:.0f} to {whole['area_ge'] - low:.0f} larger",
        f"512 x 512 x 512 on 16 x 16 takes {array.cycles(*size):,} cycles",
        f"busy for {100 * array.utilisation(*size):.2f} %",
        f"{layers['tokens']} tokens, take {layers['cycles']:,} cycles on {layers['lanes']} lanes and "
        f"{layers['row_units']} row units. The array works in {100 * busy:.1f} % of them",
        f"Every one of the {layers['writes']:,} words that the Verilog writes is as specified",
        f"Verilator, {layers['seconds'] / 60:.1f} minutes",
        f"{llama['tokens']} tokens on {llama['lanes']} lanes, takes {llama['cycles']:,} cycles, and all "
        f"{llama['writes']:,} words are as specified",
    ]


def _without_multiplier(found: Results) -> str:
    """The measured units whose slopes are sums of two powers of two, beside those with a tree."""
    trees = {row["unit"]: row for row in found["explore_unit"] if row.get("library") == IHP}
    lines = []
    for function in ("gelu", "hswish", "exp"):
        own = next(row for row in found[f"explore_two_powers_{function}"] if row["area_ge"] is not None)
        name = f"{function}, {'not folded' if own['symmetry'] == 'none' else 'folded'}"
        tree = trees[name]
        cells = [
            f"{unit['entries']:.0f}, {unit['slope_bits']:.0f}, {unit['intercept_bits']:.0f}" for unit in (own, tree)
        ]
        for key in ("area_ge", "area_um2"):
            cells += [f"{own[key]:,.0f}", f"{tree[key]:,.0f}", f"{100 * (own[key] / tree[key] - 1):+.0f} %"]
        lines.append([name, *cells])
    headings = ["unit", "entries, bits of slopes and intercepts", "with a tree", "gate equivalents", "with a tree", ""]
    return _table([*headings, "SG13G2, um²", "with a tree", ""], lines)


def _cost(found: Results) -> list[str]:
    rows = _reference(found["cost"])
    stages = {row["format"]: row["stages"] for row in rows if row["view"] == "synthesised"}
    period = {1e9 / row["clock_hz"] for row in rows if row["view"] == "synthesised" and row["library"] == IHP}
    paper = {row["format"]: row for row in rows if row["view"] == "paper"}
    scaled = {row["format"]: row for row in rows if row["view"] == "28 nm"}
    int8 = {row["library"]: row for row in rows if row["format"] == "INT8" and row["view"] == "synthesised"}
    counts = ", ".join(f"{name} {stages[name]}" for name in ("INT8", "INT16", "INT32", "FP16", "FP32"))
    points = [[f"{100 * (int8[name][s] - paper['INT8'][s]):.1f}" for s in SAVINGS[2:]] for name in (GE, IHP)]
    area = _within([int8[name][s] - paper["INT8"][s] for name in (GE, IHP) for s in SAVINGS[:2]])
    changed = {(row["value"], row["library"]): row for row in found["cost_sensitivity"]}
    four = [changed["INT8 in 4 stages", name] for name in (GE, IHP)]
    assert all(row["stages"]["INT8"] == 4 for row in four)
    deep = _within([row[s] - paper["INT8"][s] for row in four for s in SAVINGS])
    larger = [
        100 * (changed["the synthesiser's", name]["area"]["INT32"] / changed["equal clock", name]["area"]["INT32"] - 1)
        for name in (GE, IHP)
    ]
    needs = {
        r["unit"]: 1e9 * (1 / r["clock_hz"] - r["slack_s"]) for r in found["row_units"] if r["slack_s"] is not None
    }
    (made_for,) = {1e9 / r["clock_hz"] for r in found["row_units"] if r["clock_hz"] is not None}
    (drawn, both), (others, without) = (_errors(found[f"analytical errors{of}"]) for of in ("", ", larger"))
    priced = {row["library"]: row for row in rows if row["format"] == "INT8" and row["view"] == "analytical"}
    area_off, power_off = (
        " and ".join(f"{100 * (_spent(priced[n], what) / _spent(int8[n], what) - 1):.1f} %" for n in (GE, IHP))
        for what in ("area", "power_w")
    )
    delayed = {row["format"]: row for row in found["glitches"]}
    settled = {row["format"]: row for row in rows if row["library"] == IHP and row["view"] == "synthesised"}
    for name, row in delayed.items():
        assert row["source"]["netlist_sha256"] == settled[name]["source"]["netlist_sha256"]
    glitchy, zero = delayed["INT8"], settled["INT8"]
    gated = changed["80 % gated", IHP]["power"]["INT8"] / changed["equal clock", IHP]["power"]["INT8"]
    return [
        f"For INT8 (8 entries, {glitchy['stages']} stage, IHP, {1e9 / glitchy['clock_hz']:.0f} ns) that is "
        f"{_watts(glitchy)} mW instead of {_watts(zero)}, so zero delay understates it by "
        f"{100 * (1 - zero['power_w'] / glitchy['power_w']):.0f} %. Of the {_watts(zero)} mW the "
        f"free-running clock takes {100 * (1 - gated) / 0.8:.0f} %. With glitches INT8 saves "
        f"{_saved(glitchy)[2]} of FP32's power and {_saved(glitchy)[3]} of INT32's, instead of {_saved(zero)[2]} and "
        f"{_saved(zero)[3]}",
        f"softmax meets {min(period):.0f} ns in SG13G2 with {min(period) - needs['softmax']:.1f} ns to spare. The "
        f"norms need {max(needs['layernorm'], needs['rmsnorm']):.1f} ns",
        f"Their figures are for a period of {made_for:.0f} ns",
        f"(each format with the fewest stages that meet {min(period):.0f} ns in IHP's library: {counts})",
        f"All four savings of area are within {area} points of the paper's",
        f"larger, by {points[0][0]} and {points[0][1]} points in gate equivalents and by {points[1][0]} and "
        f"{points[1][1]} in IHP.",
        f"With INT8 in 4 stages and nothing else changed, all four savings are within {deep} points",
        f"INT32 would be {larger[0]:.0f} % larger ({larger[1]:.0f} % in IHP)",
        *(
            f"{name} {comes}at {_area(scaled[name])} um² and {_watts(scaled[name])} mW (paper: {_area(paper[name])} "
            f"and {_watts(paper[name])})"
            for name, comes in (("INT8", "comes out "), ("INT32", ""))
        ),
        f"On {drawn} units drawn for the comparison alone it errs, in gate equivalents and in IHP, by "
        f"{both['area_mean']} of area on average, {both['area_max']} of area at worst, {both['energy_mean']} of power "
        f"on average, and {both['energy_max']} of power at worst. The worst are tables of two entries, "
        f"{drawn - others} of the {drawn}: without them power errs by {without['energy_mean']} on average, and by "
        f"{without['energy_max']} at worst.",
        f"For the headline's own INT8 unit it gives {area_off} of area, and {power_off} of power",
    ]


def _errors(records: Sequence[Any]) -> tuple[int, dict[str, str]]:
    """How many units, and each statistic in both libraries."""
    (count,) = {record["points"] for record in records}
    return count, {
        key: " and ".join(f"{100 * record[key]:.1f} %" for record in records) for key in records[0] if "_m" in key
    }


def _spent(row: Mapping[str, Any], what: str) -> float:
    """A figure of a row; the switching proxy if the library has no watts."""
    return row["switching_proxy"] if row[what] is None else row[what]


def _within(differences: Sequence[float]) -> int:
    """The whole percentage points that hold all the differences."""
    return math.ceil(100 * max(map(abs, differences)))


def _area(row: Mapping[str, Any]) -> str:
    return f"{row['area']:,.0f}"


def _watts(row: Mapping[str, Any]) -> str:
    return f"{row['power_w'] * 1e3:.2f}"


def rewrite(texts: Text, tables: Mapping[str, str]) -> dict[str, str]:
    """The documents with their marked tables as they must be."""
    return {
        path: BLOCK.sub(lambda m: f"<!-- figures: {m[1]} -->\n{tables.get(m[1], m[2])}<!-- end -->", text)
        for path, text in texts.items()
    }


def main(write: Callable[[Path, str], object] = Path.write_text) -> int:
    """Rewrite the tables in place; exit code 1 if a sentence does not hold."""
    found = results()
    tables = blocks(found)
    texts = rewrite(documents(), tables)
    for path, text in texts.items():
        write(ROOT / path, text)
    left = problems(texts, tables, sentences(found))
    print("\n".join(left) if left else "every figure holds")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
