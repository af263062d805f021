"""All benchmarks run at a tiny size and report consistent numbers. Times are not asserted."""

import json
import time
from collections import Counter

import pytest
import torch

from benchmarks import (
    cache_search,
    classify,
    cocoop,
    evaluate,
    growth,
    low_rank,
    measuring,
    methods,
    text_tower,
    train_step,
    visual_prompts,
)
from benchmarks.common import NAME_TOKENS, SUITES, PlainTower, reduced, suite
from clip import clip
from clip.text_tower import TextTower
from dassl.utils import UserError
from tests.models import relative, tiny_vit

TINY = ["--backbone", "tiny", "--repeat", "1", "--json"]
SMALL = [*TINY, "--scale", "0.02", "--n-ctx", "4"]


def run(program, argv, capsys) -> dict:
    """The JSON object that the program prints, its only output."""
    program.main(argv)
    result = json.loads(capsys.readouterr().out)
    assert result["program"] == program.__name__.split(".")[1]
    assert result["threads"] >= 1 and result["repeat"] == 1 and result["device"] in ("cpu", "cuda")
    assert all(difference < 1e-3 for difference in result.get("difference", {}).values())
    return result


def positive(pair: dict) -> bool:
    return set(pair) == {"plain", "ours"} and min(pair.values()) > 0


def test_suites_have_the_published_sizes_and_names_of_the_stated_lengths():
    assert {name: len(sizes) for name, sizes in SUITES.items()} == {"plant6": 6, "general10": 10, "fashion20": 20}
    assert {name: sum(sizes) for name, sizes in SUITES.items()} == {"plant6": 116, "general10": 1191, "fashion20": 78}
    space = suite("general10")
    assert space.sizes == list(SUITES["general10"]) and space == suite("general10")
    lengths = Counter(len(clip.tokenizer().encode(name)) for name in space.classnames)
    assert set(lengths) == set(NAME_TOKENS)
    assert all(abs(lengths[n] / space.num_classes - share) < 0.04 for n, share in NAME_TOKENS.items())
    assert suite("plant6", 0.1).sizes == [4, 1, 1, 2, 1, 4]
    assert reduced(space, 200).num_tasks == 10 and 180 < reduced(space, 200).num_classes <= 200
    assert reduced(space, 5000) is space


def test_the_plain_tower_is_the_models_own():
    texts = ["a photo of a cat.", "a photo of a very old house by the sea.", "x"]
    model = tiny_vit()
    expected = model.encode_text(clip.tokenize(texts))
    assert relative(PlainTower(model)(TextTower(model).texts(texts)), expected) < 1e-5


@pytest.mark.parametrize("sharing", ["all", "task", "class"])
def test_text_tower(sharing, capsys):
    found = run(text_tower, [*SMALL, "--no-memory", "--sharing", sharing], capsys)
    assert found["classes"] == found["plain_classes"] == 6
    assert found["tokens"]["plain"] == 6 * 77 and found["tokens"]["ours"] < 6 * 12
    assert positive(found["seconds"]) and positive(found["ms_per_class"]) and found["speedup_per_class"] > 0
    assert found["share"] == pytest.approx(found["gflops_ours"] / found["gflops_products"])
    assert set(found["difference"]) == {"features", "gradients"} and "memory_mib" not in found


def test_growth(capsys):
    found = run(growth, SMALL, capsys)["rows"]
    assert [row["varied"] for row in found] == ["classes"] * 4 + ["tasks"] * 2 + ["context length"] * 4
    classes, tasks, length = (
        [row for row in found if row["varied"] == what] for what in ("classes", "tasks", "context length")
    )
    # each class adds its own tokens, each task its context
    assert [row["tasks"] for row in tasks] == [1, 5]
    assert tasks[1]["tokens"] - tasks[0]["tokens"] == 4 * (1 + 4)
    assert [row["tokens"] - length[0]["tokens"] for row in length] == [6 * (L - 4) for L in (4, 8, 16, 32)]
    assert classes[-1]["tokens"] >= classes[0]["tokens"] and all(row["seconds"] > 0 for row in found)


def test_text_tower_with_plain_on_a_part_of_the_classes(capsys):
    argv = ["--suite", "general10", "--scale", "0.02", "--backbone", "tiny", "--repeat", "1", "--no-memory"]
    text_tower.main([*argv, "--plain-classes", "12"])
    out = capsys.readouterr().out
    assert "plain ran on 12 of the 25 classes: compare times per class" in out and "ms per class" in out


