"""Allowed values of settings, conversion of values to the type of the default, and hints for misspelt names."""

import ast

from dassl.utils.errors import nearest

LONGEST = 300  # characters of a value in a message
LARGEST = 1e12  # size of a number with a fraction; products of two must stay numbers of fp32


class Rule:
    """A test of a value, with a description for error messages.

    Args:
        test: callable(value) -> bool.
        text: description of the allowed values, e.g. "an integer >= 1"; "" lists `choices`.
        choices: optional callable() -> sequence of the allowed values; called only when a message is written.
    """

    def __init__(self, test, text, choices=None):
        self.test, self._text, self._choices = test, text, choices

    def __call__(self, value):
        try:
            return bool(self.test(value))
        except (TypeError, AttributeError, KeyError, IndexError):
            return False  # the test does not apply to values of this type

    @property
    def choices(self):
        return list(self._choices()) if self._choices else []

    @property
    def text(self):
        return self._text or "one of " + ", ".join(map(show, self.choices))


def at_least(low):
    """Rule: a number >= low."""
    return Rule(lambda value: value >= low, f"a number >= {low}")


def above(low):
    """Rule: a number > low."""
    return Rule(lambda value: value > low, f"a number > {low}")


def between(low, high):
    """Rule: a number in [low, high]."""
    return Rule(lambda value: low <= value <= high, f"a number from {low} to {high:,}")


def each(test, text, count=None):
    """Rule: a list whose items all pass `test`; `count` is the number of items, default any number."""

    def right(values):
        items = [values] if isinstance(values, str) else values
        return (count is None or len(items) == count) and all(test(item) for item in items)

    return Rule(right, text)


def is_number(value):
    """Whether `value` is an int or float; True and False are not numbers here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


TEXTS = each(lambda value: isinstance(value, str), "a list of texts")


def one_of(names, extra=()):
    """Rule: one of `names()`, which may grow after the declaration (a registry), or one of `extra`."""
    return Rule(lambda value: value in extra or value in names(), "", lambda: sorted(names()))


def as_rule(allowed):
    """Convert the argument `allowed` of `declare` to a Rule, or None if every value is allowed."""
    if allowed is None or isinstance(allowed, Rule):
        return allowed
    if len(allowed) == 2 and callable(allowed[0]):
        return Rule(*allowed)
    values = list(allowed)

    def test(value):
        if isinstance(value, (list, tuple)):
            return value in values or all(item in values for item in value)
        return any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in values)

    return Rule(test, "", lambda: values)


def show(value):
    """A value for messages: a text as it is, other values as Python writes them, at most `LONGEST` characters."""
    try:
        text = value if isinstance(value, str) and value and value.isprintable() else repr(value)
    except (ValueError, RecursionError):  # Python refuses to write integers of more than 4,300 digits
        return f"{kind(value)} of extreme size"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"


def nearest_key(key, keys, own=""):
    """Return the known key that `key` was most likely meant to be, or None.

    Args:
        key: the unknown key.
        keys: the known keys.
        own: group of the settings of the chosen method, e.g. "TRAINER.COOP"; "" if no method is known. Settings of
            other methods are proposed only if `key` names their group.
    """
    group, _, name = key.upper().rpartition(".")
    groups = {}  # {group: {name: key}}
    for other in keys:
        groups.setdefault(other.rpartition(".")[0], {})[other.rpartition(".")[2]] = other
    if name in groups.get(own, {}):
        return groups[own][name]
    beside = groups.get(nearest(group, groups), {}) if group else {}
    if found := nearest(name, beside):
        return beside[found]
    elsewhere = {}
    for other, names in groups.items():
        if not own or not other.startswith("TRAINER."):
            elsewhere = {**names, **elsewhere}
    elsewhere |= groups.get(own, {})
    return elsewhere.get(name if beside else nearest(name, elsewhere))


def parse(text):
    """Return the Python value of a literal ("1e-5", "(224, 224)"), or the text itself if it is not a literal."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def kind(value):
    """Return the name of a value's type for messages."""
    if value is None:
        return "nothing (null)"
    names = {
        bool: "True or False",
        int: "an integer",
        float: "a number",
        str: "a text",
        list: "a list",
        tuple: "a list",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def coerce(value, default, also=()):
    """Convert a value from a file or the command line to the type of the default.

    Args:
        value: value as given.
        default: default of the setting; None accepts any value.
        also: further accepted types.

    Raises:
        TypeError: the value does not fit; the message says what was expected and found.
    """
    found = _extreme(value)
    value = value if found else _typed(value, default, also)
    if problem := found or _extreme(value):
        raise TypeError(problem)
    return value


def _extreme(value):
    """Why no setting may contain `value`, or a value inside it; "" if it may."""
    if isinstance(value, float) and not -LARGEST <= value <= LARGEST:
        return f"expected a number between -{LARGEST:g} and {LARGEST:g}"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "expected an integer of at most 64 bits"
    if isinstance(value, str) and "\0" in value:
        return "expected a text without NUL characters"
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return "not text in UTF-8; rename the file or folder, or set PYTHONUTF8=1 if it is UTF-8"
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return next(filter(None, map(_extreme, inner)), "")


def _typed(value, default, also):
    if default is None or isinstance(value, also):
        return parse(value) if isinstance(value, str) and default is None else value
    if isinstance(default, str):
        if isinstance(value, str):
            parsed = parse(value)
            return parsed if isinstance(parsed, (str, *also)) else value  # remove quotes left by a shell
        raise TypeError(f"expected {kind(default)}, found {kind(value)}")
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), parse(value))  # YAML parses 1e-5 and (1, 2) as text
        if isinstance(value, also):
            return value
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, float):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        value = float(value) if fits else value
    elif isinstance(default, int):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(default, (list, tuple)):
        fits = isinstance(value, (list, tuple))
        value = type(default)(value) if fits else value
    else:
        fits = isinstance(value, type(default))
    if not fits:
        raise TypeError(f"expected {kind(default)}, found {kind(value)}")
    return value
