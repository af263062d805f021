"""The data loaders of a trainer."""

from dassl.utils import count_num_param, counted, preserved_rng

LOADERS = {  # attribute of trainers and data managers: the name of its images in messages
    "train_loader_x": "training",
    "train_loader_u": "unlabelled",
    "val_loader": "validation",
    "test_loader": "test",
    "unknown_loader": "unknown",
}


def sizes(trainer):
    """How many tasks, classes, images and learnable parameters a trainer has, as texts."""
    tasks = getattr(trainer.dm, "space", None)
    parts = [counted(tasks.num_tasks, "task")] if tasks is not None else []
    parts.append(counted(trainer.num_classes, "class"))
    for name, images in LOADERS.items():
        if (loader := getattr(trainer, name, None)) is not None:
            parts.append(counted(len(loader.dataset), f"{images} image"))
    learned = {id(p): p for model in trainer._models.values() for p in model.parameters() if p.requires_grad}
    return [*parts, counted(count_num_param(params=learned.values()), "learnable parameter")]


class Pair(tuple):
    """Batches of two loaders, which forward_backward takes as two arguments."""


def end_workers(loader):
    """End the processes that wait for a loader's next epoch."""
    loader = getattr(loader, "loader", loader)  # a loader of features contains the loader of the images
    iterator = getattr(loader, "_iterator", None)  # PyTorch keeps it if workers are persistent
    if iterator is not None:
        loader._iterator = None
        iterator._shutdown_workers()


def start(loader):
    """Create an iterator over a loader. That would consume random numbers, so the random states are restored."""
    with preserved_rng():
        return iter(loader)
