"""Numbers of the tasks of a suite, on one line: `python -m scripts.suite_tasks CONFIG_FILE [KEY VALUE ...]`.

Does not read data. Of the pairs, only DATASET.NAME and DATASET.TASKS are used.
"""

import sys


def main(arguments: list[str]) -> int:
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
    try:
        cfg = get_cfg_default()
        load(cfg, [file], pairs)
        suite = DATASET_REGISTRY.get(cfg.DATASET.NAME)
        if not hasattr(suite, "task_keys"):
            raise ValueError(f"{cfg.DATASET.NAME} does not list its tasks; set TASKS to their numbers")
        print(*range(len(suite.task_keys(cfg))))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
