"""Image features as points, classifiers as lines: Zang et al., "Unified Vision and Language Prompt Learning", Fig. 2.

    python -m analysis.embedding RUN [--task faces] [--classes 5 | --classes NAME ...] [--tsne]

The figure has one panel for zero-shot CLIP and one for the run, with the test images of some classes of a task. Both
panels show the directions that separate the classes. The logits of two classes differ by x . (w_c - w_b), where x is
the normalised image feature and w_c, w_b are normalised text features. Therefore only the span of the classifiers minus
their mean matters. The axes are its first three principal directions, which are exact for up to four classes. With
fewer than four classes, the remaining axes are principal directions of the residual of the image features. The points
are x in these axes. The lines go from the origin to w_c minus the mean. The predicted class of an image has the largest
inner product of point and line. All lines are scaled by one factor, so that the longest line is as long as the distance
of the furthest point.

--tsne projects image features and classifiers to two dimensions with scikit-learn. Each group is centred on its own
mean and normalised first, because image and text features are far apart in CLIP.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from analysis import plots
from analysis.runs import features_of, open_run, run_parser
from analysis.variance import text_variance, visual_variance
from dassl import program
from dassl.config import method_name
from dassl.data.datasets.base_dataset import one_per_label
from dassl.utils import UserError
from trainers.hand import HandPrompts

SHOWN = 5  # default number of classes: more are hard to distinguish in three dimensions
COLUMNS = ("panel", "kind", "class", "predicted", "image", "x", "y", "z")


def check(trainer) -> None:
    """Raise UserError for a method that does not compare one image feature with one text feature per class."""
    name = method_name(trainer.cfg)
    if not trainer.learns:
        raise UserError(f"a run of {name} learned nothing; zero-shot CLIP is the first panel of every run")
    if not trainer.compares_features:
        raise UserError(
            f"{name} has no text feature of each class that is compared with an image's feature: expected "
            "a run of another method, such as CoOp, SoftCPT, VPT, UPT or MTUPT"
        )


def chosen_classes(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Labels of the classes in `wanted`, which has class names, or one number n for the first n classes.

    Raises UserError for unknown names or for fewer than two classes.
    """
    if not wanted:
        found = list(range(min(SHOWN, len(names))))
    elif len(wanted) == 1 and wanted[0].isdigit() and wanted[0] not in names:
        found = list(range(min(int(wanted[0]), len(names))))
    else:
        known = {name.lower().replace("_", " "): label for label, name in enumerate(names)}
        missing = [name for name in wanted if name.lower().replace("_", " ") not in known]
        if missing:
            raise UserError(f"--classes {missing[0]}: no such class; the task has: {', '.join(names)}")
        found = [known[name.lower().replace("_", " ")] for name in wanted]
    if len(set(found)) < 2:
        raise UserError(f"--classes: expected at least two classes, found {len(set(found))}")
    return list(dict.fromkeys(found))


def axes_of(text: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, float]:
    """Three orthonormal axes (d, 3) for normalised text (C, d) and image features (B, d), and the share of the
    classifiers' variance within these axes.
    """
    centred = text - text.mean(0)
    _, values, found = np.linalg.svd(centred, full_matrices=False)
    rank = int((values > 1e-6 * max(values[0], 1e-12)).sum())
    basis = found[: min(rank, 3)]
    share = float((values[:3] ** 2).sum() / max((values**2).sum(), 1e-12))
    if len(basis) < 3:
        rest = image - image.mean(0)
        rest = rest - rest @ basis.T @ basis
        basis = np.concatenate([basis, np.linalg.svd(rest, full_matrices=False)[2][: 3 - len(basis)]])
    return basis.T, share


