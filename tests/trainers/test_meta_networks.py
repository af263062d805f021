from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dassl.config import ConfigError
from dassl.data.tasks import Task, TaskSpace
from dassl.engine import build_trainer
from dassl.utils import UserError
from tests.docs.method_tables import RN50Text
from tests.suite import config
from trainers.meta_networks import build_meta_network, reads
from trainers.mtcoop import MTCoOp

DIMS, L, D, G = (6, 4), 5, 16, 3


def features(dims=DIMS, rows=G):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(rows, dim, generator=generator) for dim in dims]


def test_which_features_are_read():
    assert reads("lincls", True) == ("class",)
    for kind in ("lin", "linmean", "mlp", "transformer"):
        assert reads(kind, True) == ("class", "task") and reads(kind, False) == ("task",)


def test_linear():
    network, (g, f) = build_meta_network("lin", DIMS, L, D), features()
    assert network.proj.shape == (10, L * D)
    expected = torch.einsum("gi,ild->gld", torch.cat([g, f], 1), network.proj.view(10, L, D))
    assert torch.allclose(network(g, f), expected, atol=1e-6)
    mean = build_meta_network("linmean", (6, 6), L, D)
    g, f = features((6, 6))
    expected = torch.einsum("gi,ild->gld", (g + f) / 2, mean.proj.view(6, L, D))
    assert torch.allclose(mean(g, f), expected, atol=1e-6)


def test_mlp():
    network, (g, f) = build_meta_network("mlp", DIMS, L, D, hidden=7), features()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    for row in range(G):
        x = torch.cat([g[row], f[row]])
        hidden = [max(0.0, (x @ network.hidden.weight[i] + network.hidden.bias[i]).item()) for i in range(7)]
        out = network.out.weight @ torch.tensor(hidden) + network.out.bias
        assert torch.allclose(network(g, f)[row], out.view(L, D), atol=1e-5)
    assert build_meta_network("mlp", DIMS, L, 512).hidden.out_features == 64
    assert build_meta_network("mlp", DIMS, L, 4).hidden.out_features == 1


def naive_transformer(network, features):
    """Context (L, D) of one row: plain pre-norm attention and FFN, head by head."""
    tokens = [fc.weight @ x + fc.bias for fc, x in zip(network.inputs, features, strict=True)]
    x = torch.stack([*tokens, *network.queries])
    for layer in network.layers:
        y = F.layer_norm(x, x.shape[-1:], layer.norm_1.weight, layer.norm_1.bias)
        q, k, v = (y @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, -1)
        size = q.shape[-1] // layer.heads
        out = []
        for h in range(layer.heads):
            own = slice(h * size, (h + 1) * size)
            weights = ((q[:, own] @ k[:, own].T) / size**0.5).softmax(-1)
            out.append(weights @ v[:, own])
        x = x + torch.cat(out, -1) @ layer.merge.weight.T + layer.merge.bias
        y = F.layer_norm(x, x.shape[-1:], layer.norm_2.weight, layer.norm_2.bias)
        hidden = F.gelu(y @ layer.ffn[0].weight.T + layer.ffn[0].bias)
        x = x + hidden @ layer.ffn[2].weight.T + layer.ffn[2].bias
    x = F.layer_norm(x[len(features) :], x.shape[-1:], network.norm.weight, network.norm.bias)
    return x @ network.out.weight.T + network.out.bias


def test_transformer():
    torch.manual_seed(0)
    network, (g, f) = build_meta_network("transformer", DIMS, L, D, hidden=12, heads=3, layers=2), features()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.4)
    found = network(g, f)
    assert found.shape == (G, L, D)
    for row in range(G):
        assert torch.allclose(found[row], naive_transformer(network, (g[row], f[row])), atol=1e-4)
    # every query attends to the features and the other queries
    network.queries.data[0, 0] += 3
    assert (network(g, f) - found).abs().amax((0, 2)).min() > 1e-3


