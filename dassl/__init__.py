"""The engine, under Dassl's public names, so that trainers and datasets written for Dassl import and run."""

import os

from dassl.requirements import require

require()

# Before torch is imported: libgomp's threads spin for long while they wait, which slows two runs on the same cores to a
# twentieth of their speed. A short spin costs a single run nothing. What the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
