"""Figures of GQA-LUT (2403.19591) to hold ours against: mean squared errors of its released tables.

Measured on the tables as released (thresholds rounded to the nearest code at each scale, q >= t), mean over scales
0..6; DIV and RSQRT at scale 5, with coefficients wider than 8 bits.
"""

# (function, entries) -> (mse_full, mse_inside)
RELEASED_MSE = {
    ("gelu", 8): (3.81e-5, 9.97e-5),
    ("gelu", 16): (9.87e-6, 9.06e-5),
    ("hswish", 8): (1.56e-4, 3.08e-4),
    ("hswish", 16): (1.64e-5, 2.00e-4),
    ("exp", 8): (2.17e-5, 1.22e-4),
    ("exp", 16): (1.68e-5, 8.38e-5),
    ("div", 8): (4.08e-5, 4.08e-5),
    ("div", 16): (2.15e-5, 2.15e-5),
    ("rsqrt", 8): (3.70e-5, 3.70e-5),
    ("rsqrt", 16): (1.22e-5, 1.22e-5),
}


def released_mse(row: dict) -> tuple[float, float] | None:
    """The released table's (full, inside) for a row fitted on the paper's own terms, else None."""
    known = RELEASED_MSE.get((row["function"], row["entries"]))
    scales = [5] if row["function"] in ("div", "rsqrt") else list(range(7))
    domain = {"exp": [-8.0, 0.0], "div": [0.5, 4.0], "rsqrt": [0.25, 4.0]}.get(row["function"], [-4.0, 4.0])
    comparable = row["in_bits"] == 8 and row["scales"] == scales and row["domain"] == domain
    return known if comparable else None
