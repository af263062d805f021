"""ImageNet, and the four test sets with a shift that models trained on it are evaluated on (as CoOp lays them out).

All five have the same task name and template, so that what was learned on ImageNet says the same on the others.
"""

from datasets import synsets
from datasets.known.row import Row

TASK_NAME = "general objects image classification"

IMAGENET = (
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
        source="https://image-net.org (ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar; an account is needed); "
        "classnames.txt: Google Drive 1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF",
    ),
    Row(
        "ImageNetV2",
        "imagenetv2",
        "imagenetv2-matched-frequency-format-val",
        1000,
        synsets.numbered_folders,
        "test-only",
        TASK_NAME,
        "general object",
        source="https://huggingface.co/datasets/vaishaal/ImageNetV2 (imagenetv2-matched-frequency.tar.gz)",
    ),
    Row(
        "ImageNetSketch",
        "imagenet-sketch",
        "images",
        1000,
        synsets.synset_folders,
        "test-only",
        TASK_NAME,
        "general object",
        source="https://github.com/HaohanWang/ImageNet-Sketch (its folder sketch/, renamed images/)",
    ),
    Row(
        "ImageNetA",
        "imagenet-adversarial",
        "imagenet-a",
        200,
        synsets.synset_folders,
        "test-only",
        TASK_NAME,
        "general object",
        source="https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
    ),
    Row(
        "ImageNetR",
        "imagenet-rendition",
        "imagenet-r",
        200,
        synsets.synset_folders,
        "test-only",
        TASK_NAME,
        "general object",
        source="https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
    ),
)
