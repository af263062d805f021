"""Errors for the user, and how to tell them from errors of the program."""

import linecache
import os

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class UserError(ValueError):
    """The user's input is wrong. The text says what was found, what was expected and how to fix it."""


class ConfigError(UserError):
    """All problems of a configuration, in one text."""


class UnknownNameError(UserError, KeyError):
    """A name is not registered. Also a KeyError, because code written for Dassl catches KeyError."""

    __str__ = Exception.__str__  # KeyError would print the text's repr


class NonFiniteLossError(UserError, FloatingPointError):
    """The loss is infinite or NaN. Also a FloatingPointError, because code written for Dassl catches it."""


def is_user_error(error):
    """Whether an exception is a message for the user (shown without a traceback) or a bug (shown with one).

    User errors are UserError, FileNotFoundError, PermissionError, NotADirectoryError and IsADirectoryError. A plain
    ValueError is a user error if a `raise` statement of this project raised it. ValueErrors from libraries and from
    expressions such as int("x") are bugs.
    """
    if isinstance(error, (UserError, FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)):
        return True
    if not isinstance(error, ValueError) or error.__traceback__ is None:
        return False
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = os.path.abspath(trace.tb_frame.f_code.co_filename)
    inside = file.startswith(PROJECT + os.sep) and "site-packages" not in file
    return inside and linecache.getline(file, trace.tb_lineno).strip().startswith("raise ")


def counted(number, what):
    """A number with its noun, for messages: "1 image", "2,000 images", "2 classes"."""
    return f"{number:,} {what}" + ("" if number == 1 else "es" if what.endswith("s") else "s")
