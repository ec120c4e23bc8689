"""The machine that a packed model is priced on: an array, table units, one unit for softmax and one for norms."""

from dataclasses import dataclass
from functools import lru_cache

from cost_model.analytical.components import Cost
from cost_model.analytical.estimate import coefficients, estimate
from cost_model.network.sites import Gemm
from rtl.array.config import ArrayConfig
from rtl.requant import RequantConfig
from sim.common.errors import require_range
from sim.reference import InputError

INPUT_BITS = 16  # of inputs that are requantised before a product


@dataclass(frozen=True)
class Machine:
    """The hardware: an array, table units, one unit for softmax and one for norms.

    Parameters
    ----------
    rows, columns, depth : int
        The array's inputs, output channels, and accumulators per column.
    two_pass : bool
        The multipliers take 5-bit operands; activations of more than 4 bits take two passes.
    lanes : int
        Table units in parallel.
    library : str
        A library for which the analytical model has coefficients.
    clock_hz : float
        The clock, in Hz.
    acc_bits : int, optional
        Width of the accumulators; None for the least that a product is proved to need. A product that needs more is
        refused.

    Raises
    ------
    InputError
        If the library is unknown or a number is out of its range.
    """

    rows: int = 16
    columns: int = 16
    depth: int = 128
    two_pass: bool = False
    lanes: int = 1
    library: str = "gate_equivalents"
    clock_hz: float = 125e6
    acc_bits: int | None = None

    def __post_init__(self) -> None:
        require_range("lanes", self.lanes, 1, 1 << 16)
        if self.library not in (known := coefficients()["libraries"]):
            raise InputError(f"library must be one of {', '.join(known)}, not {self.library!r}")
        if not 1e3 <= self.clock_hz <= 1e11:
            raise InputError(f"clock must be in 0.001..100000 MHz, not {self.clock_hz / 1e6:g}")
        self.array(8, True, 8, None, 0, 1)  # checks the array's parameters

    def array(
        self, weight_bits: int, weight_signed: bool, activation_bits: int, group: int | None, multiplier_bits: int,
        inputs: int,
    ) -> ArrayConfig:  # fmt: skip
        """The array for a product of these widths."""
        wide = activation_bits > 4
        return ArrayConfig(
            self.rows, self.columns, weight_bits, weight_signed, 8 if wide else 4, self.two_pass and wide, group,
            multiplier_bits, inputs, acc_bits=self.acc_bits, depth=self.depth,
        )  # fmt: skip

    def array_of(self, site: Gemm) -> ArrayConfig:
        """The array for a site whose activations it can take."""
        assert site.activation_bits is not None
        return self.array(
            site.weight_bits, site.weight_signed, site.activation_bits, site.group, site.multiplier_bits, site.inputs
        )

    @property
    def physical(self) -> bool:
        """Whether the library gives joules; if not, energies are the switching proxy, NAND2 inputs charged."""
        return coefficients()["libraries"][self.library]["physical"]

    def energy(self, cost: Cost) -> float:
        """The energy of one action in J, or the switching proxy."""
        return float(cost.energy_j if self.physical else cost.proxy)


@lru_cache(maxsize=4096)
def unit_cost(unit: str, library: str, **shape: int) -> Cost:
    """The whole cost of one unit by the analytical model; networks have many sites of one shape."""
    return estimate(unit, library, **shape).total


def requantiser(in_bits: int, out_bits: int, machine: Machine) -> Cost:
    """The cost of one requantiser."""
    unit = RequantConfig(in_bits=in_bits, out_bits=max(out_bits, 4))
    return unit_cost(
        "requant", machine.library, in_bits=unit.in_bits, multiplier_bits=unit.multiplier_bits,
        max_shift=unit.max_shift, out_bits=unit.out_bits, stages=unit.stages,
    )  # fmt: skip
