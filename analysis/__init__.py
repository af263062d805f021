"""What finished runs show beside their results: `python -m analysis.<name> RUN ...`."""

import dassl  # noqa: F401  before the packages it needs: it says which are missing
