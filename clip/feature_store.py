"""`python -m clip.feature_store`, the earlier name of `python -m features.store`."""

import sys

from features.store import main

if __name__ == "__main__":
    sys.exit(main())