@pytest.mark.parametrize("program", [text_tower, train_step, cocoop, visual_prompts, low_rank])
def test_memory_only(program, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "peak_over_base", lambda run, device: 2**20 * (run() is not None))
    found = run(program, [*(SMALL if program in (text_tower, train_step) else TINY), "--memory-only"], capsys)
    assert found["memory_mib"] == {"plain": 1.0, "ours": 1.0} and "seconds" not in found


def test_peak_over_base_counts_what_was_freed_again_and_not_what_was_before():
    before = torch.ones(2**24)
    del before
    peak = measuring.peak_over_base(lambda: torch.ones(2**23).sum(), torch.device("cpu"))
    assert 2**25 * 0.9 < peak < 2**25 * 1.5


def test_train_step(capsys):
    found = run(train_step, [*SMALL, "--batch", "3", "--no-memory"], capsys)
    assert found["tasks_in_batch"] <= 3 and found["classes_in_step"] <= found["classes"] == 6
    assert positive(found["seconds"]) and found["image_seconds"] > 0 and found["speedup"] > 0
    assert set(found["difference"]) == {"loss", "gradients"}
    bank = run(train_step, [*SMALL, "--batch", "3", "--no-memory", "--bank", "--plain-classes", "6"], capsys)
    assert bank["bank"] and bank["image_seconds"] == 0


def test_evaluate_encodes_the_classes_once(capsys):
    found = run(evaluate, [*SMALL, "--batches", "3", "--batch", "4"], capsys)
    assert found["text_passes"] == {"plain": 3, "ours": 1}
    assert positive(found["seconds"]) and set(found["difference"]) == {"logits"}


def test_cocoop(capsys):
    argv = [*TINY, "--images", "2", "--classes", "3", "--no-memory"]
    found = run(cocoop, argv, capsys)
    assert found["tokens"]["plain"] == 2 * 3 * 77 and found["tokens"]["ours"] < 2 * 5 + 2 * 3 * 9
    assert found["images"] == found["plain_images"] == 2 and positive(found["ms_per_image"])
    assert run(cocoop, [*argv, "--plain-images", "1"], capsys)["plain_images"] == 1


@pytest.mark.parametrize(
    "more", [[], ["--layers", "1", "--first", "2", "--bank"], ["--checkpoint", "--plain-images", "2"]]
)
def test_visual_prompts(more, capsys):
    found = run(visual_prompts, [*TINY, "--images", "3", "--tasks", "2", "--no-memory", *more], capsys)
    assert (found["layers"], found["tokens_per_image"]) == (1 if "--layers" in more else 6, 1 + 4 + 64)
    assert positive(found["ms_per_image"]) and found["plain_images"] == (2 if "--plain-images" in more else 3)
    assert set(found["difference"]) == {"features", "gradients"}


def test_visual_prompts_of_each_method(capsys, monkeypatch):
    monkeypatch.setattr(measuring, "peak_over_base", lambda run, device: 2**20)
    found = run(visual_prompts, [*TINY, "--images", "2", "--tasks", "1", "--methods"], capsys)["methods"]
    assert found.keys() == visual_prompts.METHODS.keys() >= {"MaPLe", "IVLP", "PromptSRC", "CoPrompt", "MMRL"}
    for one in found.values():
        assert positive(one["ms_per_image"]) and one["memory_mib_per_image"] == {"plain": 0.5, "ours": 0.5}
        assert max(one["difference"].values()) < 1e-3


@pytest.mark.parametrize("more", [["--first", "2"], ["--dropout", "0.25", "--checkpoint", "--plain-images", "2"]])
def test_low_rank(more, capsys):
    found = run(low_rank, [*TINY, "--images", "3", "--no-memory", *more], capsys)
    assert positive(found["ms_per_image"]) and found["plain_images"] == (2 if "--plain-images" in more else 3)
    assert found["tokens_per_image"] == 65
    assert set(found.get("difference", ())) == (set() if "--dropout" in more else {"features", "gradients"})
    for flag, message in ((["--first", "6"], "tiny has layers 0 to 5"), (["--dropout", "1"], "less than 1")):
        with pytest.raises(UserError, match=message):
            low_rank.main([*TINY, *flag])


def test_methods(capsys):
    found = run(methods, [*TINY, "--scale", "0.02", "--batch", "3", "--shots", "2"], capsys)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == list(methods.ALL) and found["classes"] == 6 and found["image_seconds"] > 0
    assert rows["CoOp-CA"]["relative"] == rows["CoOp-CA"]["live_relative"] == 1
    for name, row in rows.items():
        kinds = {key for key in ("fit", "relative", "live_relative") if key in row}
        one = {"LinearProbe": {"fit"}, "ProtoNet": {"fit"}} | dict.fromkeys(methods.PROMPTED, {"live_relative"})
        assert kinds == one.get(name, {"relative", "live_relative"}), name
        assert all(row[kind] > 0 for kind in kinds - {"fit"}) and row["trainer"] == methods.ALL[name].trainer


