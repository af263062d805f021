"""Names of the original Dassl that live in another module here."""


def imported(name):
    """The module `name`, imported as by an import statement here, so that packages of this project are found.

    `importlib.import_module` does not find them if softcpt is installed (softcpt/rooms.py).
    """
    return __import__(name, fromlist=("__name__",))


def found_in(module, table):
    """A module's `__getattr__` that looks names up in other modules on first use, which avoids circular imports.

    Args:
        module: name of the module.
        table: {module: the names that it defines, separated by spaces; its own name stands for the module}.
    """
    places = {name: place for place, names in table.items() for name in names.split()}

    def getattribute(name):
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = imported(places[name])
        return found if places[name].endswith(f".{name}") else getattr(found, name)

    return getattribute
