"""Accuracies of one batch, for training lines."""

import torch


def compute_accuracy(output, target, topk=(1,)):
    """Top-k accuracies of a batch.

    Args:
        output: (B, C) logits, or a tuple or list whose first item is the logits.
        target: (B,) class indices.
        topk: values of k; a k above C counts as C.

    Returns:
        list of one-element tensors in per cent, one per k.
    """
    if isinstance(output, (tuple, list)):
        output = output[0]
    ranked = output.topk(min(max(topk), output.shape[1]), dim=1).indices  # (B, k)
    hits = ranked == target.view(-1, 1)
    return [hits[:, :k].any(1).float().mean().mul(100.0).view(1) for k in topk]


def compute_accuracy_map(output, label, task, space, task_wise=False):
    """Accuracy of a multi-task batch: each image is classified among the classes of its own task.

    Args:
        output: (B, N) logits over the classes of all tasks.
        label: (B,) class index within the task.
        task: (B,) position of the task in `space`.
        space: TaskSpace, or anything with `mask(task)` -> (B, N), `column(task, label)` -> (B,) and `num_tasks`.
        task_wise: return one accuracy per task instead of one for the batch.

    Returns:
        one-element tensor in per cent; with `task_wise` (T,), NaN for tasks without an image in the batch.
    """
    mask = space.mask(task.cpu()).to(output.device)  # (B, N)
    column = space.column(task.cpu(), label.cpu()).to(output.device)  # (B,)
    right = (output.masked_fill(~mask, float("-inf")).argmax(1) == column).float()
    if not task_wise:
        return right.mean().mul(100.0).view(1)
    task = task.to(output.device)
    images = torch.zeros(space.num_tasks, device=output.device).index_add_(0, task, torch.ones_like(right))
    return 100.0 * torch.zeros_like(images).index_add_(0, task, right) / images