def project(image: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Points (B, 3), end points of the classifiers (C, 3) and the share of `axes_of`; see the module."""
    basis, share = axes_of(text, image)
    points, ends = image @ basis, (text - text.mean(0)) @ basis
    longest = np.linalg.norm(ends, axis=1).max() or 1
    return points, ends * np.linalg.norm(points, axis=1).max() / longest, share


def tsne(image: np.ndarray, text: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """t-SNE of images (B, 2) and classifiers (C, 2). Raises UserError for fewer than four images."""
    from sklearn.manifold import TSNE

    if len(image) < 4:
        raise UserError(f"--tsne: expected at least 4 images, found {len(image)}")
    both = [x - x.mean(0) for x in (image, text)]
    both = np.concatenate([x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12) for x in both])
    perplexity = min(30.0, (len(both) - 1) / 3)
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(both.astype(np.float32))
    return found[: len(image)], found[len(image) :]


@torch.no_grad()
def features(trainer, t: int, labels: Sequence[int], items: list) -> dict[str, tuple[np.ndarray, ...]]:
    """Features of zero-shot CLIP and of the run for test images of task `t`.

    Args:
        labels: labels of the C classes shown.
        items: the B images.

    Returns:
        {panel: (image features (B, d), text features (C, d), predictions (B,))}: features are normalised, predictions
        are indices into `labels`.
    """
    columns = trainer.space.columns(t).start + torch.tensor(labels)
    task = trainer.space.tasks[t]
    hand = HandPrompts(trainer.text_tower, trainer.space.subset([t])).features[labels].cpu().float()
    learned = F.normalize(trainer.text_features()[columns.to(trainer.device)].float(), dim=-1).cpu()
    frozen, own, logits = features_of(trainer, items, f"images of {task.name}")
    panels = {
        "zero-shot CLIP": (frozen, hand, frozen @ hand.T),
        method_name(trainer.cfg): (own, learned, logits[:, columns]),
    }
    return {
        name: (image.double().numpy(), text.double().numpy(), scores.argmax(1).numpy())
        for name, (image, text, scores) in panels.items()
    }


def draw(figure, panels: dict, labels: np.ndarray, names: list[str], flat: bool) -> None:
    """Draw one panel per entry of {name: (title, points, classifiers)}; labels (B,) are indices into `names`."""
    for number, (title, points, ends) in enumerate(panels.values(), 1):
        axes = figure.add_subplot(1, len(panels), number, projection=None if flat else "3d")
        for c, name in enumerate(names):
            style = plots.series(c)
            shade = {} if flat else {"depthshade": False}  # a paler point would look like another class
            axes.scatter(*points[labels == c].T, s=16, alpha=0.75, lw=0, label=plots.wrapped(name), **style, **shade)
            axes.scatter(*ends[c][:, None], s=90, edgecolor="k", lw=1, zorder=3, **style, **shade)
            if not flat:
                axes.plot(*np.stack([0 * ends[c], ends[c]]).T, color=style["color"], lw=2)
        axes.set_title(title)
        for axis, letter in zip(("x", "y", "z")[: points.shape[1]], "123", strict=False):
            getattr(axes, f"set_{axis}label")(f"t-SNE {letter}" if flat else f"direction {letter}", fontsize=8)
            getattr(axes, f"set_{axis}ticklabels")([])
        if not flat:
            axes.view_init(elev=22, azim=-60)
            axes.set_box_aspect((1, 1, 1), zoom=1.12)
    handles, texts = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        texts,
        loc="lower center" if not flat else "outside lower center",
        ncols=min(len(names), 5),
        markerscale=1.6,
    )
    if not flat:  # the layout engine ignores labels around three-dimensional axes
        figure.set_layout_engine(None)
        figure.subplots_adjust(left=0.01, right=0.96, bottom=0.12 + 0.02 * (len(names) // 5), top=0.88, wspace=0.1)


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = run_parser("embedding", __doc__, "folder of a finished run", "embedding[_tsne]", data=True)
    parser.add_argument("--task", default="0", help="key, name or number of the task (default: the first)")
    parser.add_list(
        "--classes",
        lambda word: not os.path.isdir(word),
        default=[],
        metavar="NAME ...",
        help=f"names of classes, or n for the first n (default: {SHOWN})",
    )
    parser.add_argument("--tsne", action="store_true", help="t-SNE in two dimensions instead of principal directions")
    options = parser.parse_args(arguments)

    out = plots.output(options.out, options.run, "embedding_tsne" if options.tsne else "embedding")
    picked = []

    def check_all(cfg, trainer, space):
        t = space.positions(options.task)[0]
        if space.tasks[t].tagging:
            raise UserError(f"{space.tasks[t].key} is a tagging task: its images have no single class; see --task")
        picked.append((t, chosen_classes(space.tasks[t].classnames, options.classes)))

    trainer = open_run(options.run, options.load_epoch, data=True, root=options.root, check=check_all)
    check(trainer)
    (t, classes) = picked[0]
    task = trainer.space.tasks[t]
    labelled = one_per_label(trainer.dm.dataset.test)
    items = [item for item in labelled if item.task == t and item.label in classes]
    if not items:
        raise UserError(f"{task.key} has no test image of the classes chosen")
    labels = np.array([classes.index(item.label) for item in items])
    names = [task.classnames[label] for label in classes]
    with contextlib.redirect_stdout(sys.stderr):
        found = features(trainer, t, classes, items)
    panels, rows, lines = {}, [], []
    for name, (image, text, predicted) in found.items():
        right = 100 * (predicted == labels).mean()
        if options.tsne:
            (points, ends), note = tsne(image, text), ""
        else:
            points, ends, share = project(image, text)
            note = f", {100 * share:.0f} % of the classifiers' variance"
        panels[name] = (f"{name}\n{right:.1f} % right{note}", points, ends)
        rows += _rows(name, points, ends, labels, predicted, names, [item.impath for item in items])
        variances = visual_variance(torch.from_numpy(image), torch.from_numpy(labels))
        lines.append(
            f"{name}: {right:.2f} % of {len(items)} images right among {len(names)} classes{note}; variance "
            f"intra-class visual {variances:.4f}, inter-class text {text_variance(torch.from_numpy(text)):.4f}"
        )
    columns = COLUMNS[:-1] if options.tsne else COLUMNS
    with plots.figure(out, columns, rows, 9.5, 5.4) as figure:
        draw(figure, panels, labels, names, options.tsne)
        classifiers = "large marks" if options.tsne else "lines"
        figure.suptitle(f"{task.name}: images as small marks, classifiers as {classifiers}", fontsize=10)
    print("\n".join(lines))


def _rows(panel: str, points, ends, labels, predicted, names: list[str], paths: list[str]) -> list[dict]:
    """Rows of COLUMNS: the end points of the classifiers, then one row per image."""
    place = ("x", "y", "z")
    rows = [
        {"panel": panel, "kind": "classifier", "class": name, **dict(zip(place, end.tolist(), strict=False))}
        for name, end in zip(names, ends, strict=True)
    ]
    for point, label, guess, path in zip(points, labels, predicted, paths, strict=True):
        about = {"class": names[label], "predicted": names[guess], "image": path}
        rows.append({"panel": panel, "kind": "image", **about, **dict(zip(place, point.tolist(), strict=False))})
    return rows


if __name__ == "__main__":
    sys.exit(main())
