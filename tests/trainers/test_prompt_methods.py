"""MaPLe, IVLP, PromptSRC, TCP, MMRL, MMRL++, DePT and CoPrompt: sizes, aggregation, which classes are known, settings.

Their numbers are compared with the published code in tests/parity.
"""

import json
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP as OpenClip

from clip.building import finish
from clip.text_tower import TextTower
from dassl.config import ConfigError, get_cfg_default, load
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.engine.build import method_of
from dassl.utils import UserError
from tests.models import tiny_vit
from tests.suite import TASKS, config
from trainers.prompts import prompt_parts
from trainers.promptsrc import gaussian_weights

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def build(tmp_path, weights):
    def made(name, *opts, folder="one", **settings):
        pairs = [part for key, value in settings.items() for part in (key.replace("__", "."), value)]
        return build_trainer(config(tmp_path / folder, name, weights, 32, *pairs, *opts))

    return made


# ---- sizes


@cache
def vit_b16():
    """A CLIP with the widths and layers of ViT-B/16, whose layers share one block per tower."""
    vision = {"layers": 1, "width": 768, "patch_size": 16, "head_width": 64, "image_size": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 1}
    inner = OpenClip(embed_dim=512, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    for tower in (inner.visual.transformer, inner.transformer):
        tower.resblocks = torch.nn.ModuleList([tower.resblocks[0]] * 12)
    model = finish(inner, "fp32")
    model.name = "wide"
    return model


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        ("MaPLe", {}, 3_555_072),
        ("MaPLe", {"MAPLE.PROMPT_DEPTH": 3}, 1_185_024),
        ("IVLP", {}, 30_720),
        ("IVLP", {"IVLP.N_CTX_TEXT": 4, "IVLP.PROMPT_DEPTH_VISION": 0}, 24_576),
        ("IVLP", {"IVLP.N_CTX_VISION": 8, "IVLP.PROMPT_DEPTH_TEXT": 0}, 73_728),
        ("PromptSRC", {}, 46_080),
        ("PromptSRC", {"PROMPTSRC.PROMPT_DEPTH_TEXT": 3, "PROMPTSRC.PROMPT_DEPTH_VISION": 3}, 15_360),
        ("MMRL", {}, 4_992_256),
        ("MMRL", {"MMRL.REP_DIM": 2048}, 18_762_496),
        ("MMRLpp", {}, 813_312),
        ("TCP", {}, 331_904),
        ("DePT", {}, 10_240 + 513 * 3),
        ("CoPrompt", {"COPROMPT.N_CTX": 2, "COPROMPT.PROMPT_DEPTH": 9}, 3_817_216),
        ("CoPrompt", {"COPROMPT.N_CTX": 4, "COPROMPT.PROMPT_DEPTH": 12}, 5_014_528),
    ],
)
def test_learnable_parameters_are_the_published_ones(name, settings, count):
    cfg = get_cfg_default()
    pairs = [part for key, value in settings.items() for part in (f"TRAINER.{key}", value)]
    load(cfg, [], ["TRAINER.NAME", name, *pairs])
    space = TaskSpace.single(("cat", "dog", "hen"), "animals")
    learner = method_of(cfg).build_learner(cfg, TextTower(vit_b16()), space)
    assert sum(parameter.numel() for parameter in learner.parameters()) == count


# ---- PromptSRC


def test_gaussian_weights_of_distant_epochs_do_not_vanish():
    found = gaussian_weights(5, mean=400, std=1)
    assert found.sum() == pytest.approx(1) and found.argmax() == 4


