"""Our methods against numbers computed by their published code: `python -m tests.parity DIR`."""
