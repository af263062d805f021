"""Programs that rebuild the embedded suite and the embedded model; run by hand, see tools/README.md."""

import dassl  # noqa: F401  before the packages it needs: it says which are missing
