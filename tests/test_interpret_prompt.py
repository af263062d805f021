import json

import numpy as np
import pytest
import torch

import interpret_prompt
from clip.clip import tokenizer
from dassl.engine import TRAINER_REGISTRY, build_trainer
from interpret_prompt import Vocabulary, interpret
from tests.models import embedded, state_dict, tiny_vit
from tests.suite import config

word = tokenizer().word
SOFT, HARD = "TRAINER.MTCOOP.", "TRAINER.MTCOOPH."
CLASSES = [f"shades: {name}" for name in ("red", "dark_green")] + ["one: only", "marks: cross", "marks: ring"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(state_dict(tiny_vit()), path)
    return path


@pytest.fixture
def build(weights, tmp_path):
    return lambda trainer, *settings: build_trainer(config(tmp_path, trainer, weights, 32, *settings))


# ---- words ----


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_nearest_rows(metric):
    rng = np.random.default_rng(0)
    table, context = rng.normal(size=(200, 6)), rng.normal(size=(3, 6))
    table[[50, 120]] = table[7]  # words with one embedding count as one
    table[7] = table[50] = table[120] = context[1] + 1e-3
    found = Vocabulary(torch.tensor(table), word).nearest(torch.tensor(context), 4, metric)
    for vector, words in zip(context, found, strict=True):
        if metric == "euclidean":
            distance = [np.sqrt(((vector - row) ** 2).sum()) for row in table]
        else:
            distance = [1 - vector @ row / np.linalg.norm(vector) / np.linalg.norm(row) for row in table]
        order = [i for i in np.argsort(distance, kind="stable") if i not in (50, 120)][:4]
        assert [w["word"] for w in words] == [word(int(i)) for i in order]
        assert [w["distance"] for w in words] == pytest.approx([distance[i] for i in order], abs=2e-6)
        assert [w["others"] for w in words] == [2 if i == 7 else 0 for i in order]


def test_tokens_as_words():
    bpe = tokenizer()
    assert word(bpe.encode("photo")[0]) == "photo"
    assert word(bpe.encoder["pho"]) == "pho-"
    assert word(bpe.encode("café")[-1]) == "café"
    assert word(bpe.encoder["<|endoftext|>"]) == "<|endoftext|>"


def test_words_the_embedded_model_does_not_know_count_as_one():
    table = embedded().token_embedding.weight
    vocabulary = Vocabulary(table, word)
    assert len(vocabulary.table) < len(table) == vocabulary.count.sum() == 49408


def test_words_that_are_the_context(build):
    trainer = build("MTCoOpHard", HARD + "CTX_INIT", "a photo of")
    [context] = interpret(trainer, 2)
    assert context["name"] == "context"
    assert [words[0] for words in context["tokens"]] == [
        {"word": name, "distance": 0.0, "others": 0} for name in ("a", "photo", "of")
    ]
    assert all(words[1]["distance"] > 0 for words in context["tokens"])


# ---- whose contexts ----


def names(trainer, classes=2):
    return [context["name"] for context in interpret(trainer, 1, classes=classes)]


def of(owners, kind="context"):
    return [f"{kind} of {owner}" for owner in owners]


TASKS = ["shades", "one", "marks"]
WHOSE = {
    "NATA": ("MTCoOp", (), [*of(TASKS, "generated context"), "task prompt: context"]),
    "NATS": ("MTCoOp", ("TASK_CSC", True), [*of(TASKS, "generated context"), *of(TASKS, "task prompt: context")]),
    "rand": ("MTCoOp", ("TASK_FEATURE", "rand"), of(TASKS, "generated context")),
    "CATA": (
        "MTCoOp",
        ("CSC", True),
        [*of(CLASSES, "generated context"), "task prompt: context", "class prompt: context"],
    ),
    "CSTA": (
        "MTCoOp",
        ("CSC", True, "CLASS_CSC", True),
        [*of(CLASSES, "generated context"), "task prompt: context", *of(CLASSES, "class prompt: context")],
    ),
    "CoOp-MT": ("MTCoOpHard", (), ["context"]),
    "CoOp-CA": ("MTCoOpHard", ("TSC", True), of(TASKS)),
    "CoOp-CS": ("MTCoOpHard", ("CSC", True), of(CLASSES)),
    "KgCoOp": ("KgCoOp", ("TSC", True), of(TASKS)),
    "CoOp": ("CoOp", ("CSC", True), of(CLASSES)),
    "CoCoOp": ("CoCoOp", ("TSC", False), ["context"]),
    "ProGrad": ("ProGrad", ("TSC", True), of(TASKS)),
    "UPT": ("UPT", (), ["context"]),
    "UPT, one per task": ("UPT", ("TSC", True, "MODE", "joint"), of(TASKS)),
    "MTUPT": ("MTUPT", ("TASK_N_CTX", 2), [*of(TASKS, "generated context"), "task prompt: context"]),
    "PLOT": ("PLOT", ("TSC", True, "N", 2), [f"context of {task}, prompt {i}" for task in TASKS for i in (1, 2)]),
}


@pytest.mark.parametrize("case", WHOSE)
def test_every_context_is_named(case, build):
    trainer, settings, expected = WHOSE[case]
    section = TRAINER_REGISTRY.get(trainer).section
    pairs = [f"TRAINER.{section}.{part}" if i % 2 == 0 else part for i, part in enumerate(settings)]
    assert names(build(trainer, *pairs)) == expected


def test_all_classes(build):
    trainer = build("MTCoOpHard", HARD + "CSC", True)
    assert len(names(trainer, classes=0)) == 10


@pytest.mark.parametrize("csc", [False, True])
def test_generated_contexts_are_those_of_the_prompts(csc, build):
    trainer = build("MTCoOp", SOFT + "CSC", csc)
    filled = []
    fill = trainer.model.names.fill
    trainer.model.names.fill = lambda context, group, select: (
        filled.append(context[group]) or fill(context, group, select)
    )
    with torch.no_grad():
        trainer.model(trainer.all_columns)
    [contexts] = filled  # (N, L, D)
    vocabulary = Vocabulary(trainer.clip.token_embedding.weight, word)
    found = {context["name"]: context["tokens"] for context in interpret(trainer, 1)}
    for column, name in ((0, "shades"), (6, "marks")):
        label = name if not csc else f"{name}: {trainer.space.classnames[column]}"
        words = found[f"generated context of {label}"]
        expected = vocabulary.nearest(contexts[column], 1, "euclidean")
        assert [row[0]["distance"] for row in words] == pytest.approx(
            [row[0]["distance"] for row in expected], rel=1e-4
        )


# ---- the command ----


def test_a_run_as_text_and_as_json(build, tmp_path, capsys):
    build("MTCoOpHard", HARD + "TSC", True, HARD + "N_CTX", 3, "OPTIM.MAX_EPOCH", 1).train()
    capsys.readouterr()
    run = str(tmp_path / "run")
    (tmp_path / "data").rename(tmp_path / "elsewhere")  # the images are not needed
    assert interpret_prompt.main([run, "--topk", "2", "--json", "--metric", "cosine"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trainer"] == "MTCoOpHard" and found["epoch"] == 1 and found["metric"] == "cosine"
    assert [len(c["tokens"]) for c in found["contexts"]] == [3, 3, 3]
    assert all(len(words) == 2 for c in found["contexts"] for words in c["tokens"])
    assert interpret_prompt.main([run]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "CoOp-CA, epoch 1; nearest words, euclidean distance"
    assert lines[2] == "context of shades" and lines[3].startswith("   1  ") and len(lines) == 1 + 3 * 5
    checkpoint = f"{run}/prompt_learner/model.pth.tar-1"  # CoOp's call: a checkpoint, the number of words
    assert interpret_prompt.main([checkpoint, "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["epoch"] == 1 and all(len(words) == 3 for c in found["contexts"] for words in c["tokens"])
    assert "of epoch 1, --load-epoch is 2" in refused(capsys, checkpoint, "--load-epoch", "2")


@pytest.mark.parametrize("wrong", [("--topk", "0"), ("--topk", "two"), ("--classes", "-2")])
def test_numbers_that_cannot_be(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        interpret_prompt.main(["run", *wrong])
    least = {"--topk": 1, "--classes": 0}[wrong[0]]
    assert stop.value.code == 2
    assert f"{wrong[1]!r}: expected a whole number of at least {least}" in capsys.readouterr().err


def refused(capsys, *arguments):
    assert interpret_prompt.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return err


def test_runs_without_contexts(build, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert "no such folder" in refused(capsys, run)
    (tmp_path / "run").mkdir()
    assert "is not the folder of a run" in refused(capsys, run)
    trainer = build("MTCoOpHard", "OPTIM.MAX_EPOCH", 1, "TRAIN.CHECKPOINT_FREQ", -1)
    trainer.before_train()
    capsys.readouterr()
    assert "contains no checkpoint" in refused(capsys, run)
    build("ZeroshotCLIP").train()
    capsys.readouterr()
    assert "ZeroshotCLIP, which learns nothing" in refused(capsys, run)
    build("LinearProbe", "OUTPUT_DIR", str(tmp_path / "probe")).train()
    capsys.readouterr()
    assert "LinearProbe learns no context" in refused(capsys, str(tmp_path / "probe"))
