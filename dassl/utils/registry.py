"""Names for classes: trainers, datasets, evaluators."""

import difflib

from dassl.utils.errors import UnknownNameError, UserError


class Registry:
    """A table {name: object}.

    >>> TRAINERS = Registry("TRAINER")
    >>> @TRAINERS.register()
    ... class MyTrainer: ...
    >>> TRAINERS.get("MyTrainer")
    """

    def __init__(self, name):
        self._name = name
        self._objects = {}

    def register(self, obj=None, force=False, name=None):
        """Register `obj` under its `__name__` (or `name`); without `obj`, a decorator.

        Raises:
            KeyError: the name is taken and `force` is false.
        """
        if obj is None:
            return lambda target: self.register(target, force=force, name=name)
        key = name or obj.__name__
        if key in self._objects and not force:
            raise KeyError(f'an object named "{key}" is already registered in "{self._name}"')
        self._objects[key] = obj
        return obj

    def get(self, name):
        """The object of a name.

        Raises:
            UnknownNameError: no such name (a KeyError and a ValueError).
        """
        if name not in self._objects:
            what = f'name in "{self._name}"' if name else self._name.lower()
            raise UnknownNameError(_unknown(what, name, self._objects))
        return self._objects[name]

    def registered_names(self):
        return list(self._objects)

    def __contains__(self, name):
        return name in self._objects

    def __repr__(self):
        return f"Registry({self._name!r}: {', '.join(self._objects)})"


def check_availability(requested, available):
    """Raise UserError (a ValueError) when `requested` is not one of the names `available`."""
    if requested not in available:
        raise UserError(_unknown("name", requested, available))


def _unknown(what, name, names):
    if not name:
        return f"no {what} is given. Available: {', '.join(sorted(map(str, names))) or 'none'}"
    near = difflib.get_close_matches(str(name), map(str, names), n=1)
    hint = f", did you mean {near[0]}?" if near else "."
    return f"no such {what}: {name!r}{hint} Available: {', '.join(sorted(map(str, names))) or 'none'}"


TRAINER_REGISTRY = Registry("TRAINER")  # here, so that dassl.config need not import the engine
