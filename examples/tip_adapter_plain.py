"""Tip-Adapter (Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022) in
one plain script.

python examples/tip_adapter_plain.py --shots 4 --seed 1

The training images of a task are a cache beside zero-shot CLIP. f, t_k and key_i are unit features of an image, of the
text of class k and of training image i; y_i is the class of image i:

    logits_k = s f t_k + alpha sum over i with y_i = k of exp(-beta (1 - f key_i))

alpha and beta of each task are those with the best accuracy on its validation images. Nothing is trained. The same as
`sh scripts/method.sh TipAdapter icon5 tiny 4`, with the same result.
"""

import icons
import open_clip
import torch
import torch.nn.functional as F

LARGEST, BETAS, ALPHAS = 50.0, 200, 20  # alpha and beta are searched from 0.1 to LARGEST


def zero_shot(clip, names):
    """Unit text features (C, d) of "a photo of a CLASS."."""
    tokens = open_clip.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in names])
    return F.normalize(clip.encode_text(tokens), dim=-1)


def search(zero, similarity, votes, label):
    """The first best (alpha, beta), with beta as the outer loop.

    zero (n, C): zero-shot logits; similarity (n, M): cosines with the keys; votes (M, C): one-hot classes of the keys.
    """
    best = -1.0, 0.0, 0.0
    for i in range(BETAS):
        beta = 0.1 + i * (LARGEST - 0.1) / BETAS
        cache = (beta * (similarity - 1)).exp() @ votes  # (n, C)
        for j in range(ALPHAS):
            alpha = 0.1 + j * (LARGEST - 0.1) / ALPHAS
            accuracy = ((zero + alpha * cache).argmax(1) == label).double().mean().item()
            if accuracy > best[0]:
                best = accuracy, alpha, beta
    return best[1:]


@torch.no_grad()
def main(words=None):
    options = icons.arguments(__doc__, words)
    tasks, classes, splits = icons.load(options.shots, options.seed)
    clip = icons.build_clip()
    data = {split: (F.normalize(found[0], dim=-1), *found[1:]) for split, found in icons.features(clip, splits).items()}
    features, task, label = data["test"]
    predicted = torch.zeros_like(label)
    for number, names in enumerate(classes):
        text, scale = zero_shot(clip, names), clip.logit_scale.exp()
        own = {split: (found[task == number], label[task == number]) for split, (found, task, label) in data.items()}
        keys, votes = own["train"][0], F.one_hot(own["train"][1], len(names)).float()
        images, truth = own["val"]
        alpha, beta = search(scale * images @ text.t(), images @ keys.t(), votes, truth)
        images = own["test"][0]
        cache = (beta * (images @ keys.t() - 1)).exp() @ votes
        predicted[task == number] = (scale * images @ text.t() + alpha * cache).argmax(1)
    return icons.report(tasks, predicted == label, task)


if __name__ == "__main__":
    main()
