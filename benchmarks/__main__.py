"""Run the benchmarks named on the command line, or all: every module of this folder with a `main`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    there = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    chosen = sys.argv[1:] or there
    if unknown := set(chosen) - set(there):
        print(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(there)}.", file=sys.stderr)
        return 2
    # Each in a process of its own, so that none inherits another's memory, threads or settings.
    return max(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode for name in chosen)


if __name__ == "__main__":
    sys.exit(main())
