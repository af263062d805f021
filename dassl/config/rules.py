"""What a value of a setting may be: allowed values with a text for people, and the conversion to the default's type."""

import ast
import difflib
import re


class Rule:
    """A test on a value together with its description.

    Args:
        test: callable(value) -> bool.
        text: what is expected, for the error message ("an integer >= 1").
        choices: optional callable() -> sequence of the allowed values, asked when a message is written.
    """

    def __init__(self, test, text, choices=None):
        self.test, self._text, self._choices = test, text, choices

    def __call__(self, value):
        try:
            return bool(self.test(value))
        except (TypeError, AttributeError, KeyError, IndexError):
            return False  # a value the test cannot even look at is not allowed

    @property
    def choices(self):
        return list(self._choices()) if self._choices else []

    @property
    def text(self):
        return self._text or "one of " + ", ".join(map(show, self.choices))


def at_least(low):
    """Rule: a number >= low."""
    return Rule(lambda value: value >= low, f"a number >= {low}")


def between(low, high):
    """Rule: a number in [low, high]."""
    return Rule(lambda value: low <= value <= high, f"a number from {low} to {high}")


def one_of(names, extra=()):
    """Rule: one of `names()`, a list known only later (a registry), or one of `extra`."""
    return Rule(lambda value: value in extra or value in names(), "", lambda: sorted(names()))


def as_rule(allowed):
    """Rule of what `declare` accepts: None, a Rule, a callable, (callable, text), or a sequence of values."""
    if allowed is None or isinstance(allowed, Rule):
        return allowed
    if callable(allowed):
        return Rule(
            allowed, getattr(allowed, "text", None) or allowed.__doc__ or f"a value accepted by {allowed.__name__}"
        )
    if len(allowed) == 2 and callable(allowed[0]):
        return Rule(allowed[0], allowed[1])
    values = list(allowed)

    def test(value):
        if isinstance(value, (list, tuple)):
            return value in values or all(item in values for item in value)
        return any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in values)

    return Rule(test, "", lambda: values)


def show(value):
    return value if isinstance(value, str) and value else repr(value)


def nearest(word, words):
    """The word of `words` most like `word`, or None. An abbreviation of it ("lin" of "linear") is more than distant
    likeness ("linmean").
    """
    lower = {str(candidate).lower(): candidate for candidate in words}
    word = str(word).lower()
    alike = [difflib.get_close_matches(word, lower, n=1, cutoff=cutoff) for cutoff in (0.8, 0.6)]
    short = sorted((candidate for candidate in lower if len(candidate) > 2 and word.startswith(candidate)), key=len)
    found = alike[0] or short[-1:] or alike[1]
    return lower[found[0]] if found else None


def nearest_key(key, keys, own=""):
    """The known key that `key` is most likely meant to be, or None.

    In this order: the same name in the group of settings `own` ("TRAINER.COOP", that of the method at hand); a name
    like it in the group it names, or that name elsewhere; if there is no such group, a whole path like it, or a last
    part like it ("OPTIM.MAX_EPOCH" for "MAX_EPOCH"). Elsewhere is never among the settings of other methods.
    """
    group, _, name = key.rpartition(".")
    if own and group.startswith("TRAINER") and f"{own}.{name.upper()}" in keys:
        return f"{own}.{name.upper()}"
    known = [other for other in keys if group and other.rpartition(".")[0].lower() == group.lower()]
    beside = {other.rpartition(".")[2]: other for other in known}
    if found := nearest(name, beside):
        return beside[found]
    foreign = re.compile(rf"TRAINER\.(?!{re.escape(own.rpartition('.')[2])}\.)\w+\.") if own else re.compile(r"(?!)")
    others = [other for other in keys if not foreign.match(other) and other not in beside.values()]
    if not beside and (found := nearest(key, others)):
        return found
    by_name = {}
    for other in sorted(others, key=lambda other: not other.startswith(f"{own}.")):
        by_name.setdefault(other.rpartition(".")[2], other)
    return by_name.get(name.upper() if beside else nearest(name, by_name))


def parse(text):
    """The Python value a text stands for ("1e-5", "(224, 224)", "True"), or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def kind(value):
    """Name of a value's type, for people."""
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
    """Bring a value from a file or the command line to the type of the default.

    Raises:
        TypeError: with what was expected, when the value does not fit.
    """
    if default is None or isinstance(value, also):
        return parse(value) if isinstance(value, str) and default is None else value
    if isinstance(default, str):
        if isinstance(value, str):
            parsed = parse(value)
            return parsed if isinstance(parsed, (str, *also)) else value  # quotes of a shell or a list, else as written
        raise TypeError(f"expected {kind(default)}, found {kind(value)}")
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), parse(value))  # YAML reads 1e-5 and (1, 2) as text
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
