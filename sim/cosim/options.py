"""The options of a run, for units and arrays."""

from dataclasses import dataclass
from pathlib import Path

from sim.common.cache import cache_folder
from sim.common.errors import require_range
from sim.cosim.dut import Device
from sim.cosim.simulators import require_simulator

BUILD = cache_folder("sim")  # builds by content; safe to delete
MOST = (1 << 31) - 1


@dataclass(frozen=True)
class BenchOptions:
    """The options of one run, validated on construction.

    Parameters
    ----------
    simulator : str
        "icarus" or "verilator".
    folder : Path
        Where builds are kept.
    stall_seed : int
        0: nothing stalls, and the cycles must be the formula's. Another seed stalls every stream at random.
    repeats : int
        How often the vectors are sent; an array does not wait for the results before.
    resets : int
        Resets in mid-stream before the vectors are run to their end (arrays only).
    waves : Path or None
        The waveform file to write.
    dut : Device or None
        The unit to run instead of the one that the set is for.

    Raises
    ------
    InputError
        If the simulator is unknown or a number is out of range.
    """

    simulator: str
    folder: Path = BUILD
    stall_seed: int = 0
    repeats: int = 1
    resets: int = 0
    waves: Path | None = None
    dut: Device | None = None

    def __post_init__(self) -> None:
        require_simulator(self.simulator)
        require_range("stall_seed", self.stall_seed, 0, MOST)
        require_range("repeats", self.repeats, 1, MOST)
        require_range("resets", self.resets, 0, MOST)
