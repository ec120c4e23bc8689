"""What the hardware computes, in integers: the one specification. numpy only; imports nothing else of the project."""

from sim.common.errors import InputError
from sim.reference.norm import Norm
from sim.reference.normaliser import Normaliser
from sim.reference.pwl import LoweredTable, PwlTable
from sim.reference.softmax import Softmax

__all__ = ["InputError", "LoweredTable", "Norm", "Normaliser", "PwlTable", "Softmax"]
