"""predictions.csv and the numbers of TEST.CONFIDENCE, through runs of several methods."""

import csv
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dassl.data.datasets import DATASET_REGISTRY, DatasetBaseMT
from dassl.engine import build_trainer
from dassl.evaluation import ClassificationMT
from dassl.evaluation.temperature import best_temperature
from dassl.metrics import METRICS, Batch
from dassl.metrics.confidence import image_scores
from dassl.runs.predictions import write_predictions
from dassl.runs.record import known_results
from tests.suite import TASKS, TestSuite, config

# A learned method, zero-shot CLIP, one fitted on features, a cache, one with a changed image tower
METHODS = ("MTCoOp", "ZeroshotCLIP", "LinearProbe", "TipAdapter", "VPT")


@pytest.fixture
def run(tmp_path, weights):
    def run(trainer, folder="run", *opts, model=None):
        """Train and test, or test the model of another folder. Returns the trainer and the folder."""
        place = tmp_path / folder
        trainer = build_trainer(config(tmp_path, trainer, weights, 32, "OUTPUT_DIR", str(place), *opts))
        if model is None:
            trainer.train()
        else:
            trainer.load_model(str(tmp_path / model))
            trainer.test_and_record()
        return trainer, place

    return run


def rows_of(folder):
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def assert_same_numbers(folder, rows):
    """The file gives the accuracies of results.json exactly."""
    for task in known_results(folder)["tasks"]:
        own = [row for row in rows if row["task"] == task["key"]]
        assert len(own) == task["images"]
        right = [row["label"] == row["class1"] for row in own]
        assert 100 * sum(right) / len(own) == task["overall_acc"]
        top = [row["label"] in [value for name, value in row.items() if name.startswith("class")] for row in own]
        assert 100 * sum(top) / len(own) == pytest.approx(task["top5_acc"])
        present = {row["label"] for row in own}
        of_class = [[row["class1"] == name for row in own if row["label"] == name] for name in present]
        assert np.mean([100 * np.mean(each) for each in of_class]) == pytest.approx(task["mean_acc"])


@pytest.mark.parametrize("method", METHODS)
def test_predictions_give_the_accuracy_of_the_record(method, run, tmp_path):
    _, folder = run(method)
    rows = rows_of(folder)
    ranks = [f"{name}{rank}" for rank in range(1, 6) for name in ("class", "probability")]
    assert list(rows[0]) == ["path", "task", "label", *ranks]
    assert_same_numbers(folder, rows)
    order = [task.key for task in TASKS]
    assert rows == sorted(rows, key=lambda row: (order.index(row["task"]), row["path"])) and len(rows) == 18
    names = {task.key: set(task.classnames) for task in TASKS}
    for row in rows:
        assert (tmp_path / "data" / row["path"]).is_file() and row["path"].split("/")[:2] == [row["task"], row["label"]]
        classes = [row[f"class{rank}"] for rank in range(1, 6) if row[f"class{rank}"]]
        values = [float(row[f"probability{rank}"]) for rank in range(1, 6) if row[f"probability{rank}"]]
        assert set(classes) == names[row["task"]] and len(classes) == len(values)  # no task has more than 5 classes
        assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1, abs=1e-5)


def test_features_and_images_give_the_same_file_and_the_setting_omits_it(run, tmp_path, capsys):
    first = run("MTCoOp", "a")[1] / "predictions.csv"
    second = run("MTCoOp", "b", "DATALOADER.TEST.SAMPLER", "RandomSampler")[1] / "predictions.csv"
    assert first.read_bytes() == second.read_bytes()
    live = rows_of(run("MTCoOp", "live", "DATALOADER.FEATURE_CACHE", False)[1])
    assert [row["path"] for row in live] == [row["path"] for row in rows_of(tmp_path / "a")]
    off = run("MTCoOp", "off", "TEST.PREDICTIONS", False, "TEST.COMPUTE_CMAT", True)[1]
    assert not (off / "predictions.csv").exists() and not (off / "confusion.csv").exists()
    counts = {}
    for row in rows_of(tmp_path / "a"):
        key = row["task"], row["label"], row["class1"]
        counts[key] = counts.get(key, 0) + 1
    matrices = torch.load(off / "cmat.pt", weights_only=True)
    for task in TASKS:
        found = matrices[task.name].nonzero().tolist()
        own = {(task.key, task.classnames[a], task.classnames[b]): int(matrices[task.name][a, b]) for a, b in found}
        assert own == {key: value for key, value in counts.items() if key[0] == task.key}


