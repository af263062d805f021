"""The table of evaluators, and the settings of tests."""

import inspect

from dassl.config import declare, one_of
from dassl.utils import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")

declare("TEST.EVALUATOR", "Classification", allowed=one_of(EVALUATOR_REGISTRY.registered_names), help="evaluator")
declare("TEST.PER_CLASS_RESULT", False, help="print the accuracy of every class")
declare("TEST.PER_TASK_RESULT", True, help="print the result of every task")
declare("TEST.COMPUTE_CMAT", False, help="save confusion matrices to OUTPUT_DIR: cmat.pt")
declare("TEST.PREDICTIONS", True, help="write label and most probable classes of every test image: predictions.csv")
declare(
    "TEST.CONFIDENCE",
    False,
    help="evaluate the probabilities on further images: temperature scaling by the validation images, and with "
    "SUBSAMPLE_CLASSES base, AUROC of test images of the new classes",
)
declare("TEST.NO_TEST", False, help="do not test after training")
declare("TEST.SPLIT", "test", allowed=("val", "test"), help="split that is tested")
declare(
    "TEST.FINAL_MODEL",
    "last_step",
    allowed=("last_step", "best_val"),
    help="model that is tested after training: the last one, or the best one on the validation split",
)


class EvaluatorBase:
    """Base of evaluators: process() takes a batch; evaluate() prints and returns the scores since reset()."""

    needs_task = False  # whether process() takes the task of each image as its third argument
    validating = False  # True during training: the heading then says that results are validation results

    def __init__(self, cfg):
        self.cfg = cfg
        self.report = None

    def heading(self, what="result"):
        """Line above a block of results."""
        return f"=> validation {what}" if self.validating else f"=> {what}"

    def reset(self):
        raise NotImplementedError

    def process(self, mo, gt):
        raise NotImplementedError

    def evaluate(self):
        raise NotImplementedError

    def predictions(self):
        """The content of predictions.csv, see `TaskEvaluator.predictions`; [] writes no file."""
        return []


def build_evaluator(cfg, **kwargs):
    """Build the evaluator that cfg.TEST.EVALUATOR names, with those of the keyword arguments that it accepts."""
    evaluator = EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    parameters = inspect.signature(evaluator).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        kwargs = {key: value for key, value in kwargs.items() if key in parameters}  # evaluators written for Dassl
    return evaluator(cfg, **kwargs)
