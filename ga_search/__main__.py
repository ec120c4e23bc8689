"""`python -m ga_search`."""

import sys

from sim.common.command import start

if __name__ == "__main__":
    sys.exit(start("ga_search.cli"))
