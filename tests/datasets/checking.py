"""`python -m datasets.check` within the test's own process."""

from datasets.check import main


def checked(capsys, *args):
    """(status, what is printed); nothing goes to standard error."""
    status = main([*map(str, args)])
    printed = capsys.readouterr()
    assert not printed.err and "Traceback" not in printed.out
    return status, printed.out


def refused(capsys, *args):
    """The error text for wrong arguments."""
    status = main([*map(str, args)])
    printed = capsys.readouterr()
    assert status == 2 and not printed.out and "Traceback" not in printed.err
    return printed.err


def field(text, name):
    """The lines of one kind, such as "fix"."""
    return [line[11:].strip() for line in text.splitlines() if line.startswith(f"  {name} ")]
