"""Cost of a pass of the text tower against the number of classes, the number of tasks and the context length.

python -m benchmarks.growth --suite general10 --backbone RN50
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from clip.text_tower import TextTower
from dassl.data.tasks import Task, TaskSpace

from .common import backbone, options, start, suite
from .measuring import MIB, alternate, peak_over_base, report, settings
from .text_tower import Pass

SHARES = (0.125, 0.25, 0.5, 1.0)  # shares of the suite's classes
TASKS = (1, 5, 20, 80)  # numbers of tasks for all classes of the suite, one context per task
LENGTHS = (4, 8, 16, 32)  # L, context lengths


def divided(space: TaskSpace, tasks: int) -> TaskSpace:
    """Divide all classes of `space` among `tasks` tasks of nearly equal size."""
    names = space.classnames
    bounds = [round(t * len(names) / tasks) for t in range(tasks + 1)]
    parts = [tuple(names[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]
    return TaskSpace(tuple(Task(f"task{t}", f"task {t}", part, id=t) for t, part in enumerate(parts) if part))


def main(argv: Sequence[str] | None = None) -> None:
    args = options(__doc__.splitlines()[0], repeat=3).parse_args(argv)
    clip = backbone(args.backbone, args.dtype, args.device)
    tower, whole = TextTower(clip), suite(args.suite, args.scale)
    cases = [("classes", suite(args.suite, args.scale * share), args.n_ctx, "task") for share in SHARES]
    cases += [("tasks", divided(whole, tasks), args.n_ctx, "task") for tasks in TASKS if tasks <= whole.num_classes]
    cases += [("context length", whole, length, "task") for length in LENGTHS]

    rows = []
    for what, space, length, sharing in cases:
        one = Pass(tower, space, length, sharing)
        peak = peak_over_base(one, tower.device)
        seconds = alternate({"ours": one}, args.repeat, tower.device, warm_up=False)["ours"]
        rows.append(
            {
                "varied": what,
                "classes": space.num_classes,
                "tasks": space.num_tasks,
                "n_ctx": length,
                "plain_tokens": space.num_classes * clip.context_length,
                "tokens": one.learner().num_tokens,
                "seconds": seconds,
                "mib": peak / MIB,
            }
        )
        print(f"{what}: {len(rows)} of {len(cases)} measured", file=sys.stderr)
    result = settings("growth", args) | {"rows": rows}
    title = f"forward + backward of the text tower, one context per task: {args.suite}"
    head = ("varied", "classes", "tasks", "L", "tokens published", "tokens", "ms", "peak MiB")
    table = [[*list(r.values())[:6], 1e3 * r["seconds"], r["mib"]] for r in rows]
    report(result, title, table, (), args.json, head)


if __name__ == "__main__":
    start(main)
