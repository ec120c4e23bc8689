"""The hardware table of GQA-LUT (arXiv 2403.19591, table 6: TSMC 28 nm, 500 MHz, 8 entries)."""

from typing import NamedTuple


class Published(NamedTuple):
    """One row: area in um2, power in W."""

    area: float
    power_w: float


SOURCE = "GQA-LUT, arXiv 2403.19591, TSMC 28 nm"
CLOCK_HZ = 500e6
ENTRIES = 8
ROWS = {"INT8": Published(961, 0.40e-3), "FP32": Published(5135, 2.02e-3), "INT32": Published(5243, 1.93e-3)}
POINTS = 3.0  # percentage points within which a saving counts as reproduced


def saving(of: float | None, against: float | None) -> float | None:
    """The fraction saved; None if a figure is missing."""
    return None if of is None or not against else 1 - of / against


def savings(base: str = "INT8") -> dict[str, float]:
    """The paper's four savings, by the name of our column."""
    found = {}
    for against in ("FP32", "INT32"):
        for what in ("area", "power"):
            mine, theirs = (getattr(ROWS[name], "area" if what == "area" else "power_w") for name in (base, against))
            found[f"{what}_saving_vs_{against.lower()}"] = 1 - mine / theirs
    return found


def anchored(areas: dict[str, float], energies_j: dict[str, float]) -> dict[str, Published]:
    """Every format at 28 nm and 500 MHz, scaled so that FP32 is the paper's: the others are predictions."""
    published = ROWS["FP32"]
    per_area = published.area / areas["FP32"]
    per_energy = published.power_w / energies_j["FP32"]
    return {name: Published(areas[name] * per_area, energies_j[name] * per_energy) for name in areas}
