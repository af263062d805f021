"""`python -m datasets.check`: report which datasets are there and which are not (`datasets.doctor.command`)."""

import sys

from datasets.doctor.command import main

if __name__ == "__main__":
    sys.exit(main())
