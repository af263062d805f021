"""One training step of SoftCPT (NATA): image tower, text tower, loss and optimiser; published code against ours.

python -m benchmarks.train_step --suite general10 --backbone RN50

The published step encodes all classes of all tasks with 77 tokens each. Ours encodes the classes of the tasks in the
batch, each token once. With `--bank` both steps read image features from the feature bank instead of using the image
tower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clip.image_tower import ImageTower
from clip.model import CLIP
from clip.text_tower import TextTower
from dassl.data.tasks import TaskSpace
from trainers.losses import cosine_logits, multitask_cross_entropy, present_columns
from trainers.mtcoop import SoftCPT

from .common import PlainTower, backbone, options, positive, reduced, relative, start, suite
from .measuring import SIDES, add_memory_options, alternate, difference_rows, peaks, report, row, settings


class Step:
    """A training step of one side on a fixed batch. The learner starts from the same values on both sides.

    The tasks of the batch are drawn in proportion to their numbers of classes, as in random batches of a few-shot set.
    """

    def __init__(self, side: str, clip: CLIP, space: TaskSpace, args):
        torch.manual_seed(0)
        self.space, self.scale = space, clip.logit_scale.exp()
        self.image_tower = ImageTower(clip)
        tower = PlainTower(clip) if side == "plain" else TextTower(clip)
        self.learner = SoftCPT(tower, space, n_ctx=args.n_ctx).to(args.device)
        self.optim = torch.optim.SGD(self.learner.parameters(), lr=2e-3, momentum=0.9, weight_decay=5e-4)
        column = torch.randint(space.num_classes, (args.batch,))
        self.task = space.task_of_column[column]  # (B,)
        label = column - torch.tensor(space.offsets)[self.task]
        self.columns = torch.arange(space.num_classes) if side == "plain" else present_columns(space, self.task)
        self.target = torch.searchsorted(self.columns, space.column(self.task, label))
        size = clip.visual.input_resolution
        images = torch.randn(args.batch, 3, size, size).to(args.device)
        self.images, self.features = images, None
        if args.bank:
            self.features = self.encode()
        on_device = (self.columns, self.task, self.target, space.task_of_column[self.columns])
        self.columns, self.task, self.target, self.task_of_column = (x.to(args.device) for x in on_device)

    @torch.no_grad()
    def encode(self) -> torch.Tensor:
        """Frozen features (B, d) of the images of the batch."""
        return self.image_tower(self.images)

    def __call__(self) -> torch.Tensor:
        """The loss before the step."""
        features = self.encode() if self.features is None else self.features
        logits = cosine_logits(features, self.learner(self.columns), self.scale)
        loss = multitask_cross_entropy(logits, self.task_of_column, self.task, self.target)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        return loss.detach()

    def gradient(self) -> torch.Tensor:
        """Gradient of all parameters in the last step, as one vector."""
        return torch.cat([parameter.grad.flatten() for parameter in self.learner.parameters()])


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--batch", type=positive, default=32, help="B, images per step")
    parser.add_argument("--bank", action="store_true", help="image features are given")
    parser.add_argument(
        "--plain-classes", type=positive, help="classes of the plain step (default: as many as fit into memory)"
    )
    add_memory_options(parser)
    args = parser.parse_args(argv)

    clip, space = backbone(args.backbone, args.dtype, args.device), suite(args.suite, args.scale)
    wanted = args.plain_classes or PlainTower(clip).prompts_that_fit(space.num_classes)
    spaces = {"plain": reduced(space, wanted), "ours": space}
    classes = {side: spaces[side].num_classes for side in SIDES}
    whole = classes["plain"] == classes["ours"]
    steps = {side: Step(side, clip, spaces[side], args) for side in SIDES}
    result = settings("train_step", args) | {
        "tasks": space.num_tasks,
        "tasks_in_batch": len(steps["ours"].task.unique()),
        "classes": classes["ours"],
        "classes_in_step": len(steps["ours"].columns),
        "plain_classes": classes["plain"],
    }
    rows, notes = [], []
    if not args.memory_only:
        same = {side: Step(side, clip, spaces["plain"], args) for side in SIDES}
        # the second step includes the update of the first
        losses = {side: torch.stack([step(), step()]) for side, step in same.items()}
        result["difference"] = {
            "loss": relative(losses["ours"], losses["plain"]),
            "gradients": relative(same["ours"].gradient(), same["plain"].gradient()),
        }
        del same
        sides = dict(steps) if args.bank else {**steps, "images": steps["ours"].encode}
        seconds = alternate(sides, args.repeat, torch.device(args.device))
        images = seconds.pop("images", 0.0)
        result |= {"seconds": seconds, "image_seconds": images}
        rows.append(row("ms per step" + ("" if whole else " (different classes)"), seconds, 1e3))
        # everything but the image tower grows with the number of classes
        plain = images + max(seconds["plain"] - images, 0) * classes["ours"] / classes["plain"]
        result |= {"plain_seconds_all_classes": plain, "speedup": plain / seconds["ours"]}
        if not whole:
            rows.append(row("ms per step, all classes", {**seconds, "plain": plain}, 1e3))
        if not args.bank:
            rows.append(("… of which the image tower", 1e3 * images, 1e3 * images, ""))
        rows += difference_rows(result["difference"])
    if not args.no_memory:
        result["memory_mib"] = mib = peaks(steps, torch.device(args.device))
        result["plain_memory_mib_all_classes"] = mib["plain"] * classes["ours"] / classes["plain"]
        rows.append(row("peak MiB over the base", mib))
        if not whole:
            rows.append(row("… all classes", {**mib, "plain": result["plain_memory_mib_all_classes"]}))
    if not whole:
        notes.append(f"plain ran on {classes['plain']} of the classes; its rows for all classes are extrapolated")
    there, columns = result["tasks_in_batch"], result["classes_in_step"]
    notes.append(
        f"{there} of {space.num_tasks} tasks are in the batch: ours encodes {columns} of {classes['ours']} classes"
    )
    title = f"training step, SoftCPT NATA, batch {args.batch}: {args.suite}, {classes['ours']} classes"
    report(result, title, rows, notes, args.json)


if __name__ == "__main__":
    start(main)