def test_validation_writes_nothing(run):
    trainer, folder = run("MTCoOp", "run", "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", False)
    before = (folder / "predictions.csv").read_bytes()
    (folder / "predictions.csv").unlink()
    trainer.validate()
    trainer.test()
    assert not (folder / "predictions.csv").exists()
    trainer.test_and_record()
    assert (folder / "predictions.csv").read_bytes() == before
    assert sum("/val" in row["path"] for row in rows_of(folder)) == 0


def test_base_to_new(run):
    base = ("DATASET.SUBSAMPLE_CLASSES", "base")
    _, folder = run("MTCoOp", "base", *base)
    assert_same_numbers(folder, rows_of(folder))
    _, new = run("MTCoOp", "new", "DATASET.SUBSAMPLE_CLASSES", "new", model="base")
    rows = rows_of(new)
    assert_same_numbers(new, rows)
    assert {row["label"] for row in rows} == {"white", "black", "dot"}
    assert list(rows[0])[3:] == ["class1", "probability1", "class2", "probability2"]  # at most two new classes


def plain(trainer, split):
    """{task: (logits (n, C), labels (n,))} of a split, without evaluator."""
    found = {t: ([], []) for t in range(trainer.space.num_tasks)}
    for batch in getattr(trainer.dm, f"{split}_loader"):
        logits = trainer.model_inference(batch["img"], batch["task"])
        for row, task, label in zip(logits, batch["task"].tolist(), batch["label"].tolist(), strict=True):
            found[task][0].append(row[trainer.space.columns(task)])
            found[task][1].append(label)
    return {t: (torch.stack(rows), torch.tensor(labels)) for t, (rows, labels) in found.items() if rows}


def test_temperatures_are_fitted_on_validation_images_only(run, capsys):
    trainer, folder = run("MTCoOp", "run", "TEST.CONFIDENCE", True)
    out = capsys.readouterr().out
    record = known_results(folder)
    val, test = plain(trainer, "val"), plain(trainer, "test")
    temperatures = [best_temperature(*val[t]) for t in range(3)]
    assert temperatures[1] is None and sum(t is not None for t in temperatures) >= 1  # one class needs no temperature
    for t, row in enumerate(record["tasks"]):
        logits, labels = test[t]
        assert row["temperature"] == (temperatures[t] and pytest.approx(temperatures[t], rel=1e-3))
        scores = image_scores(Batch(logits / (temperatures[t] or 1), labels))
        for name in ("ece", "nll"):
            assert row[f"{name}_scaled"] == pytest.approx(METRICS.get(name)(scores, labels), abs=1e-2)
            assert row[name] == pytest.approx(METRICS.get(name)(image_scores(Batch(logits, labels)), labels), abs=1e-2)
    mean = [np.mean([row[name] for row in record["tasks"]]) for name in ("ece_scaled", "nll_scaled")]
    assert [record["mean"]["ece_scaled"], record["mean"]["nll_scaled"]] == pytest.approx(mean)
    assert "Fitting temperatures on the val split\n" in out and "Temperatures: shades " in out
    assert out.count("=> result") == 1 and "=> validation" not in out
    other = known_results(run("MTCoOp", "off")[1])
    assert "temperature" not in other["tasks"][0] and "ece_scaled" not in other["mean"]
    assert [row["value"] for row in other["tasks"]] == [row["value"] for row in record["tasks"]]


class TestedTwice(TestSuite):
    """As published code does for ImageNet: the test images are also the validation images."""

    def __init__(self, cfg):
        super().__init__(cfg)
        DatasetBaseMT.__init__(self, self.space, self.train_x, self.test[:3] + self.val[:1], self.test)


