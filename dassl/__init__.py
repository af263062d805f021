"""The engine, under Dassl's public names, so that trainers and datasets written for Dassl import and run."""

import os
import sys

try:
    from dassl.requirements import FILE, require

    if FILE.is_file():
        require(FILE.read_text().split("# the test command")[0])
except KeyboardInterrupt:  # before a program can handle signals (dassl.program)
    print("interrupted", file=sys.stderr)
    sys.exit(130)

# Set before torch is imported: libgomp's threads busy-wait for long, which makes two runs on the same cores about 20
# times slower. A short spin costs a single run nothing. A setting of the user is kept.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
