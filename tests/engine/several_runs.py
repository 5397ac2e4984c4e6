"""Several runs one after the other in the same processes: starting them is what takes long."""

from __future__ import annotations

import sys

from training.engine.__main__ import main

if __name__ == "__main__":
    sys.exit(max(main([path]) for path in sys.argv[1:]))
