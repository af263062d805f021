"""Programs that rebuild the embedded suite and the embedded model; run by hand, see tools/README.md."""
