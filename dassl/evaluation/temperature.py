"""Temperature scaling: one number per task by which logits are divided, so that probabilities fit the accuracy."""

from scipy.optimize import brentq

RANGE = 1e-2, 1e2  # temperatures that are searched
ROWS = 4096  # images at a time


def best_temperature(logits, labels):
    """The temperature T with the least negative log-likelihood of softmax(logits / T), as a float.

    In 1/T the loss is convex. So its minimum is where its derivative, the mean of sum_j p_j (z_j - z_label), is 0
    (Guo et al., "On Calibration of Modern Neural Networks", sec. 4.2).

    Args:
        logits: z (n, C) fp32.
        labels: (n,) class indices.

    Returns:
        T; None if the images do not determine it: there are none, an infinite logit, or no minimum within RANGE, e.g.
        because every image is classified correctly, so that a smaller T is always better.
    """
    if not len(labels) or not logits.isfinite().all():
        return None
    above = logits - logits.gather(1, labels[:, None])  # (n, C)

    def derivative(inverse):
        return sum((part.mul(inverse).softmax(1) * part).sum().item() for part in above.split(ROWS)) / len(above)

    low, high = 1 / RANGE[1], 1 / RANGE[0]
    if not derivative(low) < 0 < derivative(high):
        return None
    return 1 / brentq(derivative, low, high, xtol=1e-6, rtol=1e-6)
