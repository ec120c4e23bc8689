"""The specification of the hardware: what each unit computes, bit for bit. Needs numpy and `sim.common` only."""

from sim.common.errors import InputError
from sim.reference.norm import Norm
from sim.reference.normaliser import Normaliser
from sim.reference.pwl import LoweredTable, PwlTable
from sim.reference.softmax import Softmax

__all__ = ["InputError", "LoweredTable", "Norm", "Normaliser", "PwlTable", "Softmax"]
