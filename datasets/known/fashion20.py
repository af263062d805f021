"""Fashion-20: one dataset of twenty tasks, 78 classes (SoftCPT)."""

from datasets import readers
from datasets.known.row import Row, published_splits

# Task of Fashion-20 -> the noun of its zero-shot template.
_FASHION = {
    **dict.fromkeys(("pants_type", "pants_length", "waist_type"), "pants"),
    **dict.fromkeys(("collar_type", "sleeve_type", "sleeve_length", "top_pattern"), "tops"),
    **dict.fromkeys(("shoe_material", "shoe_style", "heel_shape", "heel_thickness", "heel_height"), "shoes"),
    **dict.fromkeys(("upper_height", "toe_cap_style"), "shoes"),
    "hat_style": "hat",
    **dict.fromkeys(("socks_length", "socks_type"), "socks"),
    "skirt_length": "skirt",
    "number_of_button_rows": "tops",
    "underwear_style": "underwear",
}

ROWS = (
    Row(
        "Fashion20",
        "fashion20",
        "images",
        78,
        readers.fashion20,
        "per-task",
        "",  # every task has its own name
        "fashion",
        metric="mean_acc",
        needs=("task_info.csv",),
        split_files=published_splits("Fashion20", zhou=False),
        task_keys=tuple(_FASHION),
        templates=tuple(f"a photo of {{}}, a type of {noun}." for noun in _FASHION.values()),
        published_images=24_000,
        source="Baidu pan https://pan.baidu.com/s/1ITXWaRVVXi1PLnbXVa_kjA?pwd=67c4",
    ),
)
