"""How an installed softcpt finds the packages it consists of: as its own parts, softcpt.dassl, softcpt.datasets, ...

In a checkout these packages lie beside softcpt and have names of their own: `clip`, `datasets`, ... Installed under
these names they would hide other packages, such as `datasets` of Hugging Face. So only softcpt is installed. A finder
loads the packages as parts of it, and their modules get an import function that knows: there, `import datasets` means
softcpt.datasets. All other code imports what it always did.

Programs of a checkout, and code with the checkout on PYTHONPATH, find the packages by their own names. Then nothing is
changed, so that each of them is loaded once.
"""

import builtins
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path

HOME = __name__.partition(".")[0]
ROOMS = ("analysis", "clip", "dassl", "datasets", "features", "reporting", "sweeps", "trainers")
FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER if (FOLDER / "dassl").is_dir() else FOLDER.parent  # a wheel has the packages inside, a checkout beside


def found_by_name():
    """Whether Python finds all packages of this checkout by their own names."""
    return ROOT != FOLDER and all(_is_ours(room) for room in ROOMS)


def _is_ours(room):
    try:
        spec = find_spec(room)
    except ValueError:  # a module without a specification, such as a stand-in of a test
        return False
    return spec is not None and Path(spec.origin or "").resolve() == ROOT / room / "__init__.py"


def import_as_part(name, globals=None, locals=None, fromlist=(), level=0):
    """The function of the import statement in modules of an installed softcpt. Arguments: as for `__import__`."""
    room = name.partition(".")[0]
    if level or room not in ROOMS:
        return builtins.__import__(name, globals, locals, fromlist, level)
    found = builtins.__import__(f"{HOME}.{name}", globals, locals, fromlist, 0)
    return found if fromlist else sys.modules[f"{HOME}.{room}"]


class PartLoader(SourceFileLoader):
    """Load a module whose import statements call `import_as_part`."""

    names = {**vars(builtins), "__import__": import_as_part}

    def exec_module(self, module):
        module.__dict__["__builtins__"] = self.names  # exec() reads the names of a module's code there
        super().exec_module(module)


class PartFinder:
    """Find softcpt.<package> beside or inside the folder of softcpt, and their modules."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        home, _, rest = name.partition(".")
        if home != HOME or not rest:
            return None
        spec = PathFinder.find_spec(name, [str(ROOT)] if rest in ROOMS else path)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = PartLoader(name, spec.origin)
        return spec


def open_rooms():
    """Let softcpt find the packages. Called once, when softcpt is imported."""
    if not found_by_name() and PartFinder not in sys.meta_path:
        sys.meta_path.insert(0, PartFinder)
