"""Words of messages."""


def counted(number, what):
    """A number with its noun: "1 image", "2,000 images", "2 classes"."""
    return f"{number:,} {what}" + ("" if number == 1 else "es" if what.endswith("s") else "s")
