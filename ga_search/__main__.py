"""`python -m ga_search`."""

import sys

from ga_search.cli import main

if __name__ == "__main__":
    sys.exit(main())
