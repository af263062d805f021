"""Numbers of the tasks of a suite, on one line: `python -m scripts.suite_tasks CONFIG_FILE [KEY VALUE ...]`.

Does not read data. Of the pairs, only DATASET.NAME and DATASET.TASKS are used.
"""

import sys

from dassl import program


@program.entry
def main(arguments: list[str]) -> None:
    import datasets  # noqa: F401  registers the suites
    from dassl.config import get_cfg_default, load
    from dassl.data.datasets import DATASET_REGISTRY

    file, *rest = arguments
    pairs = [
        part
        for key, value in zip(rest, rest[1:], strict=False)
        if key in ("DATASET.NAME", "DATASET.TASKS")
        for part in (key, value)
    ]
    cfg = get_cfg_default()
    load(cfg, [file], pairs)
    suite = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    if not hasattr(suite, "task_keys"):
        raise ValueError(f"{cfg.DATASET.NAME} does not list its tasks; set TASKS to their numbers")
    print(*range(len(suite.task_keys(cfg))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
