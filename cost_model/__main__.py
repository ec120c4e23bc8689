"""`python -m cost_model`."""

import sys

from sim.common.command import start

if __name__ == "__main__":
    sys.exit(start("cost_model.cli"))
