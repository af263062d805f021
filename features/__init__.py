"""Image features on disk (`store`), and in place of images (`loader`)."""

import dassl  # noqa: F401  before the packages it needs: it says which are missing
