"""``python -m cnnext``: the same as the console script ``cnnext``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
