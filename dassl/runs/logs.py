"""Read the final test result of a log in the published format.

The relevant lines, with tabs between the parts of a task line::

    Finished training
    => result
    * total: 1,234
    * overall_metric: 67.12%
    => per-task result
    * task: 0 (faces)    total: 10    metric: 67.12%
    * average: 67.12%

Logs of single-task trainers contain ``* accuracy: 67.12%`` instead of the overall metric, and no per-task part. Logs of
the published SoftCPT code contain the task lines without a heading of their own.
"""

import math
import re
from dataclasses import dataclass, field

FINISHED = re.compile(r"Finish(ed)? training\b")
TRAINING_LINE = re.compile(r"epoch:? ?\[\d+/\d+\]\s*(batch )?\[\d+/\d+\]")
EVALUATION_OF = re.compile(
    r"(?:Do evaluation|Evaluat(?:e|ing)) on (?:the )?\W*(train|val|test)\w*\W* (?:set|split)", re.IGNORECASE
)
NUMBER = r"(\d[\d,]*(?:\.\d+)?|nan)"
RESULT_LINE = re.compile(rf"\* ([\w-]+): {NUMBER}(%?)$")
TASK_LINE = re.compile(r"\* task: (\d+) \((.*)\)\s+total: ([\d,]+)\s+(.*%)$")
TASK_NUMBER = re.compile(rf"([\w-]+): {NUMBER}%")


@dataclass
class Block:
    """One printed result: percentages by name, images, and per task (id, name, images, percentages by name)."""

    numbers: dict[str, float | None] = field(default_factory=dict)
    total: int | None = None
    tasks: list[tuple[int, str, int, dict[str, float | None]]] = field(default_factory=list)
    average_missing: bool = False  # the last line of a per-task part that has begun

    @property
    def complete(self) -> bool:
        return not self.average_missing and ("overall_metric" in self.numbers or "accuracy" in self.numbers)


def _number(text: str) -> float | None:
    value = float(text.replace(",", ""))
    return value if math.isfinite(value) else None


def final_test_block(lines, test_log: bool = False) -> tuple[Block | None, str]:
    """The last complete test result in the lines of a log.

    Validation results never count: results before `Finished training`, under `=> validation result`, or after a line
    that announces an evaluation on the val set.

    Args:
        lines: iterable of strings.
        test_log: accept a log without `Finished training`, from a run that only tested. Results after a training line
            still need `Finished training`.

    Returns:
        (block, "") or (None, what is missing).
    """
    found: Block | None = None
    current: Block | None = None
    finished = trained = results_before_end = cut = False
    on_validation = False
    section = ""

    def close():
        nonlocal found, current, cut
        if current is not None:
            if current.complete:
                found = current
            else:
                cut = True
        current = None

    for raw in lines:
        line = raw.strip()
        if line.startswith("=> "):
            title = line[3:].lower()
            if "per-task result".startswith(title):  # the log may end within these words
                section = "per-task"
                if current is not None:
                    current.average_missing = True
                continue
            if title.startswith("per-"):
                section = title
                continue
            close()
            section = ""
            if title == "result" and not on_validation:
                counts = finished or (test_log and not trained)
                results_before_end = results_before_end or not counts
                current = Block() if counts else None
        elif line.startswith("* "):
            if current is not None:
                _read_line(line, section, current)
        elif FINISHED.match(line):
            close()
            finished, on_validation = True, False
        elif TRAINING_LINE.match(line):
            close()
            # a continued run in the same log: its validation results are not test results
            trained, finished, on_validation = True, False, False
        elif match := EVALUATION_OF.search(line):
            close()
            on_validation = match[1].lower() != "test"
    close()

    if found is not None:
        return found, ""
    if cut:
        return None, "its test result is cut off"
    if finished:
        return None, 'no test result after "Finished training"'
    if results_before_end and not trained:
        return None, 'a result, but no "Finished training"; if the run only evaluated, read it with --test-log'
    return None, 'no "Finished training"' if not test_log or trained else 'no "=> result"'


def _read_line(line: str, section: str, block: Block) -> None:
    if match := TASK_LINE.match(line):
        if section in ("", "per-task"):
            numbers = {name: _number(value) for name, value in TASK_NUMBER.findall(match[4])}
            block.tasks.append((int(match[1]), match[2], int(match[3].replace(",", "")), numbers))
    elif match := RESULT_LINE.match(line):
        name, value, percent = match.groups()
        if section == "" and percent and not (name == "average" and block.tasks):
            block.numbers[name] = _number(value)
        elif section == "" and name == "total":
            block.total = int(value.replace(",", ""))
        elif section == "per-task" and name == "average" and percent:
            block.average_missing = False


EPOCH = re.compile(r"epoch:? ?\[(\d+)/\d+\]\s*(?:batch )?\[\d+/\d+\]")
NUMBER_AND_MEAN = re.compile(r"([A-Za-z]\w*) [-+.\deinfa]+ \(([-+.\deinfa]+)\)")
HEADLINES = ("overall_metric", "accuracy")
RATE = re.compile(r"\blr ([-+.\de]+)")


def training_epochs(lines):
    """The epochs of the training lines of a log, each from its last line.

    Args:
        lines: iterable of strings.

    Returns:
        [{"epoch": number from 1, "lr": rate, name: mean over the epoch up to that line, "validation": per cent}], by
        epoch. "loss" and "acc" are among the names, "validation" is there if the run was validated after the epoch. An
        epoch that a resumed run repeats is as it was the last time.
    """
    found, epoch, validating = {}, None, False
    for raw in lines:
        line = raw.strip()
        if match := EPOCH.match(line):
            epoch, validating = int(match[1]), False
            numbers = {name: _float(value) for name, value in NUMBER_AND_MEAN.findall(line)}
            rate = RATE.search(line)
            found[epoch] = {"epoch": epoch, **numbers, **({"lr": _float(rate[1])} if rate else {})}
        elif line.startswith("=> "):
            validating = line == "=> validation result"
        elif validating and epoch and (match := RESULT_LINE.fullmatch(line)) and match[1] in HEADLINES:
            found[epoch]["validation"] = _number(match[2])
    return [found[epoch] for epoch in sorted(found)]


def _float(text):
    """The number in a text; None for a text that is not one."""
    try:
        return float(text)
    except ValueError:
        return None
