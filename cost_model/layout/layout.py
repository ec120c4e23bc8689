"""A netlist placed and routed: its rows, wires, and the netlist with the wires' capacitances.

graywolf and qrouter are system packages (`bash .ci/system-tools layout`) and optional. Placement and routing are kept
in the cache one by one, so that an interrupted run goes on after what it finished.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cost_model.cache import CACHE, remember
from cost_model.layout import placement, routing
from cost_model.layout.lef import Lef
from cost_model.layout.placement import Core, Placement
from cost_model.layout.routing import Wires
from cost_model.netlist.netlist import Netlist
from sim.reference import InputError

PROGRAMS = (placement.PROGRAM, routing.PROGRAM)


@dataclass(frozen=True)
class Layout:
    """A netlist in rows; lengths in um, areas in um2."""

    netlist: Netlist
    lef: Lef
    placement: Placement
    wires: Wires

    @property
    def cell_area(self) -> float:
        """The area of the cells by the LEF files, which need not be that of the Liberty files."""
        macros = [self.lef.macro(instance.cell.name) for instance in self.netlist.instances]
        return sum(macro.width * macro.height for macro in macros)

    @property
    def wired(self) -> Netlist:
        """The netlist with the capacitances of its wires; a net without a wire has none."""
        nets = {net for i in self.netlist.instances for net in (*i.read.values(), *i.driven.values())}
        found = self.wires.capacitances(self.lef)
        return replace(self.netlist, wires={net: found.get(net, 0.0) for net in sorted(nets)})

    @property
    def without_wires(self) -> Netlist:
        """The netlist with wires of no capacitance, in place of what the library's wire load model assumes."""
        return replace(self.netlist, wires=dict.fromkeys(self.wired.wires, 0.0))


def require_programs() -> None:
    """Raise `InputError` if a tool is missing."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise InputError(f"{' and '.join(missing)} must be installed: bash .ci/system-tools layout")


def lay_out(netlist: Netlist, lef: Lef, core: Core | None = None, cache: Path = CACHE) -> Layout:
    """Place and route a netlist, or take the layout from the cache.

    Parameters
    ----------
    netlist : Netlist
        Cells that the LEF files have.
    lef : Lef
        Layers and cells.
    core : Core, optional
        How full the rows are, and the seed.
    cache : Path
        The folder for placements and wires.

    Raises
    ------
    InputError
        If a tool is missing or fails, or the LEF files lack a cell.
    """
    require_programs()
    core = core or Core()
    cells, parameters = placement.cel(netlist, lef), placement.parameters(lef, core)
    placed = _step("placement", [cells, parameters], cache, lambda folder: placement.run(cells, parameters, folder))
    where = placement.legal(netlist, lef, core, {name: (x, y, row) for name, (x, y, row) in placed.items()})
    design, script = routing.design(netlist, lef, where), routing.script(lef)
    identity = [design, script, *lef.texts]
    found = _step("wires", identity, cache, lambda folder: asdict(routing.run(design, script, lef, folder)))
    lengths = {int(net): row for net, row in found["lengths"].items()}
    return Layout(netlist, lef, where, Wires(lengths, found["vias"], tuple(found["failed"])))


def _step(name: str, identity: list[str], cache: Path, compute: Callable[[Path], dict]) -> dict:
    """The result of one tool in a folder of its own, as JSON values."""

    def text() -> str:
        with tempfile.TemporaryDirectory(prefix="layout-") as folder:
            return json.dumps(compute(Path(folder)))

    return json.loads(remember(cache, name, identity, text))
