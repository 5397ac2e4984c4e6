"""Run the benchmarks named on the command line, or all; options behind the names go to each of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path


def main() -> int:
    there = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    named = list(itertools.takewhile(lambda argument: not argument.startswith("-"), sys.argv[1:]))
    chosen, options = named or there, sys.argv[1 + len(named) :]
    if unknown := set(chosen) - set(there):
        print(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(there)}.", file=sys.stderr)
        return 2
    # Each in a process of its own, so that none inherits another's memory, threads or settings.
    return max(subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options]).returncode for name in chosen)


if __name__ == "__main__":
    sys.exit(main())