def test_a_resumed_run_ends_with_the_same_aggregate(build, tmp_path):
    settings = {"OPTIM__MAX_EPOCH": 4, "TRAIN__CHECKPOINT_FREQ": 1, "TRAIN__CHECKPOINT_KEEP": 0}
    settings |= {"TRAINER__PROMPTSRC__GPA_MEAN": 2.0, "TEST__NO_TEST": True}
    build("PromptSRC", folder="whole", **settings).train()
    cut = build("PromptSRC", folder="cut", **settings)
    run, epochs = cut.run_epoch, []

    def run_two():
        if len(epochs) == 2:
            raise KeyboardInterrupt
        epochs.append(cut.epoch)
        run()

    cut.run_epoch = run_two
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    cut.close()
    build("PromptSRC", folder="cut", **settings).train()
    read = [
        torch.load(tmp_path / folder / "run/prompt_learner/model.pth.tar-4", weights_only=True)["state_dict"]
        for folder in ("whole", "cut")
    ]
    assert read[0].keys() == read[1].keys()
    learned = [key for key in read[0] if f"{key}_sum" in read[0]]
    assert learned and all(torch.equal(read[0][key], read[0][f"{key}_sum"]) for key in learned)
    different = [key for key in learned if not torch.equal(read[0][key], read[1][key])]
    assert not different


# ---- MMRL


