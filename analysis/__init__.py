"""Figures and further analyses of finished runs: `python -m analysis.<name> RUN ...`."""

import dassl  # noqa: F401  imported first, because it reports missing packages
