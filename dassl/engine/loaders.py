"""The data loaders of a trainer."""

from dassl.utils import preserved_rng

LOADERS = {  # attribute of trainers and data managers: the name of its images in messages
    "train_loader_x": "training",
    "train_loader_u": "unlabelled",
    "val_loader": "validation",
    "test_loader": "test",
    "unknown_loader": "unknown",
}


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