def test_a_test_between_epochs_changes_nothing(build):
    """The published code keeps the text features of its first test."""
    settings = {"OPTIM__MAX_EPOCH": 3}
    plain, tested = build("MMRL", folder="plain", **settings), build("MMRL", folder="tested", **settings)
    after = tested.after_epoch
    tested.after_epoch = lambda: (after(), tested.validate())
    plain.train()
    tested.train()
    for one, other in zip(plain.model.parameters(), tested.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(plain.model_inference(IMAGES), tested.model_inference(IMAGES))


@pytest.mark.parametrize("name", ["MMRL", "MMRLpp", "DePT"])
def test_only_classes_of_training_are_predicted_by_both_parts(name, build, tmp_path):
    """Base classes, new classes, both together, and another data set."""
    one = ("DATASET.SUBSAMPLE_TASKS", TASKS[0].key)
    base = build(name, *one, "DATASET.SUBSAMPLE_CLASSES", "base")
    base.train()

    def logits(trainer):
        found = trainer.encode_images(IMAGES)
        image = found if name == "DePT" else found[0]
        text, model = F.normalize(trainer.text_features(), dim=-1), trainer.model
        z = model.scale * F.normalize(image, dim=-1) @ text.t()
        if name == "DePT":
            x = model.film_image.scale * image + model.film_image.bias
            return z, 0.3 * z + 0.7 * (x @ model.head.weight.t() + model.head.bias)
        return z, 0.7 * z + 0.3 * model.scale * F.normalize(found[1], dim=-1) @ text.t()

    assert torch.allclose(base.model_inference(IMAGES), logits(base)[1], atol=1e-4)
    tests = {classes: (*one, "DATASET.SUBSAMPLE_CLASSES", classes) for classes in ("base", "new", "all")}
    tests["other"] = ("DATASET.SUBSAMPLE_TASKS", TASKS[2].key)
    for kind, opts in tests.items():
        tested = build(name, *opts, folder=kind)
        tested.load_model(str(tmp_path / "one/run"))
        known = tested.model.known
        assert (bool(known.any()), bool(known.all())) == (kind in ("base", "all"), kind == "base")
        z, fused = logits(tested)
        assert torch.allclose(tested.model_inference(IMAGES), torch.where(known, fused, z), atol=1e-4)


def test_a_shifted_test_set_counts_as_another_data_set(tmp_path):
    names = ("cat", "dog")
    space = TaskSpace((Task("ImageNetV2", "animals", names, task_of="ImageNet"), Task("ImageNet", "animals", names)))
    cfg = config(tmp_path, "MMRL", "", 32)
    learner = method_of(cfg).build_learner(cfg, TextTower(tiny_vit()), space)
    learner.known_data = torch.tensor([False, False, True, True])  # as for a model trained on ImageNet
    text, columns = torch.randn(4, 48), torch.arange(4)
    image = torch.randn(1, 48), torch.randn(1, 48)
    z, z_r = learner.both(image, text)
    fused = 0.7 * z + 0.3 * z_r
    assert torch.equal(learner.logits(image, text, columns), torch.cat([z[:, :2], fused[:, 2:]], 1))


# ---- TCP


def test_the_context_replaces_the_first_words_of_a_template():
    assert prompt_parts("X X X X {}, a type of pet.", 4) == ("", ", a type of pet.")
    assert prompt_parts("a photo of a person doing {}.", 4) == ("person doing", ".")
    assert prompt_parts("{} texture.", 4) == ("", " texture.")


def test_templates_of_a_file_decide_both_sentences(build, tmp_path):
    file = tmp_path / "templates.json"
    file.write_text(json.dumps({"shades": ["X X X X {} colour, seen", "a wall in {}."]}))
    own, plain = build("TCP", TRAINER__TCP__TEMPLATES=str(file)), build("TCP", folder="plain")
    text = TextTower(own.clip)
    expected = F.normalize(text.encode([f"a wall in {c.replace('_', ' ')}." for c in TASKS[0].classnames]), dim=-1)
    columns = torch.arange(5)
    assert torch.allclose(own.model.hand_features()[columns], expected, atol=1e-6)
    assert int(own.model.prompt_learner.names.length[0]) == int(plain.model.prompt_learner.names.length[0]) + 2
    assert torch.equal(own.model.hand_features()[torch.arange(6, 10)], plain.model.hand_features()[torch.arange(6, 10)])


# ---- DePT


@pytest.mark.parametrize("base", ["LinearProbe", "ZeroshotCLIP", "DePT", "NoSuchMethod"])
def test_methods_beside_which_there_is_no_classifier(base, build):
    with pytest.raises(UserError, match="BASE"):
        build("DePT", TRAINER__DEPT__BASE=base)


def test_a_method_with_several_features_per_image_is_refused(build):
    for base in ("PLOT", "MMRL"):
        more = ("TRAINER.MMRL.REP_LAYERS", (2, 3), "TRAINER.MMRL.REP_DIM", 16)
        with pytest.raises(UserError, match="one feature per image"):
            build("DePT", *more, TRAINER__DEPT__BASE=base)


def test_rows_of_the_classifier_follow_their_classes(build, tmp_path):
    first = build("DePT", TRAINER__DEPT__BASE="MaPLe", TRAINER__MAPLE__PROMPT_DEPTH=2)
    first.train()
    expected = first.model_inference(IMAGES)
    some = build(
        "DePT", "DATASET.SUBSAMPLE_TASKS", "marks", folder="some", TRAINER__DEPT__BASE="MaPLe",
        TRAINER__MAPLE__PROMPT_DEPTH=2,
    )  # fmt: skip
    some.load_model(str(tmp_path / "one/run"))
    assert torch.allclose(some.model_inference(IMAGES), expected[:, first.space.columns(2)], atol=1e-4)


def test_settings_of_the_base_method_count(build):
    from dassl.engine.build import ignored_settings

    cfg = get_cfg_default()
    load(cfg, [], ["TRAINER.NAME", "DePT", "TRAINER.DEPT.BASE", "KgCoOp"])
    ignored = ignored_settings(cfg)
    assert "TRAINER.COOP." in ignored and not {"TRAINER.KGCOOP.", "TRAINER.DEPT."} & set(ignored)


# ---- CoPrompt, MaPLe and IVLP


@pytest.mark.parametrize(("key", "then", "now"), [("LINEAR_WEIGHT", 0.7, 0.2), ("BASE", "CoOp", "MTCoOpHard")])
def test_a_classifier_trained_with_other_settings_is_refused(key, then, now, build):
    settings = {"OPTIM__MAX_EPOCH": 1, "TEST__NO_TEST": True}
    first = build("DePT", folder="one", **settings)
    first.train()
    with pytest.raises(UserError, match=f"trained with TRAINER.DEPT.{key} {then}, and this run has {now}"):
        build("DePT", folder="two", **settings, **{f"TRAINER__DEPT__{key}": now}).load_model(first.output_dir)


def test_sentences_of_a_file_are_checked(build, tmp_path):
    file = tmp_path / "sentences.json"
    names = [name for task in TASKS for name in task.classnames]

    def built(sentences):
        file.write_text(json.dumps(sentences))
        return build("CoPrompt", TRAINER__COPROMPT__SENTENCES=str(file))

    right = {name.replace("_", " "): [f"a {name} thing.", f"something {name}."] for name in names}
    assert [len(own) for own in built(right).model.targets] == [2, 2, 2]
    with pytest.raises(UserError, match="no sentences for 'ring' of marks"):
        built({name: value for name, value in right.items() if name != "ring"})
    with pytest.raises(UserError, match="marks: 'ring' has 1 sentences, another class 2"):
        built({**right, "ring": ["one"]})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("MaPLe", {"MAPLE.PROMPT_DEPTH": 4}, "this CLIP has 3 layers"),
        ("MaPLe", {"MAPLE.PROMPT_DEPTH": 0}, "nothing would be learned"),
        ("CoPrompt", {"COPROMPT.PROMPT_DEPTH": 0}, "nothing would be learned"),
        ("CoPrompt", {"COPROMPT.SENTENCES": "nowhere.json"}, "SENTENCES: the file nowhere.json does not exist"),
        ("MaPLe", {"MAPLE.N_CTX": 5}, "has 4 tokens for 5 text prompts"),
        ("MaPLe", {"MAPLE.TSC": True, "MAPLE.SHARING": "soft"}, "exclude each other"),
        ("MaPLe", {"MAPLE.PG_TYPE": "mlp"}, "needs TRAINER.MAPLE.SHARING soft"),
        ("IVLP", {"IVLP.PROMPT_DEPTH_TEXT": 0, "IVLP.PROMPT_DEPTH_VISION": 0}, "nothing would be learned"),
        ("IVLP", {"IVLP.N_CTX_VISION": 0}, "needs TRAINER.IVLP.PROMPT_DEPTH_VISION 0, found -1"),
        ("TCP", {"TCP.INSERT_LAYER": 3}, "layers 0 to 2"),
        ("TCP", {"TCP.TEMPLATES": "nowhere.yaml"}, "nowhere.yaml does not exist"),
        ("MMRL", {"MMRL.REP_LAYERS": (3, 2)}, "rising order"),
        ("MMRL", {"MMRL.REP_LAYERS": (2, 4)}, "has 3 layers"),
    ],
)
def test_wrong_settings_are_reported(name, settings, message, build):
    pairs = [part for key, value in settings.items() for part in (f"TRAINER.{key}", value)]
    with pytest.raises((ConfigError, UserError), match=message):
        build(name, *pairs)


