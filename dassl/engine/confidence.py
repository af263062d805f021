"""Further images for the quality of a test's probabilities (TEST.CONFIDENCE): validation images, unknown classes."""

from dassl.evaluation.classification import TaskEvaluator
from dassl.utils import counted


def fit_temperatures(trainer):
    """Fit a temperature per task on the validation images, for the test that follows. Test images never fit it."""
    if reason := _why_not_fitted(trainer):
        print(f"No temperature is fitted: {reason}")
        return
    evaluator = trainer.evaluator
    evaluator.reset(keep_logits=True)
    for output, target, _ in trainer.outputs("val", "Fitting temperatures on the val split"):
        evaluator.process(output, *target)
    evaluator.fit_temperatures()
    tasks = zip(evaluator.names(), evaluator.temperatures, strict=True)
    print(
        "Temperatures: " + ", ".join(f"{name} {value:.3f}" if value else f"{name} none" for (name, _), value in tasks)
    )


def _why_not_fitted(trainer):
    """Why the validation images cannot fit a temperature; "" if they can."""
    if not isinstance(trainer.evaluator, TaskEvaluator):
        return f"TEST.EVALUATOR {trainer.cfg.TEST.EVALUATOR} does not know how"
    val, test = (getattr(trainer.split_loader(split), "dataset", None) for split in ("val", "test"))
    if val is None:
        return f"{trainer.cfg.DATASET.NAME} has no validation images"
    if trainer.cfg.TEST.SPLIT == "val":
        return "TEST.SPLIT val tests the validation images themselves"
    paths = [{item.impath for item in getattr(split, "data_source", ())} for split in (val, test)]
    shared = len(paths[0] & paths[1])
    return f"{counted(shared, 'validation image')} of {trainer.cfg.DATASET.NAME} are test images" if shared else ""


def measure_unknown(trainer):
    """Add to the report of a test how well the largest probability tells the images of known from unknown classes.

    Both are scored over the classes of their task. The number is the area under the ROC curve in per cent, with the
    test images of known classes as positives (Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and
    Out-of-Distribution Examples in Neural Networks").
    """
    evaluator, space = trainer.evaluator, getattr(trainer.dm, "space", None)
    if trainer.split_loader("unknown") is None or not isinstance(evaluator, TaskEvaluator) or space is None:
        return
    unknown = [[] for _ in space.tasks]
    for output, _, batch in trainer.outputs("unknown", "Evaluating on test images of unknown classes"):
        output, task = output.float().cpu(), batch["task"].cpu()
        for t in task.unique().tolist():
            if space.tasks[t].tagging:
                continue  # its probabilities do not say that an image has none of the classes
            unknown[t] += output[task == t, space.columns(t)].softmax(1).amax(1).tolist()
    evaluator.add_unknown(unknown)