def test_test_images_never_fit_a_temperature(run, capsys, monkeypatch):
    monkeypatch.setitem(DATASET_REGISTRY._objects, "TestedTwice", TestedTwice)
    for settings, line in (
        (("DATASET.NAME", "TestedTwice"), "3 validation images of TestedTwice are test images"),
        (("TEST.SPLIT", "val"), "TEST.SPLIT val tests the validation images themselves"),
    ):
        _, folder = run("ZeroshotCLIP", "-".join(settings), "TEST.CONFIDENCE", True, *settings)
        assert f"No temperature is fitted: {line}\n" in capsys.readouterr().out
        assert "temperature" not in known_results(folder)["tasks"][0]


def test_unknown_classes_from_base_to_new(run, capsys):
    settings = ("DATASET.SUBSAMPLE_CLASSES", "base", "TEST.CONFIDENCE", True)
    for method in ("MTCoOp", "VPT"):
        trainer, folder = run(method, method, *settings)
        record = known_results(folder)
        known, unknown = plain(trainer, "test"), plain(trainer, "unknown")
        assert unknown.keys() == {0, 2}  # the task with one class has no new class
        values = []
        for t, row in enumerate(record["tasks"]):
            assert row["unknown_images"] == len(unknown.get(t, ((), ()))[1]) == [4, 0, 2][t]
            if t == 1:
                assert row["auroc_unknown"] is None
                continue
            scores = [each[t][0].softmax(1).max(1).values for each in (known, unknown)]
            truth = [1] * len(scores[0]) + [0] * len(scores[1])
            values.append(100 * roc_auc_score(truth, torch.cat(scores)))
            assert row["auroc_unknown"] == pytest.approx(values[-1])
        assert record["mean"]["auroc_unknown"] == np.mean([record["tasks"][t]["auroc_unknown"] for t in (0, 2)])
        assert len(rows_of(folder)) == sum(row["images"] for row in record["tasks"])  # of known classes only
        assert "AUROC of images of unknown classes: " in capsys.readouterr().out


def test_names_and_paths_that_need_quotes(tmp_path):
    task = {
        "key": "a, b",
        "classnames": ['say "x"', "twice", "twice", "two\nlines"],
        "positions": np.array([1, 0, 2]),
        "labels": np.array([0, 2, 3]),
        "classes": np.array([[0, 1, 2, 3, -1], [1, 2, 0, 3, -1], [3, 0, 1, 2, -1]]),
        "probabilities": np.array([[0.7, 0.1, 0.1, 0.1, 0]] * 3, dtype="float32"),
    }
    write_predictions(tmp_path, [task], ["b,c.png", "a.png", "ü/é.png"])
    rows = rows_of(tmp_path)
    assert [row["path"] for row in rows] == ["a.png", "b,c.png", "ü/é.png"]
    assert [row["label"] for row in rows] == ['say "x"', "twice (2)", "two\nlines"]
    assert [row["class1"] for row in rows] == ['say "x"', "twice (1)", "two\nlines"]
    assert rows[0]["probability1"] == "0.7" and rows[0]["task"] == "a, b" and "class5" not in rows[0]


def test_an_evaluator_and_a_loader_of_other_code(run, tmp_path, capsys):
    """An evaluator without predictions, and batches without paths, give no file, and the run ends."""

    class Loader:
        def __init__(self, loader):
            self.batches = [{key: value for key, value in batch.items() if key != "impath"} for batch in loader]
            self.dataset = loader.dataset.dataset

        def __iter__(self):
            return iter(self.batches)

        def __len__(self):
            return len(self.batches)

    trainer, folder = run("ZeroshotCLIP")
    (folder / "predictions.csv").unlink()
    trainer.test_loader = Loader(trainer.dm.test_loader)
    trainer.test_and_record()
    assert "predictions.csv is not written: the batches of the test have no 'impath'" in capsys.readouterr().out
    trainer.evaluator = type("Plain", (ClassificationMT,), {"predictions": lambda self: []})(
        trainer.cfg, space=trainer.space
    )
    trainer.test_and_record()
    assert not (folder / "predictions.csv").exists()
    assert json.loads((folder / "results.json").read_text())["status"] == "complete"