@pytest.mark.parametrize("kind", ["lin", "linmean", "mlp", "transformer"])
def test_a_context_depends_on_its_own_features_alone(kind):
    torch.manual_seed(0)
    network = build_meta_network(kind, (6, 6), L, D, heads=4)
    g, f = features((6, 6))
    for row in range(G):
        assert torch.allclose(network(g, f)[row], network(g[row : row + 1], f[row : row + 1])[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_contexts_begin_small_and_differ_between_tasks(kind):
    """Contexts from features as long as CLIP's are about as large as directly learned contexts (0.02)."""
    torch.manual_seed(0)
    network = build_meta_network(kind, (192,), 16, 192)
    contexts = network(torch.randn(4, 192))
    assert 0.001 < contexts.std() < 0.1
    assert (contexts[0] - contexts[1]).abs().max() > 1e-4


# ---- through the trainer ----

SPACE = TaskSpace(tuple(Task(f"t{i}", f"task {i}", ("a", "b")) for i in range(8)))


def options(**settings):
    return [part for key, value in settings.items() for part in (f"TRAINER.MTCOOP.{key}", value)]


WRONG = {
    "PG_TYPE linmean reads class features": {"PG_TYPE": "linmean"},
    "CLASS_CTX_INIT a photo of needs TRAINER.MTCOOP.CSC True": {"CLASS_CTX_INIT": "a photo of"},
    "CLASS_TOKEN_POSITION front needs TRAINER.MTCOOP.CSC True": {"CLASS_TOKEN_POSITION": "front"},
    "PG_TYPE lincls reads class features": {"PG_TYPE": "lincls"},
    "PG_HIDDEN 8 needs TRAINER.MTCOOP.PG_TYPE mlp or transformer, found lin": {"PG_HIDDEN": 8},
    "PG_HEADS 4 needs TRAINER.MTCOOP.PG_TYPE transformer, found mlp": {"PG_TYPE": "mlp", "PG_HEADS": 4},
    "PG_LAYERS 2 needs": {"PG_LAYERS": 2},
    "PG_HEADS 8 does not divide TRAINER.MTCOOP.PG_HIDDEN 20": {"PG_TYPE": "transformer", "PG_HIDDEN": 20},
    "TASK_CSC True needs TRAINER.MTCOOP.TASK_FEATURE te": {"TASK_FEATURE": "rand", "TASK_CSC": True},
    "TASK_N_CTX 8 needs TRAINER.MTCOOP.TASK_FEATURE te": {"TASK_FEATURE": "rand", "TASK_N_CTX": 8},
    "TASK_CTX_INIT a task of needs TRAINER.MTCOOP.TASK_FEATURE te": {
        "TASK_FEATURE": "rand",
        "TASK_CTX_INIT": "a task of",
    },
    "lincls reads no task feature: the features learned with TRAINER.MTCOOP.TASK_FEATURE rand would be unused": {
        "TASK_FEATURE": "rand",
        "CSC": True,
        "PG_TYPE": "lincls",
    },
    "TASK_FEATURE_DIM 8: TRAINER.MTCOOP.PG_TYPE lincls": {"TASK_FEATURE_DIM": 8, "CSC": True, "PG_TYPE": "lincls"},
    "TASK_FEATURE_DIM 8: TRAINER.MTCOOP.PG_TYPE linmean": {"TASK_FEATURE_DIM": 8, "CSC": True, "PG_TYPE": "linmean"},
    "TASK_FEATURE_NORM 1.0 needs": {"TASK_FEATURE_NORM": 1.0},
    "TASK_N_CTX 0: expected at least 1": {"TASK_N_CTX": 0},
}


@pytest.mark.parametrize("text", WRONG)
def test_settings_that_contradict_each_other(text, weights, tmp_path):
    with pytest.raises(ConfigError, match=text):
        build_trainer(config(tmp_path, "MTCoOp", weights, 32, *options(**WRONG[text])))


def test_heads_that_do_not_divide_the_text_width(weights, tmp_path):
    with pytest.raises(UserError, match="width 64 cannot have 5 heads: PG_HEADS must divide"):
        build_trainer(config(tmp_path, "MTCoOp", weights, 32, *options(PG_TYPE="transformer", PG_HEADS=5)))


def count(**settings):
    cfg = config(Path("unused"), "MTCoOp", "", 32, *options(**settings))
    learner = MTCoOp.build_learner(cfg, RN50Text(), SPACE)
    return sum(parameter.numel() for parameter in learner.parameters() if parameter.requires_grad)


def test_numbers_of_parameters_on_rn50_with_eight_tasks():
    assert count(TASK_N_CTX=8) == 8_392_704
    assert count(TASK_N_CTX=8, TASK_CSC=True) == 8_421_376
    assert count(TASK_FEATURE="rand") == 8_396_800  # SoftCPT* of the published table
    assert count(TASK_FEATURE="rand", TASK_FEATURE_DIM=64) == 64 * 8192 + 8 * 64
    assert count(TASK_FEATURE_DIM=64) == 64 * 8192 + 4 * 512  # the projection is not learned
    assert count(PG_TYPE="mlp") == 1024 * 64 + 64 + 64 * 8192 + 8192 + 4 * 512
