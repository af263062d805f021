"""Test attention weights of prompts against open_clip's layers."""

import pytest
import torch
from PIL import Image

from analysis import attention
from dassl.data.transforms import build_transform
from tests.analysis.figures import refused, rows_of
from tests.plain import image_features

RUNS = {
    "VPT-shallow": (-1, "VPT", "TRAINER.VPT.DEEP", False),
    "VPT-deep": (1, "VPT"),
    "UPT": (-1, "UPT"),
    "MTUPT": (0, "MTUPT"),
}


@pytest.fixture
def pictures(run):
    """Paths of two test images of the task "marks"."""
    trainer, _ = run("VPT")
    return [item.impath for item in trainer.dm.dataset.test if item.task == 2][:2]


@pytest.mark.parametrize("name", RUNS)
def test_weights_agree_with_the_plain_layers(run, tmp_path, pictures, name, capsys):
    layer, *method = RUNS[name]
    trainer, folder = run(*method)
    out = tmp_path / "seen"
    task = () if not trainer.by_task else ("--task", "marks")
    assert attention.main([folder, *pictures, *task, "--layer", str(layer), "--prompts", "1", "--out", str(out)]) == 0
    tokens = trainer.model.additions().image.tokens.values.detach()  # (G, I, K, W)
    tokens = tokens[2 if task else 0].expand(2, -1, -1, -1)
    transform = build_transform(trainer.cfg, is_train=False)
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in pictures])
    with torch.no_grad():
        expected = image_features(trainer.clip, images, tokens, weights_of=layer % 3).mean(1)  # (B, S, S)
    K = tokens.shape[2]
    rows = rows_of(out)
    assert len(rows) == 2 * (1 + K) * (1 + K + 16) and {row["layer"] for row in rows} == {str(layer % 3)}
    found = torch.tensor([float(row["weight"]) for row in rows]).view(2, 1 + K, -1)
    assert torch.allclose(found, expected[:, : 1 + K], atol=1e-5)
    assert torch.allclose(found.sum(-1), torch.ones(2, 1 + K), atol=1e-5)
    first = rows[: 1 + K + 16]
    assert [row["key"] for row in first] == ["[CLS]", *(f"prompt {k + 1}" for k in range(K)), *["patch"] * 16]
    places = [(int(row["patch_row"]), int(row["patch_column"])) for row in first[1 + K :]]
    assert places == [(i, j) for i in range(4) for j in range(4)]
    on = 100 * expected[0, 0, 1 + K :].sum()
    assert f"{pictures[0]}: on patches, [CLS] {on:.1f} %" in capsys.readouterr().out


def test_unsupported_runs_and_images_are_refused(run, tmp_path, pictures, capsys):
    _, vpt = run("VPT")
    _, soft = run("MTUPT")
    _, coop = run("MTCoOp")
    _, resnet = run("MTCoOp", on="rn")
    out = ("--out", tmp_path / "seen")
    for text, arguments in {
        "SoftCPT-NATA on ViT-B/16 has no prompts in the image tower: expected one of VPT, UPT or MTUPT": (
            coop,
            *pictures,
        ),
        "SoftCPT-NATA on RN50 has no prompts in the image tower": (resnet, *pictures),
        "choose one with --task, of shades, one, marks": (soft, *pictures),
        "the run has no such task": (soft, *pictures, "--task", "birds"),
        "layers 0 to 2": (vpt, *pictures, "--layer", "3"),
        "41 images: a figure has room for 40": (vpt, *41 * pictures[:1]),
        "no such image": (vpt, tmp_path / "nothing.png"),
        "is not the folder of a run": (tmp_path, *pictures),
        "no checkpoint": (vpt, *pictures, "--load-epoch", "7"),
    }.items():
        assert text.lower() in refused(capsys, attention.main, *arguments, *out).lower()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert str(broken) in refused(capsys, attention.main, vpt, broken, *out)
    assert not (tmp_path / "seen.png").exists()
