"""Coverage: the share of a packed model's parameters and multiply-accumulates that are integers, and what is not."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from cost_model.network.floating_point import is_floating
from cost_model.network.sites import Floating, Gemm, Site, Uncounted
from quant.formats.packed_index import PackedIndex


def coverage(index: PackedIndex, sites: Sequence[Site]) -> dict[str, Any]:
    """The coverage of a model with these sites.

    Returns
    -------
    dict
        `integer_parameters`, `parameters` and `share`, of matrices: weights and embeddings.
        `integer_multiply_accumulates`, `multiply_accumulates` and `multiply_accumulate_share`: products of weights and
        of two activations; a product with floating-point activations is not an integer one. `floating`: the kind of
        each site in floating point. `unknown`: those whose multiply-accumulates are not known. `boundary`: what the
        model's maker says of it.
    """
    weights = index.content["weights"]
    integer, total = (sum(math.prod(row["shape"]) for row in weights.values()) for _ in range(2))
    parts = tuple(f"{name}." for name in weights)
    for name, tensor in index.tensors.items():
        if len(tensor.shape) > 1 and not name.startswith(parts):
            total += math.prod(tensor.shape)
            integer += 0 if is_floating(tensor.kind) else math.prod(tensor.shape)
    products = [site for site in sites if isinstance(site, Gemm)]
    unpriced = sum(site.macs for site in sites if isinstance(site, Uncounted))
    floating = [site for site in sites if isinstance(site, Floating)]
    own = sum(site.macs for site in products if site.integer) + unpriced
    macs = sum(site.macs for site in products) + unpriced + sum(site.macs or 0 for site in floating)
    weight_only = {site.name: site.kind for site in products if not site.integer}
    return {
        "integer_parameters": integer,
        "parameters": total,
        "share": integer / total if total else None,
        "integer_multiply_accumulates": own,
        "multiply_accumulates": macs,
        "multiply_accumulate_share": own / macs if macs else None,
        "floating": weight_only | {site.name: site.kind for site in floating},
        "unknown": [site.name for site in floating if site.macs is None],
        "boundary": list(index.content["boundary"].values()),
    }


def coverage_lines(found: dict[str, Any]) -> list[str]:
    """The coverage for people."""
    shares = [
        f"{100 * found[share]:.1f} % of {found[count]:,} {what}"
        for share, count, what in (
            ("share", "parameters", "parameters in matrices"),
            ("multiply_accumulate_share", "multiply_accumulates", "multiply-accumulates"),
        )
        if found[share] is not None
    ]
    kept = f"; in floating point: {joined(found['floating'])}" if found["floating"] else ""
    lines = [f"integers: {' and '.join(shares)}{kept}."]
    if found["unknown"]:
        lines.append(f"multiply-accumulates not known, and not in the share: {joined(found['unknown'])}.")
    return [*lines, *(f"boundary: {text}." for text in found["boundary"])]


def joined(names: Iterable[str]) -> str:
    """Names in one line; more than two that differ in their numbers alone are given once, with `*` for the number."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"(?<![^.])\d+(?![^.])", "*", name), []).append(name)
    return ", ".join(f"{key} ({len(same)})" if len(same) > 2 else ", ".join(same) for key, same in groups.items())