def test_prompts_are_rounded_to_half_only_on_request(build):
    found = {}
    for legacy in (False, True):
        trainer = build("IVLP", folder=str(legacy), TRAINER__IVLP__LEGACY_HALF_PROMPTS=legacy)
        found[legacy] = trainer.model.prompts()
    for exact, rounded in zip(found[False], found[True], strict=True):
        assert torch.equal(exact[:, 1:].half().float(), rounded[:, 1:]) and not torch.equal(exact, rounded)
    assert torch.equal(found[False][0][:, :1], found[True][0][:, :1])  # the first text prompts are not


def test_image_only_prompts_keep_the_features_of_hand_made_prompts(build):
    trainer = build("IVLP", "TRAINER.IVLP.PROMPT_DEPTH_TEXT", 0)
    assert torch.equal(trainer.text_features(), trainer.model.hand_features())
    text_only = build("IVLP", "TRAINER.IVLP.PROMPT_DEPTH_VISION", 0, folder="text")
    assert text_only.frozen and not trainer.frozen


@pytest.mark.parametrize("transforms", [("random_resized_crop", "normalize"), ("center_crop", "normalize")])
def test_a_bank_of_tokens_gives_the_same_training(transforms, build):
    """The layers before the first tokens are those of the frozen tower."""
    opts = ("INPUT.TRANSFORMS", transforms)
    live, kept = (build("MMRL", *opts, folder=str(bank), DATALOADER__FEATURE_BANK=bank) for bank in (False, True))
    for trainer in (live, kept):
        trainer.train()
    assert (live.start, kept.start) == (0, 1)
    for one, other in zip(live.model.parameters(), kept.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_method_that_changes_the_first_layer_has_no_bank(build):
    with pytest.raises(ConfigError, match="FEATURE_BANK"):
        build("MaPLe", DATALOADER__FEATURE_BANK=True)
