"""Command lines whose arguments may come in any order."""

import argparse
import re
import sys

BETWEEN = "\0"  # no word of a command line contains it


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose options and other arguments may be mixed, also after an option that takes several values.

    `--seeds 1 2 3 FOLDER` works: the values of a list (`add_list`) end at the first word that does not fit.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._lists = {}

    def add_list(self, flag, fits, read=str, expected="words", **options):
        """Add an option that takes several values, separated by spaces or by commas.

        Args:
            flag: e.g. "--seeds".
            fits: callable(word) -> bool: whether the word belongs to the list.
            read: callable(text of one value) -> value; a ValueError says that the text is not one.
            expected: what the values are, for messages.
            options: as for `add_argument`, without type and nargs.
        """

        def values(joined):
            words = [word for part in joined.split(BETWEEN) for word in re.split(r",\s*", part) if word]
            try:
                return [read(word) for word in words]
            except ValueError:
                found = " ".join(joined.split(BETWEEN))
                raise argparse.ArgumentTypeError(f"{found!r}: expected {expected}") from None

        self._lists[flag] = fits
        self.add_argument(flag, type=values, **options)

    def parse_args(self, args=None, namespace=None):
        return self.parse_intermixed_args(args, namespace)

    def parse_known_intermixed_args(self, args=None, namespace=None):
        words = self._joined(sys.argv[1:] if args is None else list(args))
        return super().parse_known_intermixed_args(words, namespace)

    def _joined(self, words):
        """The words, with the values of each list in one word."""
        found, rest = [], list(words)
        while rest:
            found.append(rest.pop(0))
            if found[-1] == "--":
                return found + rest
            flag = self._list_of(found[-1])
            if flag and rest and not rest[0].startswith("--"):
                taken = [rest.pop(0)]
                while rest and not rest[0].startswith("-") and self._lists[flag](rest[0]):
                    taken.append(rest.pop(0))
                found.append(BETWEEN.join(taken))
        return found

    def _list_of(self, word):
        """The list option that a word names, perhaps abbreviated; None for other words."""
        if word in self._lists:
            return word
        flags = [flag for flag in self._option_string_actions if flag.startswith(word)]
        return flags[0] if word.startswith("--") and len(flags) == 1 and flags[0] in self._lists else None


def is_number(word):
    """Whether a word is a whole number, or several with commas between them: the values of `--seeds`."""
    return re.fullmatch(r"\d+(,\d+)*,?", word) is not None


def add_seeds(parser, help):
    """Add the option `--seeds` with the expected seeds of experiments."""
    parser.add_list("--seeds", is_number, int, "whole numbers", metavar="S ...", help=help)
