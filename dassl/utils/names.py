"""Names of the original Dassl that live in another module here."""

from importlib import import_module


def found_in(module, table):
    """A module's `__getattr__` that looks names up in other modules on first use, which avoids circular imports.

    Args:
        module: name of the module.
        table: {name: module that defines the name}.
    """

    def getattribute(name):
        if name not in table:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(table[name]), name)

    return getattribute
