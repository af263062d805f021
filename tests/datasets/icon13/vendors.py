"""The vendors of Icon-13 by the looks of their drawings."""

COLOUR_VENDORS = ("noto", "noto-v1", "twemoji", "fluent-emoji", "fluent-emoji-flat", "streamline-emojis")
MONOCHROME_VENDORS = (
    "fluent-emoji-high-contrast",
    "hugeicons",
    "ph",
    "mingcute",
    "mdi",
    "game-icons",
    "icon-park",  # line drawings, most of which have one blue besides black and white
    "fa7-solid",
)
DOMAINS = tuple(sorted(COLOUR_VENDORS + MONOCHROME_VENDORS))
