"""ELEVATER's twenty image classification sets, the targets of MVLPT. Its own host no longer exists.

Eighteen are webdatasets on the Hugging Face hub, with their published training and test lists. Food-101 comes from its
own host; HatefulMemes needs an account. Sets that CoOp uses too have other splits and class names there, so they are
datasets of their own here. Metrics are those that ELEVATER declares, except where the text of a row says otherwise.
"""

from datasets import readers
from datasets.known.remote import Hub, RemoteFile, same_names
from datasets.known.row import Row


def _row(name: str, hub: str, classes: int, task: str, template: str, metric="overall_acc", images=0, size=0) -> Row:
    """A webdataset of the hub: clip-benchmark/wds_`hub`. `task`: what is classified; `size` in MB."""
    repos = tuple(f"clip-benchmark/wds_{each}" for each in hub.split())
    return Row(
        name,
        f"wds_{hub.split()[0].partition('_closest')[0]}",
        "images",
        classes,
        readers.webdataset,
        "official-test",
        f"{task} image classification",
        task,
        template,
        metric,
        needs=("classnames.txt", "images/labels.tsv"),
        image_folders=("images/train", "images/test"),
        source=f"https://huggingface.co/datasets/{repos[0]}",
        hub=Hub(repos, shards=True, size=size),
        published_images=images,
    )


_WEBDATASETS = (
    _row("VTABCaltech101", "vtab-caltech101", 102, "objects", "a photo of a {}.", "mean_acc", 9_144),
    _row("CIFAR10", "vtab-cifar10 cifar10", 10, "small photos of objects", "a photo of a {}.", images=60_000),
    _row("CIFAR100", "vtab-cifar100 cifar100", 100, "small photos of things", "a photo of a {}.", images=60_000),
    _row("Country211", "country211", 211, "countries", "a photo i took in {}."),
    _row("VTABDTD", "vtab-dtd", 47, "textures", "a photo of a {} texture."),
    _row("VTABEuroSAT", "vtab-eurosat", 10, "satellite land use", "a centered satellite photo of {}."),
    _row("FER2013", "fer2013", 7, "facial expressions", "a photo of a {} looking face."),
    _row("WDSAircraft", "fgvc_aircraft", 100, "aircraft models", "a photo of a {}, a type of aircraft.", "mean_acc"),
    _row("GTSRB", "gtsrb", 43, "traffic signs", 'a photo of a "{}" traffic sign.'),
    _row(
        "KITTIDistance",
        "vtab-kitti_closest_vehicle_distance",
        4,
        "distances to the nearest vehicle",
        "a photo taken while driving, {}.",
    ),
    _row("MNIST", "mnist", 10, "handwritten digits", 'a photo of the number: "{}".', images=70_000),
    _row("VTABFlowers", "vtab-flowers", 102, "flower species", "a photo of a {}, a type of flower.", "mean_acc"),
    _row("VTABPets", "vtab-pets", 37, "cat and dog breeds", "a photo of a {}, a type of pet.", "mean_acc"),
    _row("PatchCamelyon", "vtab-pcam", 2, "lymph node tissue", "this is a photo of {}.", images=294_912),
    _row("VTABRESISC45", "vtab-resisc45", 45, "remote sensing scenes", "satellite imagery of {}."),
    _row("RenderedSST2", "renderedsst2", 2, "movie review sentiments", "a {} review of a movie.", images=8_741),
    _row("WDSCars", "cars", 196, "car models", "a photo of a {}.", images=16_185),
    _row("VOC2007Classification", "voc2007_multilabel", 20, "everyday objects", "a photo of a {}.", "mAP_11_points"),
)

_FOOD101 = Row(
    "OfficialFood101",
    "food-101",
    "images",
    101,
    readers.food101,
    "official-test",
    "food dishes image classification",
    "food dish",
    "a photo of {}, a type of food.",
    needs=("meta/train.txt", "meta/test.txt"),
    published_images=101_000,
    source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/, with the lists in meta/",
    files=(
        RemoteFile(
            "food-101.tar.gz",
            same_names("images", "meta", within="food-101"),
            ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
            checksum="md5:85eeb15f3717b99a5da872d97d918f87",
            size=4996,
            unpacked=5200,
        ),
    ),
)

_MEMES = Row(  # the labels of ELEVATER's test were never published; the test is dev_seen here
    "HatefulMemes",
    "hateful_memes",
    "",
    2,
    readers.hateful_memes,
    "official-test",
    "hateful memes image classification",
    "meme",
    "a {}.",
    "roc_auc",
    needs=("train.jsonl", "dev_seen.jsonl"),
    image_folders=("img",),
    published_images=9_000,
    source="https://hatefulmemeschallenge.com (with an account): img/, train.jsonl, dev_seen.jsonl",
)

ROWS = (*_WEBDATASETS, _FOOD101, _MEMES)

# In the order of ELEVATER's list.
ELEVATER20 = (
    "VTABCaltech101",
    "CIFAR10",
    "CIFAR100",
    "Country211",
    "VTABDTD",
    "VTABEuroSAT",
    "FER2013",
    "WDSAircraft",
    "OfficialFood101",
    "GTSRB",
    "HatefulMemes",
    "KITTIDistance",
    "MNIST",
    "VTABFlowers",
    "VTABPets",
    "PatchCamelyon",
    "VTABRESISC45",
    "RenderedSST2",
    "WDSCars",
    "VOC2007Classification",
)
