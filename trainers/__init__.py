"""The methods, one file each. Importing this package registers all methods and declares their settings.

All modules of this folder are imported, so that a new method is one new file.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
