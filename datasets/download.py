"""`python -m datasets.download NAME ... --root DATA`: download datasets and lay them out (`datasets.fetch.command`)."""

import sys

from datasets.fetch.command import main

if __name__ == "__main__":
    sys.exit(main())
