"""Check datasets: `python -m datasets.check --help`. The code is in `datasets.doctor`."""

import sys

from datasets.doctor.command import asked_for, main

__all__ = ["asked_for", "main"]

if __name__ == "__main__":
    sys.exit(main())
