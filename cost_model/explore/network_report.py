"""The HTML report of a network's points."""

from collections.abc import Mapping
from typing import Any

from cost_model.explore.network_space import ENTRIES, LAYERS
from cost_model.reports.html import Report

FILTERS = (*LAYERS, *ENTRIES, "rows", "columns", "depth", "lanes", "two_pass", "acc_bits", "weights_in", "tokens")
BREAKDOWNS = {
    "area in mm2": ("area_units_mm2", "area_memories_mm2"),
    "energy of an inference in uJ": ("energy_units_uj", "energy_sram_uj", "energy_dram_uj", "energy_leakage_uj"),
}
HIDDEN = ("model", "data_sha256")


def network_report(model: str, origin: Mapping[str, Any]) -> Report:
    """The report of the points that a search of `model` evaluated.

    Parameters
    ----------
    model : str
        The subject's name.
    origin : mapping
        `command`, `objectives`, `search` as the file of results has them, and `file`, the name of that file.
    """
    subject = origin["search"]["subject"]
    return Report(
        title=f"{model}: accuracy against hardware",
        origin=f"{origin['command']}; each point is measured in integers on {subject['texts']} held-out texts.",
        objectives=tuple(origin["objectives"]),
        command=f"python -m cost_model build {origin['file']}#POINT -o build/POINT",
        filters=FILTERS,
        breakdowns=BREAKDOWNS,
        hidden=HIDDEN,
    )
