"""Registry: names for trainers, datasets and evaluators."""

from dassl.utils.errors import UnknownNameError, nearest


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
        """Register `obj` under its `__name__` (or `name`). Without `obj`: return a decorator.

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
        """The object with this name.

        Raises:
            UnknownNameError: the name is not registered.
        """
        check_availability(name, self._objects, self._name.lower())
        return self._objects[name]

    def registered_names(self):
        return list(self._objects)

    def __contains__(self, name):
        return name in self._objects

    def __repr__(self):
        return f"Registry({self._name!r}: {', '.join(self._objects)})"


def check_availability(requested, available, what="name"):
    """Check that `requested` is one of the names `available`; `what` names the kind of thing in the message.

    Raises:
        UnknownNameError: it is not. The text gives the nearest name and all names.
    """
    if requested in available:
        return
    known = f"Available: {', '.join(sorted(map(str, available))) or 'none'}"
    if not requested:
        raise UnknownNameError(f"no {what} is given. {known}")
    near = nearest(requested, available)
    hint = f", did you mean {near}?" if near else "."
    raise UnknownNameError(f"no such {what}: {requested!r}{hint} {known}")


TRAINER_REGISTRY = Registry("TRAINER")  # here, so that dassl.config need not import the engine
