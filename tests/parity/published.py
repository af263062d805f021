"""Cases of published single-task methods: the trainer and settings of each, and the published names of its parameters.

A table of names is a function of the case: it returns {name of our parameter: published name, or list of published
names whose tensors are stacked}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from clip.model import CLIP
from trainers.losses import cosine_logits


@dataclass(frozen=True)
class Method:
    """How a case is run.

    Attributes:
        trainer: registered name.
        settings: {key of the case: name in the section of the trainer, or <section>.<name>}.
        fixed: settings that the published code does not name.
        names: see the module; None: ours are the published ones.
        more: {name of an array of the case: function from the trainer and the images to our value}.
    """

    trainer: str
    settings: dict[str, str]
    fixed: dict[str, object] = field(default_factory=dict)
    names: Callable[[dict], dict] | None = None
    more: dict[str, Callable] = field(default_factory=dict)


LEARNER = "prompt_learner."


def as_read(case: dict, data: dict, clip: CLIP) -> dict:
    """The case with its settings as the published code reads them. `data`: its arrays."""
    case, text = dict(case), len(clip.transformer.resblocks)
    image = len(getattr(clip.visual, "transformer", clip.transformer).resblocks)  # a ResNet has no prompts
    for key, layers in {"prompt_depth": min(text, image), "depth_text": text, "depth_vision": image}.items():
        if key in case:  # prompts of deeper layers are not used
            case[key] = min(case[key], layers)
    n_ctx, words = case.get("n_ctx_text", case.get("n_ctx", 0)), case.get("ctx_init", "").replace("_", " ").split()
    if case["method"] in ("dept_coop", "dept_kgcoop") and words:
        case["n_ctx"] = len(words)
    elif case["method"] != "tcp" and n_ctx > 4:
        case["ctx_init"] = ""
    if case["method"] in ("taskres", "clap"):
        case["underscores"] = not case["underscores_replaced"]
        case["constraint"] = case.get("constraint", "").removeprefix("l2_")
    if case["method"] == "clip_lora":
        case["alpha"] = case.get("scaling", case["alpha"] * case["rank"] ** -0.5) * case["rank"] ** 0.5
        if case["encoder"] != "both":
            case.pop("vision_layers" if case["encoder"] == "text" else "text_layers", None)
    if case["method"] == "coprompt":
        names = ("image", "text")
        case["without_adapter"] = [name for name in names if f"init.adapter_{name}.fc.0.weight" not in data]
        case |= {f"{name}_adapter": 0.0 for name in case["without_adapter"]}
    return case


def context(case: dict) -> dict:
    return {LEARNER + "ctx": LEARNER + "ctx"}


def maple(case: dict) -> dict:
    deep = range(case["prompt_depth"] - 1)
    maps = [LEARNER + "proj"] + [f"{LEARNER}compound_prompt_projections.{i}" for i in deep]
    return {
        "sets.0.prompts.0": [LEARNER + "ctx"] + [f"{LEARNER}compound_prompts_text.{i}" for i in deep],
        "sets.0.unify.weight": [f"{name}.weight" for name in maps],
        "sets.0.unify.bias": [f"{name}.bias" for name in maps],
    }


def independent(case: dict) -> dict:
    def of(tower, first, depth):
        return [first] + [f"{tower}.transformer.resblocks.{layer}.VPT_shallow" for layer in range(1, depth)]

    found = []
    if case["depth_text"]:
        found.append(of("text_encoder", LEARNER + "ctx", case["depth_text"]))
    if case["depth_vision"]:
        found.append(of("image_encoder", "image_encoder.VPT", case["depth_vision"]))
    return {f"sets.0.prompts.{i}": names for i, names in enumerate(found)}


def mmrl(case: dict) -> dict:
    part, found = "representation_learner.compound_rep_tokens", {"sets.0.projection": "image_encoder.proj_rep"}
    found["sets.0.rep"] = part
    for name, letter in (("text", "t"), ("image", "v")):
        for kind in ("weight", "bias"):
            own = [f"{part}_r2{letter}proj.{i}.{kind}" for i in range(len(case["rep_layers"]))]
            found[f"sets.0.{name}_{kind}"] = own
    return found


def mmrlpp(case: dict) -> dict:
    found = {"sets.0.rep": "representation_learner.compound_rep_tokens"}
    found |= {f"sets.0.{name}": f"image_encoder.{name}" for name in "AB"}
    for name, letter in (("text", "t"), ("image", "v")):
        part = f"representation_learner.srra_r2{letter}proj"
        found[f"sets.0.{name}.weight"] = part + ".weight"
        for kind in ("A", "B", "bias"):
            own = [f"{part}.srra.{i}.{kind}" for i in range(len(case["rep_layers"]))]
            found[f"sets.0.{name}.{kind}"] = own
    return found


def tcp(case: dict) -> dict:
    parts = [f"linear{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
    own = {f"nets.0.{part}": f"{LEARNER}meta_net.{part}" for part in parts}
    return {**context(case), **own}


def dept(base):
    def names(case: dict) -> dict:
        films = [("film_image", "film_lp_img"), ("film_text", "film_lp_text")]
        own = {f"{ours}.{kind}": [f"{there}.{kind}"] for ours, there in films for kind in ("scale", "bias")}
        own |= {f"head.{kind}": f"linear_probe_proj.{kind}" for kind in ("weight", "bias")}
        return own | {f"base.{name}": there for name, there in base(case).items()}

    return names


def coprompt(case: dict) -> dict:
    own = {
        f"adapt_{name}.{ours}": [f"adapter_{name}.fc.{i}.weight"]
        for name in ("image", "text")
        for ours, i in (("down", 0), ("up", 2))
    }
    return own | maple(case)


def bottleneck(case: dict) -> dict:
    return {f"adapters.0.{ours}.weight": f"adapter.fc.{i}.weight" for ours, i in (("down", 0), ("up", 2))}


def residuals(case: dict) -> dict:
    return {"rows": LEARNER + "text_feature_residuals"}


def prototypes(case: dict) -> dict:
    return {"rows": "adapter.prototypes"}


def penalty(trainer, images) -> Tensor:
    """The constraint of CLAP."""
    return (trainer.model.multiplier * trainer.model.distances(trainer.all_columns)).mean()


def low_rank(case: dict) -> dict:
    published, found = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "proj"}, {}
    for tower, key, prefix in (("text", "text_layers", ""), ("image", "vision_layers", "visual.")):
        for name in _changed(case) if case["encoder"] in ("both", {"image": "vision"}.get(tower, tower)) else ():
            there = [f"{prefix}transformer.resblocks.{layer}.attn.{published[name]}" for layer in sorted(case[key])]
            found[f"sets.0.down.{tower}_{name}"] = [f"{part}.w_lora_A" for part in there]
            found[f"sets.0.up.{tower}_{name}"] = [f"{part}.w_lora_B" for part in there]
    return found


def zero_shot(trainer, images):
    """Logits of the CLIP without what is learned."""
    return cosine_logits(trainer.frozen_features(images, ""), trainer.model.hand_features(), trainer.model.scale)


def _changed(case: dict) -> list[str]:
    return ["out" if name == "o" else name for name in case["params"]]


PROMPTS = {"n_ctx_text": "N_CTX_TEXT", "n_ctx_vision": "N_CTX_VISION"}
PROMPTS |= {"depth_text": "PROMPT_DEPTH_TEXT", "depth_vision": "PROMPT_DEPTH_VISION", "ctx_init": "CTX_INIT"}
REGULATED = {**PROMPTS, "text_loss_weight": "TEXT_LOSS_WEIGHT", "image_loss_weight": "IMAGE_LOSS_WEIGHT"}
REGULATED |= {"templates": "TEMPLATES", "gpa_mean": "GPA_MEAN", "gpa_std": "GPA_STD"}
REPRESENTED = {"n_rep_tokens": "N_REP_TOKENS", "rep_dim": "REP_DIM", "rep_layers": "REP_LAYERS", "alpha": "ALPHA"}
REPRESENTED |= {"reg_weight": "REG_WEIGHT", "logit_scale": "SCALE"}
TOKENS = {"n_ctx": "N_CTX", "ctx_init": "CTX_INIT"}
INSERTED = {"insert_layer": "INSERT_LAYER", "insert_weight": "INSERT_WEIGHT", "weight": "W"}
HEAD = {"linear_weight": "DEPT.LINEAR_WEIGHT"}
CONSISTENT = {"prompt_depth": "PROMPT_DEPTH", "weight": "W", "distance": "DISTILL"}
CONSISTENT |= {"image_adapter": "IMAGE_ADAPTER", "text_adapter": "TEXT_ADAPTER"}
MIXED = {"beta": "BETA", "aligner_rank": "ALIGNER_RANK", "proj_rank": "PROJ_RANK"}
FACTORS = {"rank": "R", "alpha": "ALPHA", "dropout": "DROPOUT", "encoder": "ENCODER", "params": "PARAMS"}
FACTORS |= {"text_layers": "LAYERS_TEXT", "vision_layers": "LAYERS_VISION", "logit_scale": "SCALE"}
TRANSPORT = {"n_prompts": "N", "eps": "EPS", "max_iter": "MAX_ITER", "threshold": "THRESH"}

TEXT_ROWS = {
    "image_features": lambda trainer, images: trainer.frozen_features(images),
    "base_text_features": lambda trainer, images: trainer.model.base,
    "zero_shot_logits": lambda trainer, images: cosine_logits(
        trainer.frozen_features(images), trainer.model.base, trainer.model.scale
    ),
}
CONSTRAINED = {
    **TEXT_ROWS,
    "class_weights": lambda trainer, images: trainer.model.multiplier,
    "constraint_at_init": penalty,
    "constraint": penalty,
}

METHODS = {
    "cocoop": Method("CoCoOp", {"n_ctx": "N_CTX"}),
    "kgcoop": Method("KgCoOp", {"n_ctx": "N_CTX", "weight": "W"}),
    "prograd": Method("ProGrad", {"n_ctx": "N_CTX"}),
    "plot": Method("PLOT", {"n_ctx": "N_CTX", **TRANSPORT}),
    "maple": Method("MaPLe", {**TOKENS, "prompt_depth": "PROMPT_DEPTH"}, names=maple),
    "ivlp": Method("IVLP", PROMPTS, names=independent),
    "promptsrc": Method("PromptSRC", REGULATED, {"LEGACY_KL": True}, independent),
    "promptsrc_run": Method("PromptSRC", REGULATED, {"LEGACY_KL": True}, independent),
    "mmrl": Method("MMRL", REPRESENTED, {"SCALE": 100.0}, mmrl),
    "mmrlpp": Method("MMRLpp", {**REPRESENTED, **MIXED}, {"SCALE": 100.0}, mmrlpp),
    "dept_coop": Method("DePT", {**TOKENS, **HEAD}, {"DEPT.BASE": "CoOp"}, dept(context)),
    "dept_kgcoop": Method(
        "DePT", {**TOKENS, **HEAD, "kg_weight": "W"}, {"DEPT.BASE": "KgCoOp", "W": 2.0}, dept(context)
    ),
    "dept_maple": Method(
        "DePT", {**TOKENS, **HEAD, "prompt_depth": "PROMPT_DEPTH"}, {"DEPT.BASE": "MaPLe"}, dept(maple)
    ),
    "coprompt": Method("CoPrompt", {**TOKENS, **CONSISTENT}, names=coprompt),
    "tcp": Method("TCP", {**TOKENS, **INSERTED}, names=tcp),
    "clip_adapter": Method(
        "CLIPAdapter",
        {"ratio": "RATIO", "reduction": "REDUCTION"},
        {"TEMPLATES": "all"},
        bottleneck,
        {
            "image_features": lambda trainer, images: trainer.frozen_features(images),
            "adapter_output": lambda trainer, images: trainer.model.adapters[0](trainer.frozen_features(images)),
            "zero_shot_logits": lambda trainer, images: cosine_logits(
                trainer.frozen_features(images), trainer.text_features(), trainer.model.scale
            ),
        },
    ),
    "taskres": Method(
        "TaskRes",
        {"alpha": "ALPHA", "underscores": "LEGACY_UNDERSCORES"},
        {"TEMPLATES": "all"},
        residuals,
        TEXT_ROWS,
    ),
    "clap": Method(
        "CLAP",
        {"constraint": "CONSTRAINT", "underscores": "LEGACY_UNDERSCORES"},
        {"TEMPLATES": "all"},
        prototypes,
        CONSTRAINED,
    ),
    "clip_lora": Method("CLIPLoRA", FACTORS, {"TEMPLATES": "all"}, low_rank, {"zero_shot_logits": zero_shot}),
}
