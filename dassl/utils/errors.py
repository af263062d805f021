"""Errors that are for the person at the keyboard, told apart from errors in the program."""

import linecache
import os

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class UserError(ValueError):
    """Something the user gave is wrong; the text says what was found, what was expected and how to fix it."""


class ConfigError(UserError):
    """Problems in the configuration, all of them in one text."""


class UnknownNameError(UserError, KeyError):
    """A name that is not registered. Also a KeyError, which code written for Dassl catches."""

    __str__ = Exception.__str__  # KeyError would print the text's repr


class NonFiniteLossError(UserError, FloatingPointError):
    """The loss became infinite or NaN. Also a FloatingPointError, which code written for Dassl catches."""


def is_user_error(error):
    """Whether an exception is a message for the user (shown alone) and not a bug (shown with its traceback).

    UserError, FileNotFoundError, PermissionError and their like are. A plain ValueError is when it comes from a `raise`
    statement of this project, which checks what users give with it; ValueErrors out of libraries and out of
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
