"""Store image features on disk (`store`) and load them in place of images (`loader`)."""

import dassl  # noqa: F401  imported first, because it reports missing packages
