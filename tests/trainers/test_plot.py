"""Compare PLOT's transport plans with plain loops and its logits with full prompts; test cached local features."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clip.additions import Additions
from clip.clip import tokenizer
from dassl.config import ConfigError
from dassl.data import data_manager
from dassl.data.tasks import TaskSpace
from dassl.engine import build_trainer
from tests.models import relative, state_dict, tiny_rn, tiny_vit
from tests.suite import config
from tests.trainers.published import encode
from trainers import plot
from trainers.plot import match
from trainers.sinkhorn import transport_plan


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, model in (("vit", tiny_vit()), ("rn", tiny_rn())):
        torch.save(state_dict(model), folder / f"{name}.pt")
    return folder


@pytest.fixture()
def build(files, tmp_path):
    def build(*settings, tower="vit"):
        size = {"vit": 32, "rn": 64}[tower]
        short = ("TRAINER.PLOT.N_CTX", 4, "TRAINER.PLOT.N", 3)
        return build_trainer(config(tmp_path, "PLOT", files / f"{tower}.pt", size, *short, *settings))

    return build


def similarities(problems=5, prompts=3, patches=7, seed=0):
    """Cosines (Q, M, P) that cover the whole range from -1 to 1."""
    return 2 * torch.rand(problems, prompts, patches, generator=torch.Generator().manual_seed(seed)) - 1


# ---- Sinkhorn ------------------------------------------------------------------------------------------------------


def loop(similarity, eps, max_iter, threshold):
    """Plans by plain loops in double precision; all problems stop together: (plans, iterations)."""
    problems = similarity.double().tolist()
    Q, M, P = similarity.shape
    kernel = [[[math.exp((s - 1) / eps) for s in row] for row in problem] for problem in problems]
    r, c = [[1.0] * P for _ in range(Q)], [[1.0] * M for _ in range(Q)]
    iterations, change = 0, math.inf
    while iterations < max_iter and change >= threshold:
        iterations += 1
        change = 0.0
        for q in range(Q):
            old = r[q]
            r[q] = [1 / P / sum(kernel[q][m][p] * c[q][m] for m in range(M)) for p in range(P)]
            c[q] = [1 / M / sum(kernel[q][m][p] * r[q][p] for p in range(P)) for m in range(M)]
            change += sum(abs(a - b) for a, b in zip(r[q], old, strict=True)) / (Q * P)
    plans = [[[c[q][m] * kernel[q][m][p] * r[q][p] for p in range(P)] for m in range(M)] for q in range(Q)]
    return np.array(plans), iterations


@pytest.mark.parametrize(
    ("eps", "max_iter", "threshold"),
    [(0.5, 100, 1e-2), (0.5, 100, 0.1), (0.2, 100, 0.5), (0.1, 100, 5.0), (0.1, 3, 1e-2), (0.1, 1, 0)],
)
def test_plans_and_where_they_stop(eps, max_iter, threshold):
    similarity = similarities()
    expected, iterations = loop(similarity, eps, max_iter, threshold)
    plan, entropy = transport_plan(similarity, eps, max_iter, threshold)
    assert np.abs(plan.numpy() - expected).max() < 1e-6
    assert np.allclose(entropy.numpy(), -(expected * np.log(expected)).sum((1, 2)), rtol=1e-4)
    # it stopped at the right iteration: one more or less gives another plan
    others = [loop(similarity, eps, n, 0)[0] for n in (iterations - 1, iterations + 1) if n]
    assert min(np.abs(other - expected).max() for other in others) > 1e-4


@pytest.mark.parametrize("eps", [1.0, 0.1, 0.005, 0.001])
def test_marginals_whatever_the_entropy_weighs(eps):
    similarity = similarities(8, 4, 6)
    plan, entropy = transport_plan(similarity, eps, 2000, 0)
    assert torch.isfinite(plan).all() and torch.isfinite(entropy).all()
    assert torch.allclose(plan.sum(2), torch.full((8, 4), 1 / 4), atol=1e-5)
    assert torch.allclose(plan.sum(1), torch.full((8, 6), 1 / 6), atol=5e-3)
    assert (entropy <= math.log(24) + 1e-4).all() and (entropy >= math.log(6) - 1e-2).all()


def test_a_small_eps_finds_the_cheapest_plan():
    """With a small entropy weight, three prompts and patches get the best of the six permutations."""
    similarity = similarities(20, 3, 3, seed=3)
    plan, _ = transport_plan(similarity, 0.005, 1000, 0)
    for problem, value in zip(similarity, (plan * similarity).sum((1, 2)), strict=True):
        best = max(sum(problem[m, p] for m, p in enumerate(order)) / 3 for order in permutations(range(3)))
        assert value.item() == pytest.approx(best.item(), abs=5e-3)


def test_equal_costs_give_the_plan_of_most_entropy():
    plan, entropy = transport_plan(torch.full((2, 4, 5), 0.3))
    assert torch.allclose(plan, torch.full((2, 4, 5), 1 / 20)) and entropy[0].item() == pytest.approx(math.log(20))


def test_the_plan_is_a_constant_in_the_gradient():
    local = torch.randn(2, 5, 8)
    text = torch.randn(3, 4, 8, requires_grad=True)
    value, _ = match(local, text)
    value.sum().backward()
    copy = text.detach().clone().requires_grad_()
    x, w = F.normalize(local, dim=-1), F.normalize(copy, dim=-1)
    similarity = torch.einsum("bpd,cmd->bcmp", x, w)
    plan = torch.from_numpy(loop(similarity.detach().flatten(0, 1), 0.1, 100, 1e-2)[0]).view_as(similarity).float()
    (plan * similarity).sum().backward()
    assert relative(text.grad, copy.grad) < 1e-4
    assert relative(value.detach(), (plan * similarity).sum((2, 3)).detach()) < 1e-4


def test_half_precision_is_matched_in_fp32():
    local, text = torch.randn(2, 5, 8).half(), torch.randn(3, 4, 8).half()
    value, entropy = match(local, text, eps=0.005)
    assert value.dtype == entropy.dtype == torch.float32 and torch.isfinite(value).all()
    assert torch.equal(value, match(local.float(), text.float(), eps=0.005)[0])


def test_pieces_bound_the_memory(monkeypatch):
    local, text = torch.randn(7, 5, 8), torch.randn(3, 4, 8)
    whole = match(local, text, max_iter=50, threshold=0)
    sizes = []
    solve = plot.transport_plan
    monkeypatch.setattr(plot, "transport_plan", lambda sim, *args: sizes.append(sim.numel()) or solve(sim, *args))
    monkeypatch.setattr(plot, "PIECE", 130)
    pieces = match(local, text, max_iter=50, threshold=0)
    assert sizes == [120, 120, 120, 60]  # two images at a time
    assert torch.allclose(pieces[0], whole[0], atol=1e-6) and torch.allclose(pieces[1], whole[1], atol=1e-5)


# ---- the method ----------------------------------------------------------------------------------------------------


def contexts_of(trainer, column):
    """Contexts (M, L, D) of a class, from the published parameter names."""
    learner, task = trainer.model.prompt_learner, int(trainer.space.task_of_column[column])
    state = dict(learner.named_parameters())
    if f"learners.{task}.ctx" in state:
        return state[f"learners.{task}.ctx"]
    return state["ctx"] if state["ctx"].ndim == 3 else state["ctx"][column]


@pytest.mark.parametrize("tower", ["vit", "rn"])
@pytest.mark.parametrize("sharing", ["", "TSC", "CSC"])
def test_logits_are_those_of_whole_prompts(build, sharing, tower):
    trainer = build(*((f"TRAINER.PLOT.{sharing}", True) if sharing else ()), tower=tower)
    model, size = trainer.clip, trainer.clip.visual.input_resolution
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    local = F.normalize(trainer.image_tower(images, Additions(local=True))[1], dim=-1).detach()
    assert local.shape[1] == {"vit": 16, "rn": 4}[tower]
    found = trainer.model_inference(images)
    tasks = torch.tensor([2, 0, 1, 2])
    own = trainer.model_inference(images, tasks)
    for t in range(3):
        span = trainer.space.columns(t)
        names = trainer.space.classnames[span]
        text = [
            torch.cat([encode(model, context, [name]) for context in contexts_of(trainer, span.start + i)])
            for i, name in enumerate(names)
        ]
        text = F.normalize(torch.stack(text), dim=-1).detach()  # (C, M, d)
        for rows, logits in ((torch.arange(4), found), ((tasks == t).nonzero()[:, 0], own)):
            similarity = torch.einsum("bpd,cmd->bcmp", local[rows], text)
            plan = torch.from_numpy(loop(similarity.flatten(0, 1), 0.1, 100, 1e-2)[0]).view_as(similarity)
            expected = trainer.scale * (plan * similarity).sum((2, 3)).float()
            assert relative(logits[rows][:, span].detach(), expected) < 1e-4
    others = ~trainer.space.mask(tasks)
    assert (own[others] == float("-inf")).all() and torch.isfinite(own[~others]).all()


def test_prompts_differ_and_stay_different(build):
    for init, words in (("", 4), ("a photo of a", 4)):
        trainer = build("TRAINER.PLOT.CTX_INIT", init)
        ctx = trainer.model.prompt_learner.ctx
        assert ctx.shape == (3, words, 64)
        first = trainer.text_tower.embed(torch.tensor([320, 1125, 539, 320])) if init else None  # a photo of a
        assert first is None or torch.equal(ctx[0].detach(), first)
        assert not torch.equal(ctx[0], ctx[1]) and not torch.equal(ctx[1], ctx[2])
    names = [name for name, _ in trainer.model.prompt_learner.named_contexts()]
    assert names == ["context, prompt 1", "context, prompt 2", "context, prompt 3"]


def test_parameters_of_the_published_setting():
    """4 prompts of 16 tokens with width 512 have 32,768 parameters per task."""

    class Tower:
        width, output_dim, context_length, device = 512, 1024, 77, torch.device("cpu")
        tokenizer = tokenizer()

        def embed(self, ids):
            return torch.zeros(*ids.shape, 512)

    space = TaskSpace.single(["cat", "dog"])
    learner = plot.TransportPrompts(Tower(), space, n_prompts=4, n_ctx=16)
    assert sum(parameter.numel() for parameter in learner.parameters()) == 32_768


def test_the_entropy_is_in_the_training_line(build, capsys):
    trainer = build("TRAIN.PRINT_FREQ", 1, "OPTIM.MAX_EPOCH", 1)
    trainer.train()
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch [1/1][1/5]"))
    value = float(line.split("entropy ")[1].split()[0])
    assert math.log(16) <= value <= math.log(3 * 16) + 1e-3


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (("TRAINER.PLOT.EPS", 0.0), "PLOT.EPS = 0.0: expected a number > 0"),
        (("TRAINER.PLOT.N", 0), "PLOT.N"),
        (("TRAINER.PLOT.CSC", True, "TRAINER.PLOT.TSC", True), "exclude each other"),
        (("TRAINER.PLOT.CTX_INIT", "a photo"), "has 2 tokens and TRAINER.PLOT.N_CTX is 4"),
    ],
)
def test_settings_that_make_no_sense(build, settings, text):
    with pytest.raises((ConfigError, ValueError), match=text):
        build(*settings)


# ---- local features in place of images -----------------------------------------------------------------------------


@pytest.fixture()
def read(monkeypatch):
    """Paths of the images read."""
    paths = []
    original = data_manager.read_image
    monkeypatch.setattr(data_manager, "read_image", lambda path, *how: paths.append(path) or original(path, *how))
    return paths


def run(build, tmp_path, read, name, *settings):
    """(losses of the steps, mean result, images read)."""
    folders = ("OUTPUT_DIR", str(tmp_path / name), "DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
    trainer = build(*folders, *settings)
    losses, step = [], trainer.forward_backward
    trainer.forward_backward = lambda batch: losses.append(step(batch)["loss"]) or {"loss": losses[-1]}
    read.clear()
    trainer.train()
    return losses, trainer.evaluator.report["mean"], len(read)


def test_cached_local_features_change_nothing(build, tmp_path, read, capsys):
    live = run(build, tmp_path, read, "live", "DATALOADER.FEATURE_CACHE", False)
    bank = run(build, tmp_path, read, "bank", "DATALOADER.FEATURE_BANK", True)
    assert bank[0] == pytest.approx(live[0], rel=1e-5) and bank[1] == live[1]
    assert live[2] == bank[2] == 2 * 40 + 18
    # 80 views of 16 patches with 48 numbers of four bytes
    assert "Computing the features of 80 training views (0.234 MB)" in capsys.readouterr().out
    again = run(build, tmp_path, read, "again", "DATALOADER.FEATURE_BANK", True)
    assert again == (bank[0], bank[1], 0)


def test_they_are_kept_apart_from_pooled_ones(build, files, tmp_path, read):
    run(build, tmp_path, read, "plot")
    cache = ("DATALOADER.FEATURE_CACHE_DIR", str(tmp_path / "cache"))
    zero = build_trainer(config(tmp_path, "ZeroshotCLIP", files / "vit.pt", 32, *cache))
    read.clear()
    zero.test()
    assert len(read) == 18
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_what_would_not_stay_is_not_kept(build, tmp_path, read, capsys):
    tight = ("DATALOADER.FEATURE_BANK", True, "DATALOADER.FEATURE_CACHE_GB", 1e-4)  # room for 0.1024 MB
    live = run(build, tmp_path, read, "live", *tight)
    told = capsys.readouterr().out
    assert "FEATURE_BANK is not used: the features would take 0.234 MB, but DATALOADER.FEATURE_CACHE_GB allows" in told
    assert "FEATURE_CACHE is not used" not in told and live[2] == 2 * 40 + 18  # the 18 test images fit
    assert run(build, tmp_path, read, "again", *tight)[2] == 2 * 40
