"""What runs import, for the process that they are forked from."""

import gc
import importlib
import os

os.setsid()  # signals of the terminal come to the sweep, which ends its runs and then this process
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking for a GPU must not start CUDA, which survives no fork
for name in ("datasets", "trainers", "dassl.engine"):
    importlib.import_module(name)
gc.freeze()  # or collecting garbage would copy what all of them share
