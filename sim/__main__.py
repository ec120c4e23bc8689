"""`python -m sim`."""

import sys

from sim.common.command import start

if __name__ == "__main__":
    sys.exit(start("sim.cli"))
