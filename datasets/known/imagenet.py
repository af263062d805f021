"""ImageNet and the four shifted test sets for models trained on it, in CoOp's layout.

All five have the same task name and template, so that prompts learned on ImageNet are the same on the others.
"""

from datasets import synsets
from datasets.known.remote import COOP, RemoteFile, same_names
from datasets.known.row import Row

_HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"
_CLASSNAMES = RemoteFile("classnames.txt", drive="1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF", size=1, optional=True)
TASK_NAME = "general objects image classification"


def _shifted(name: str, folder: str, images: str, classes: int, read, **others) -> Row:
    """A shifted test set of ImageNet: the task is the same."""
    return Row(
        name,
        folder,
        images,
        classes,
        read,
        "test-only",
        TASK_NAME,
        "general object",
        task_of="ImageNet",
        hub=COOP,
        **others,
    )


ROWS = (
    Row(
        "ImageNet",
        "imagenet",
        "images",
        1000,
        synsets.imagenet,
        "official",
        TASK_NAME,
        "general object",
        image_folders=("images/train", "images/val"),
        train_folders=("images/train",),
        other_folders=("ILSVRC2012", "ILSVRC", "imagenet-1k"),
        published_images=1_331_167,
        download_size="145 GB",
        source="https://image-net.org (ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar; an account is needed); "
        "classnames.txt: Google Drive 1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF",
        files=(_CLASSNAMES,),
        by_hand="put the two archives and ILSVRC2012_devkit_t12.tar.gz into {folder}/images\n"
        "and let torchvision unpack them there, into class folders:\n"
        'python -c "from torchvision.datasets import ImageNet; '
        "[ImageNet('{folder}/images', part) for part in ('train', 'val')]\"",
    ),
    _shifted(
        "ImageNetV2",
        "imagenetv2",
        "imagenetv2-matched-frequency-format-val",
        1000,
        synsets.numbered_folders,
        published_images=10_000,
        source="https://huggingface.co/datasets/vaishaal/ImageNetV2 (imagenetv2-matched-frequency.tar.gz)",
        files=(
            RemoteFile(
                "imagenetv2-matched-frequency.tar.gz",
                same_names("imagenetv2-matched-frequency-format-val"),
                (
                    "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
                    "imagenetv2-matched-frequency.tar.gz",
                ),
                size=1260,
                unpacked=1300,
            ),
        ),
    ),
    _shifted(
        "ImageNetSketch",
        "imagenet-sketch",
        "images",
        1000,
        synsets.synset_folders,
        other_folders=("sketch",),
        published_images=50_889,
        source="https://github.com/HaohanWang/ImageNet-Sketch (its folder sketch/, renamed images/)",
        files=(
            RemoteFile(
                "ImageNet-Sketch.zip",
                (("sketch", "images"),),
                ("https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",),
                drive="1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA",
                size=7600,
                unpacked=8200,
            ),
        ),
    ),
    _shifted(
        "ImageNetA",
        "imagenet-adversarial",
        "imagenet-a",
        200,
        synsets.synset_folders,
        other_folders=("imagenet-a",),
        published_images=7_500,
        source="https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
        files=(RemoteFile("imagenet-a.tar", same_names("imagenet-a"), (f"{_HENDRYCKS}/imagenet-a.tar",), size=690),),
    ),
    _shifted(
        "ImageNetR",
        "imagenet-rendition",
        "imagenet-r",
        200,
        synsets.synset_folders,
        other_folders=("imagenet-r",),
        published_images=30_000,
        source="https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
        files=(RemoteFile("imagenet-r.tar", same_names("imagenet-r"), (f"{_HENDRYCKS}/imagenet-r.tar",), size=2190),),
    ),
)
