"""Compare ProtoNet with plain class means."""

import pytest
import torch

from dassl.data.transforms import build_transform
from dassl.engine import build_trainer
from dassl.utils import read_image
from tests.models import state_dict, tiny_vit
from tests.suite import config


def feature(trainer, path):
    """Feature of a resized and centre-cropped image, without cache or loader."""
    image = build_transform(trainer.cfg, is_train=False)(read_image(path))
    with torch.no_grad():
        return trainer.clip.encode_image(image[None])[0].double()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_class_mean(metric, tmp_path):
    torch.save(state_dict(tiny_vit()), tmp_path / "vit.pt")
    cfg = config(tmp_path, "ProtoNet", tmp_path / "vit.pt", 32, "TRAINER.PROTONET.METRIC", metric)
    trainer = build_trainer(cfg)
    trainer.train()
    dataset = trainer.dm.dataset

    def embed(path):
        found = feature(trainer, path)
        return found / found.norm() if metric == "cosine" else found

    means = []
    for t, task in enumerate(trainer.space.tasks):
        for label in range(len(task.classnames)):
            own = [embed(item.impath) for item in dataset.train_x if (item.task, item.label) == (t, label)]
            assert len(own) == 4
            means.append(sum(own) / 4)
    expected = []
    for item in dataset.test:
        x = embed(item.impath)
        if metric == "cosine":
            expected.append([100 * (x @ mean / mean.norm()).item() for mean in means])
        else:
            expected.append([-((x - mean) ** 2).sum().item() for mean in means])
    scale = trainer.clip.logit_scale.exp().item()
    expected = torch.tensor(expected)
    expected = expected * scale / 100 if metric == "cosine" else expected

    transform = build_transform(trainer.cfg, is_train=False)
    images = torch.stack([transform(read_image(item.impath)) for item in dataset.test])
    found = trainer.model_inference(images)
    assert found.shape == (18, 10)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)

    right = {t: [] for t in range(3)}
    for row, item in zip(expected, dataset.test, strict=True):
        right[item.task].append(row[trainer.space.columns(item.task)].argmax().item() == item.label)
    for t, task in enumerate(trainer.evaluator.report["tasks"]):
        assert task["overall_acc"] == pytest.approx(100 * sum(right[t]) / len(right[t]))
