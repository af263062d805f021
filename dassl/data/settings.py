"""Settings of datasets (DATASET.*) and loaders (DATALOADER.*)."""

from dassl.config import TEXTS, at_least, between, declare, declare_contradictions
from dassl.data.samplers import SAMPLERS
from dassl.data.tasks import read_task_names, read_tasks

declare("DATASET.ROOT", "", help="folder that contains the folders of all datasets")
declare("DATASET.NAME", "", help="registered name of a dataset or suite")
declare("DATASET.SOURCE_DOMAINS", (), allowed=TEXTS, help="domains to train on, if the dataset has several")
declare("DATASET.TARGET_DOMAINS", (), allowed=TEXTS, help="domains to test on")
declare("DATASET.NUM_LABELED", -1, allowed=at_least(-1), help="labelled images in semi-supervised learning")
declare("DATASET.NUM_SHOTS", -1, allowed=at_least(-1), help="training images per class; -1, 0: all")
declare("DATASET.NESTED_SHOTS", True, help="the images of k shots are a subset of the images of k + 1 shots")
declare(
    "DATASET.FEWSHOT_SPLIT",
    "",
    help="file, or folder of files, with public few-shot sets (2SFS, CoOp), used in place of drawing images",
)
declare(
    "DATASET.IMBALANCE",
    1.0,
    allowed=at_least(1),
    help="images of a task's largest class (NUM_SHOTS) over those of its smallest, in a long-tailed few-shot sample",
)
declare(
    "DATASET.VAL_SHOTS",
    -1,
    allowed=at_least(-1),
    help="validation images per class; -1: NUM_SHOTS, at most 4, as published; 0: no validation images",
)
declare(
    "DATASET.SUBSAMPLE_CLASSES",
    "all",
    allowed=("all", "base", "new"),
    help="classes of every task: all, or the first or second half",
)
declare("DATASET.SUBSAMPLE_TASKS", "all", also=(list, tuple), help="all, base, new, task<i>, or a list of numbers")
declare(
    "DATASET.TASKS",
    [],
    read=read_tasks,
    help="tasks of a suite of your own: names of datasets, DATASET/TASK, or {ROOT: folder of your images, ...}",
)
declare("DATASET.TASK_NAMES", [], read=read_task_names, help="names of tasks in words: {task: name, ...}")
declare(
    "DATASET.VAL_PERCENT",
    0.1,
    allowed=between(0, 1),
    help="share of the training images used for validation, for datasets that read it",
)


@declare_contradictions
def _imbalance_without_shots(cfg) -> list[str]:
    d, found = cfg.DATASET, []
    if d.IMBALANCE > 1 and d.NUM_SHOTS < 1:
        found.append(f"DATASET.IMBALANCE {d.IMBALANCE:g} needs a few-shot sample: set DATASET.NUM_SHOTS above 0")
    if d.IMBALANCE > 1 and d.FEWSHOT_SPLIT:
        found.append("DATASET.IMBALANCE and DATASET.FEWSHOT_SPLIT exclude each other: the file lists the images")
    return found


# compatibility: no dataset here reads these
for _key, _default in (("STL10_FOLD", -1), ("CIFAR_C_TYPE", ""), ("CIFAR_C_LEVEL", 1), ("ALL_AS_UNLABELED", False)):
    declare(f"DATASET.{_key}", _default, help="for datasets written for Dassl that read it")

declare(
    "DATALOADER.NUM_WORKERS", 4, allowed=between(0, 512), help="processes that read images; does not affect results"
)
declare(
    "DATALOADER.START_METHOD",
    "",
    allowed=("", "fork", "spawn", "forkserver"),
    help="start method of workers; '': default",
)
declare("DATALOADER.K_TRANSFORMS", 1, allowed=between(1, 100), help="views of each training image per batch")
declare(
    "DATALOADER.VIEWS",
    0,
    allowed=at_least(0),
    help="number of different augmented views of a training image, which recur in this order; 0: a new view per epoch",
)
declare("DATALOADER.RETURN_IMG0", False, help="add the image without augmentation as img0")
declare("DATALOADER.OLD_DATA_PATH", "", help="beginning of image paths that is replaced by NEW_DATA_PATH")
declare("DATALOADER.NEW_DATA_PATH", "", help="replacement of OLD_DATA_PATH")
for _part in ("TRAIN_X", "TRAIN_U"):
    declare(
        f"DATALOADER.{_part}.SAMPLER", "RandomSampler", allowed=tuple(SAMPLERS), help="order of the training images"
    )
    declare(f"DATALOADER.{_part}.BATCH_SIZE", 32, allowed=between(1, 100_000), help="images per step")
    declare(
        f"DATALOADER.{_part}.DROP_LAST",
        True,
        help="leave out a last batch of fewer images than BATCH_SIZE, unless it is the only one",
    )
    declare(
        f"DATALOADER.{_part}.N_DOMAIN", 0, allowed=at_least(0), help="RandomDomainSampler: domains per batch; 0: all"
    )
    declare(f"DATALOADER.{_part}.N_INS", 16, allowed=between(1, 100_000), help="RandomClassSampler: images per class")
declare("DATALOADER.TRAIN_U.SAME_AS_X", True, help="unlabelled images are sampled with the settings of TRAIN_X")
declare("DATALOADER.TEST.SAMPLER", "SequentialSampler", allowed=tuple(SAMPLERS), help="order of the test images")
declare("DATALOADER.TEST.BATCH_SIZE", 32, allowed=between(1, 100_000), help="test and validation images per batch")
