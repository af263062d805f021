"""CoOp (Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022) on several tasks, in one plain script.

python examples/coop_plain.py --shots 4 --seed 1

Each task learns 16 context tokens v_t, which the prompts of all its classes share; CLIP is frozen:

    w_k = text("v_t CLASS k.")

The row is CoOp-CA of SoftCPT's table, trained as by `sh scripts/main_mtcoop_hard.sh icon5 tiny_ep20 4 16 False True`,
with the same result.
"""

import math

import icons
import open_clip
import torch
import torch.nn.functional as F
from torch import nn

LR, WARMUP_LR, BATCH = 0.05, 1e-5, 128


class Prompts:
    """Tokens [SOS] context NAME . [EOS] of some names, into whose places of the context any vectors can be put."""

    def __init__(self, clip, names, length):
        texts = [" ".join(["X"] * length) + f" {name.replace('_', ' ')}." for name in names]
        tokens = open_clip.tokenize(texts)  # (N, 77)
        self.end = tokens.argmax(1)  # [EOS] has the largest number
        self.tokens = tokens[:, : self.end.max() + 1]  # the transformer is causal: what follows [EOS] does not count
        self.embedded, self.length, self.clip = clip.token_embedding(self.tokens), length, clip

    def encode(self, context):
        """Text features (N, d) with contexts (N, L, D)."""
        clip, mask = self.clip, self.clip.attn_mask[: self.tokens.shape[1], : self.tokens.shape[1]]
        x = torch.cat([self.embedded[:, :1], context, self.embedded[:, 1 + self.length :]], 1)
        x = clip.transformer(x + clip.positional_embedding[: x.shape[1]], attn_mask=mask)
        return clip.ln_final(x[torch.arange(len(x)), self.end]) @ clip.text_projection


class CoOp(nn.Module):
    def __init__(self, clip, tasks, classes):
        super().__init__()
        width = clip.text_projection.shape[0]  # D
        self.contexts = nn.ParameterList(torch.empty(16, width).normal_(std=0.02) for _ in tasks)
        self.prompts = Prompts(clip, [name for names in classes for name in names], 16)
        self.task_of_class = torch.arange(len(tasks)).repeat_interleave(torch.tensor([len(names) for names in classes]))
        self.scale = clip.logit_scale.exp()

    def forward(self, features, task):
        """Logits (B, N) of image features (B, d); -inf for the classes of other tasks than an image's own, `task`."""
        text = self.prompts.encode(torch.stack(list(self.contexts))[self.task_of_class])  # (N, d)
        logits = self.scale * F.normalize(features, dim=-1) @ F.normalize(text, dim=-1).t()
        return logits.masked_fill(task[:, None] != self.task_of_class, -math.inf)


def train(model, features, task, label, epochs, seed):
    """SGD with a cosine schedule after one epoch of warm-up. label (n,): class among those of all tasks."""
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9, weight_decay=5e-4)
    for epoch in range(epochs):
        cosine = LR / 2 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
        optimizer.param_groups[0]["lr"] = WARMUP_LR if epoch == 0 else cosine
        for batch in icons.batches(len(features), BATCH, seed, epoch):
            loss = F.cross_entropy(model(features[batch], task[batch]), label[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main(words=None):
    options = icons.arguments(__doc__, words, epochs=20)
    tasks, classes, splits = icons.load(options.shots, options.seed)
    torch.manual_seed(options.seed)
    clip = icons.build_clip()
    data = icons.features(clip, splits)
    with torch.no_grad():
        model = CoOp(clip, tasks, classes)
    features, task, label = data["train"]
    first = torch.tensor([0, *map(len, classes)]).cumsum(0)  # number of each task's first class among all classes
    train(model, features, task, first[task] + label, options.epochs, options.seed)
    features, task, label = data["test"]
    with torch.no_grad():
        right = model(features, task).argmax(1) == first[task] + label
    return icons.report(tasks, right, task)


if __name__ == "__main__":
    main()
