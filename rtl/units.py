"""The registry of units: where the configuration and the component of each are, by name.

A unit is a stream component with a configuration: a frozen dataclass that validates itself, has a default for every
field, and goes to JSON and back by `to_dict()` and `from_dict(content, load)`. `load` is what a stored unit would be
loaded with, by the names of `sim.vectors.vector_set.VectorSet.arrays`; a unit that has it wired in is built with it.

A configuration that is a `Reference` too brings its own specification: vectors, regression and check of such a unit
need no code of theirs. So a new unit is its module, its specification and a line in `UNITS`.

Nothing here imports Amaranth until a class is asked for, so that files about units can be read without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sim.reference import InputError


@runtime_checkable
class Reference(Protocol):
    """What a unit computes, as methods of its configuration.

    Payloads are dictionaries of int64 arrays (V,), one for each field of the stream's payload; one named "payload" if
    it has no fields. A load is a dictionary of the quasi-static inputs, one integer each, and of the lists that are
    written through the table's port, by the names of the ports and of the description's `load_order`.
    """

    def random_load(self, rng: np.random.Generator) -> dict[str, Any]:
        """One load; empty if there is nothing to drive or load."""
        ...

    def random_inputs(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """`count` payloads of the input stream, corners among them."""
        ...

    def expected(self, inputs: dict[str, np.ndarray], load: dict[str, Any]) -> dict[str, np.ndarray]:
        """The payloads of the output stream for those of the input stream."""
        ...


@dataclass(frozen=True)
class Unit:
    """One unit of the registry.

    Parameters
    ----------
    config : str
        The class of its configuration, as "module:name".
    component : str
        The class of its component, which is built from the configuration.
    fixed : Mapping
        Fields of the configuration that the unit's name decides.
    netlist_only : bool
        Whether it is checked as a netlist only: a state without reset is unknown at first in its Verilog.
    """

    config: str
    component: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    netlist_only: bool = False

    @property
    def config_class(self) -> Any:
        """The class of the configuration, imported now."""
        return _imported(self.config)

    @property
    def component_class(self) -> Any:
        """The class of the component, imported now."""
        return _imported(self.component)

    @property
    def is_reference(self) -> bool:
        """Whether its configuration is a `Reference`."""
        return issubclass(self.config_class, Reference)

    def default(self) -> Any:
        """The configuration with every field at its default."""
        return self.config_class(**self.fixed)

    def configuration(self, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> Any:
        """The configuration from its JSON object.

        Parameters
        ----------
        content : Mapping
            As `to_dict` gives it, or the parameters of a description that `rtl.emit` wrote.
        load : Mapping or None
            The lists and quasi-static inputs of one load, which a unit with storage "constants" has wired in.

        Raises
        ------
        InputError
            If a key is missing or unknown, or a value is refused.
        """
        try:
            return self.config_class.from_dict({**content, **self.fixed}, load)
        except KeyError as error:
            raise InputError(f"missing key {error}") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise InputError(str(error)) from None


def _imported(path: str) -> Any:
    module, name = path.split(":")
    return getattr(import_module(module), name)


UNITS: dict[str, Unit] = {
    "pwl": Unit("rtl.pwl:PwlConfig", "rtl.pwl:Pwl"),
    "truth-table": Unit("rtl.truth_table:TruthTableConfig", "rtl.truth_table:TruthTableUnit"),
    "normaliser": Unit("rtl.normaliser:NormaliserConfig", "rtl.normaliser:NormaliserUnit"),
    "product": Unit("rtl.product:ProductConfig", "rtl.product:ProductUnit"),
    "rope": Unit("rtl.rope:RopeConfig", "rtl.rope:RopeUnit"),
    "residual": Unit("rtl.residual:ResidualConfig", "rtl.residual:ResidualAdder"),
    "requant": Unit("rtl.requant:RequantConfig", "rtl.requant:Requantiser"),
    "fp-pwl": Unit("rtl.floating.pwl:FloatPwlConfig", "rtl.floating.pwl:FloatPwl"),
    "fp-mac": Unit("rtl.floating.mac:MacConfig", "rtl.floating.mac:Mac"),
    "fp-mul": Unit(
        "rtl.floating.operators:OperatorConfig", "rtl.floating.operators:Operator", {"operation": "multiply"}
    ),
    "fp-add": Unit("rtl.floating.operators:OperatorConfig", "rtl.floating.operators:Operator", {"operation": "add"}),
    "fp-compare": Unit(
        "rtl.floating.operators:OperatorConfig", "rtl.floating.operators:Operator", {"operation": "compare"}
    ),
    "softmax": Unit("rtl.rowwise.softmax:SoftmaxConfig", "rtl.rowwise.softmax:SoftmaxUnit"),
    "layernorm": Unit("rtl.rowwise.norm:NormConfig", "rtl.rowwise.norm:NormUnit", {"centring": True}),
    "rmsnorm": Unit("rtl.rowwise.norm:NormConfig", "rtl.rowwise.norm:NormUnit", {"centring": False}),
    "token": Unit("rtl.rowwise.token:TokenConfig", "rtl.rowwise.token:TokenUnit"),
    "hadamard": Unit("rtl.hadamard:HadamardConfig", "rtl.hadamard:HadamardUnit"),
    "array": Unit("rtl.array.config:ArrayConfig", "rtl.array.gemm:Gemm"),
    "element": Unit(
        "rtl.array.processing_element_stream:ElementConfig",
        "rtl.array.processing_element_stream:ElementStream",
        netlist_only=True,
    ),
}


def simulated() -> tuple[str, ...]:
    """The names of the units whose Verilog is simulated."""
    return tuple(name for name, unit in UNITS.items() if not unit.netlist_only)