def test_a_step_of_a_method_is_that_of_its_trainer():
    clip_model, space = tiny_vit(), suite("plant6", 0.05)
    batch = methods.Batch(clip_model, space, 4, "cpu")
    assert relative(batch.parts[""], batch.encode()) < 1e-5 and batch.parts["local"].shape == (4, 16, 48)
    for name in ("SoftCPT-CATA", "PLOT", "UPT"):
        trainer = methods.build(methods.ALL[name], clip_model, space, "cpu")
        before = {key: value.clone() for key, value in trainer.model.named_parameters()}
        losses = [methods.stepping(trainer, batch)()["loss"] for _ in range(2)]
        assert losses[0] != losses[1] and all(
            not torch.equal(p, before[k]) for k, p in trainer.model.named_parameters()
        )
    softcpt = methods.build(methods.ALL["SoftCPT-CATS"], clip_model, space, "cpu").model
    assert softcpt.csc and softcpt.task_prompt_learner.ctx.shape == (6, 4, 64)
    probe = methods.build(methods.ALL["LinearProbe"], clip_model, space, "cpu")
    assert methods.fitting(probe, space, 2, time.perf_counter) > 0 and probe.model.weight.abs().sum() > 0


def test_methods_that_are_chosen_and_their_memory(monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(methods, "peaks", lambda sides, device: measured.extend(sides) or dict.fromkeys(sides, 7.0))
    chosen = ["--methods", "SoftCPT-NATA", "ProtoNet"]
    methods.main([*TINY[:-1], "--scale", "0.02", "--batch", "3", *chosen, "--memory", "--clock", "processor"])
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines()[4:7]] == ["ProtoNet", "CoOp-CA", "SoftCPT-NATA"]
    assert measured == ["CoOp-CA", "SoftCPT-NATA"] and "peak MiB" in out and "in all" in out
    assert "times of the processor" in out
    with pytest.raises(UserError, match="UPT puts prompts into a ViT's image tower, and RN50 has none; try ViT-B/16"):
        methods.main(["--backbone", "RN50", "--methods", "UPT"])


@pytest.mark.parametrize("program", [text_tower, train_step, methods])
@pytest.mark.parametrize("flag", [["--backbone", "RN5O"], ["--scale", "0"], ["--repeat", "0"], ["--suite", "plant"]])
def test_wrong_flags_are_refused(program, flag, capsys):
    with pytest.raises(SystemExit):
        program.main(flag)
    assert flag[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "flag"),
    [
        (train_step, ["--batch", "0"]),
        (train_step, ["--device", "nothing"]),
        (evaluate, ["--batches", "0"]),
        (cocoop, ["--images", "-1"]),
        (visual_prompts, ["--tasks", "0"]),
        (text_tower, ["--plain-classes", "0"]),
        (cache_search, ["--classes", "0"]),
        (text_tower, ["--backbone", "roberta-ViT-B-32"]),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_runs(program, flag, capsys):
    with pytest.raises(SystemExit):
        program.main(flag)
    assert f"{flag[0]}: " in capsys.readouterr().err.splitlines()[-1]


def test_layers_that_the_tower_does_not_have():
    with pytest.raises(UserError, match="tiny has layers 0 to 5"):
        visual_prompts.main([*TINY, "--first", "6"])
    with pytest.raises(UserError, match="--methods sets"):
        visual_prompts.main([*TINY, "--first", "1", "--methods"])


def test_the_search_of_a_cache_predicts_as_the_plain_loop(capsys):
    small = ["--classes", "7", "--shots", "2", "--views", "2", "--images", "30", "--width", "16"]
    cache_search.main([*small, "--ends", "30", "30", "--device", "cpu", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["keys"], result["pairs"], result["predictions"]) == (14, 4000, 60)
    assert result["different_predictions"] == 0 and min(result["seconds"].values()) > 0
    cache_search.show(result)
    assert "4,000 pairs on 30 images" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cache_search.main(["--plain-pairs", "201"])


def test_classify(capsys):
    found = run(classify, [*TINY, "--images", "5", "--batch", "2", "--side", "80"], capsys)
    assert positive(found["seconds"]) and found["speedup"] > 0 and set(found["difference"]) == {"probabilities"}
    assert found["images_per_second"]["ours"] == pytest.approx(5 / found["seconds"]["ours"])
