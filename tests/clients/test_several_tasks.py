"""Trainers for one task on data of several tasks, and the labels of the published SoftCPT code."""

import pytest
import torch
from torch.nn import functional as F

from dassl.data.datasets import DATASET_REGISTRY, DatasetBaseMT, DatumMT
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.evaluation import Classification, ClassificationMT
from dassl.utils import UserError, read_json
from tests.dassl import toy

NAMES = {"0": "colours of things", "1": "redness"}
CLASSES = {"0": toy.CLASSES, "1": {"0": "red", "1": "other"}}


class ToyPublished(DatasetBaseMT):
    """Two tasks in the published form: mappings by the number of the task, lists of labels and tasks."""

    def __init__(self, cfg):
        single = toy.ToyColours(cfg)

        def both(items):
            colours = [DatumMT(impath=i.impath, label=[i.label], task=[0], classname=i.classname) for i in items]
            return colours + [DatumMT(impath=i.impath, label=[min(i.label, 1)], task=[1]) for i in items]

        more = {"taskid2metric": {"1": "mean_acc"}, "taskid2type": {"0": "sl", "1": "sl"}}
        splits = {"train_x": both(single.train_x), "val": None, "test": both(single.test)}
        super().__init__(NAMES, CLASSES, **more, **splits)


class ToySoftCPT(toy.ToyCoOp):
    """Labels (B, N): 1 the class, 0 the other classes of the task, -1 the classes of other tasks."""

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output.masked_fill(label < 0, -1e4), label.argmax(1))
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}


@pytest.fixture
def root(tmp_path):
    toy.draw_images(tmp_path)
    with toy.registered(ToySoftCPT):
        DATASET_REGISTRY.register(ToyPublished)
        yield tmp_path


def test_a_trainer_and_a_dataset_of_the_published_code(root):
    cfg = toy.config(root, root / "run", "ToyPublished", "ToySoftCPT", TEST__EVALUATOR="ClassificationMT")
    trainer = build_trainer(cfg)
    dataset = trainer.dm.dataset
    assert dataset.taskid2tname == {0: "colours of things", 1: "redness"}
    assert dataset.taskid2cname[1] == ("red", "other") and dataset.taskid2metric[1] == "mean_acc"
    batch = next(iter(trainer.test_loader))
    assert batch["label"].shape == (7, 5) and batch["label"][0].tolist() == [1, 0, 0, -1, -1]
    assert dataset.test[0].label == [0] and dataset.test[-1].task == [1]
    trainer.train()
    tasks = read_json(root / "run" / "results.json")["tasks"]
    assert [task["images"] for task in tasks] == [18, 18]
    assert all(task["value"] > 60 for task in tasks)


def test_labels_with_one_class_per_task_are_coded_and_read_back():
    space = TaskSpace((Task("a", "a", ("x", "y")), Task("b", "b", ("u", "v", "w"))))
    labels = [(0, 1), (1, 0), (1, 2)]
    coded = torch.stack([space.encode([pair]) for pair in labels])
    assert coded.tolist() == [[0, 1, -1, -1, -1], [-1, -1, 1, 0, 0], [-1, -1, 0, 0, 1]]
    image, task, label = space.decode(coded)
    assert image.tolist() == [0, 1, 2] and list(zip(task.tolist(), label.tolist(), strict=True)) == labels
    both = torch.stack([space.encode([]), space.encode([labels[1], labels[0]])])
    assert [part.tolist() for part in space.decode(both)] == [[1, 1], [0, 1], [1, 0]]
    with pytest.raises(UserError, match="none of the 1 images of a batch has a label"):
        space.decode(both[:1])


def test_an_image_with_a_class_in_each_task(tmp_path):
    cfg = toy.config(tmp_path, tmp_path)
    space = TaskSpace((Task("a", "a", ("x", "y")), Task("b", "b", ("u", "v", "w"))))
    evaluator = ClassificationMT(cfg, space=space)
    logits = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0]])
    evaluator.process(logits, torch.stack([space.encode([(0, 1), (1, 2)]), space.encode([(0, 1)])]))
    report, _ = evaluator.measure()
    assert [(row["images"], row["overall_acc"]) for row in report["tasks"]] == [(2, 50.0), (1, 100.0)]
    with pytest.raises(UserError, match="needs the task of each image"):
        evaluator.process(logits, torch.tensor([0, 1]))


def test_a_trainer_for_one_task_is_refused_on_several(root):
    cfg = toy.config(root, root / "run", "ToySuite", TEST__EVALUATOR="ClassificationMT")
    with pytest.raises(UserError, match="ToyCoOp trains on one task, ToySuite has 2: it does not read batch"):
        build_trainer(cfg).train()


@pytest.mark.parametrize(("declared", "width", "label"), [(2, 4, 1), (4, 2, 1), (2, 2, 3), (3, 3, 3)])
def test_the_evaluator_takes_the_largest_number_of_classes(tmp_path, declared, width, label):
    space = TaskSpace.single([f"class {i}" for i in range(declared)], key="first")
    evaluator = Classification(toy.config(tmp_path, tmp_path, TEST__PER_CLASS_RESULT=True), {0: "zero"}, space=space)
    evaluator.process(torch.eye(width)[:2], torch.tensor([0, label]))
    assert evaluator.evaluate()["accuracy"] == (100.0 if label == 1 else 50.0)
    assert evaluator.report["tasks"][0]["classes"] == max(declared, width, label + 1)


def test_few_shots_of_several_tasks(root):
    dataset = ToyPublished(toy.config(root, root))
    few = dataset.generate_fewshot_dataset(dataset.train_x, num_shots=2)
    assert len(few) == 2 * 5 and {(item.task[0], item.label[0]) for item in few} == {
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
    }
