"""The specification: what the hardware computes, in integers, in numpy.

It imports only `sim.common`. Hardware, PyTorch modules and netlists must equal it bit for bit.
"""

from sim.common.errors import InputError
from sim.reference.lowered_table import LoweredTable
from sim.reference.norm import Norm
from sim.reference.normaliser import Normaliser
from sim.reference.pwl import PwlTable
from sim.reference.softmax import Softmax

__all__ = ["InputError", "LoweredTable", "Norm", "Normaliser", "PwlTable", "Softmax"]
