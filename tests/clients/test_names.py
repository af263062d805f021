"""Every name that code of this family imports from Dassl and from OpenAI's clip is there and works."""

import importlib

import pytest
import torch
from torch import nn

from clip import clip
from dassl.config import clean_cfg, get_cfg_default
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.utils import UnknownNameError
from tests.dassl import toy

NAMES = """
dassl.config: get_cfg_default clean_cfg
dassl.engine: TRAINER_REGISTRY build_trainer TrainerBase SimpleTrainer TrainerX TrainerXU SimpleNet
dassl.engine.trainer: TrainerBase SimpleTrainer TrainerX TrainerXU SimpleNet MetricMeter AverageMeter SummaryWriter
dassl.engine.trainer: DataManager build_evaluator build_optimizer build_lr_scheduler count_num_param tolist_if_not
dassl.engine.trainer: load_checkpoint save_checkpoint mkdir_if_missing load_pretrained_weights build_head build_backbone
dassl.data: DataManager
dassl.data.data_manager: DataManager DatasetWrapper build_data_loader build_dataset build_sampler build_transform
dassl.data.datasets: Datum DatasetBase DATASET_REGISTRY build_dataset DatumMT DatasetBaseMT
dassl.data.datasets.base_dataset: Datum DatasetBase
dassl.data.datasets.build: DATASET_REGISTRY build_dataset
dassl.data.samplers: build_sampler RandomDomainSampler SeqDomainSampler RandomClassSampler
dassl.data.transforms: build_transform INTERPOLATION_MODES
dassl.data.transforms.transforms: AVAI_CHOICES Random2DTranslation InstanceNormalization Cutout GaussianNoise
dassl.evaluation: build_evaluator EVALUATOR_REGISTRY EvaluatorBase Classification
dassl.evaluation.evaluator: EvaluatorBase Classification
dassl.metrics: compute_accuracy compute_distance_matrix
dassl.modeling: BACKBONE_REGISTRY HEAD_REGISTRY NETWORK_REGISTRY Backbone build_backbone build_head build_network
dassl.optim: build_optimizer build_lr_scheduler
dassl.optim.optimizer: AVAI_OPTIMS
dassl.optim.lr_scheduler: AVAI_SCHEDS ConstantWarmupScheduler LinearWarmupScheduler _BaseWarmupScheduler
dassl.optim.radam: RAdam PlainRAdam AdamW
dassl.utils: Registry Logger setup_logger set_random_seed collect_env_info mkdir_if_missing check_isfile read_json
dassl.utils: write_json read_image download_url listdir_nohidden tolist_if_not check_availability AverageMeter
dassl.utils: MetricMeter save_checkpoint load_checkpoint resume_from_checkpoint load_pretrained_weights open_all_layers
dassl.utils: open_specified_layers count_num_param init_network_weights
dassl.utils.tools: read_image check_availability download_url tolist_if_not
dassl.utils.torchtools: save_checkpoint load_checkpoint load_pretrained_weights open_specified_layers
clip.clip: load tokenize available_models build_model _download _MODELS _tokenizer
clip.model: CLIP build_model convert_weights Transformer VisionTransformer ModifiedResNet LayerNorm QuickGELU
clip.simple_tokenizer: SimpleTokenizer
"""


@pytest.mark.parametrize("line", NAMES.strip().splitlines())
def test_names(line):
    module, _, names = line.partition(": ")
    for name in names.split():
        assert getattr(importlib.import_module(module), name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module(module).no_such_name  # noqa: B018


def test_clean_cfg_keeps_the_method_and_common_settings():
    cfg = get_cfg_default()
    for name in ("COOP", "COCOOP"):
        cfg.TRAINER[name] = type(cfg)({"N_CTX": 16})
    cfg.TRAINER.COMMON = 1
    cfg.freeze()
    clean_cfg(cfg, "CoOp")
    assert "COCOOP" not in cfg.TRAINER and cfg.TRAINER.COOP.N_CTX == 16 and cfg.TRAINER.COMMON == 1


@pytest.fixture(scope="module")
def tiny():
    return clip.load("tiny", device="cpu")[0]


def test_convert_weights_and_the_dtype_of_a_clip(tiny):
    from clip.model import convert_weights

    model = clip.build_model(torch.load(clip._download(clip._MODELS["tiny"]), weights_only=True))
    assert model.dtype == torch.float32
    convert_weights(model)
    assert model.dtype == model.text_projection.dtype == model.visual.conv1.weight.dtype == torch.float16
    assert model.ln_final.weight.dtype == torch.float32
    assert model.float().dtype == torch.float32
    images = torch.rand(2, 3, 64, 64)
    expected = tiny.encode_image(images)
    assert torch.allclose(model.encode_image(images), expected, atol=0.05 * float(expected.abs().max()))


def test_the_transformers_have_openais_arguments(tiny):
    from clip.model import Transformer, VisionTransformer

    torch.manual_seed(0)
    mask = torch.full((5, 5), float("-inf")).triu(1)
    causal, free = Transformer(16, 2, 4, attn_mask=mask), Transformer(16, layers=2, heads=4)
    free.load_state_dict(causal.state_dict())
    x = torch.rand(5, 3, 16)
    changed = torch.cat([x[:4], torch.rand(1, 3, 16)])
    assert torch.allclose(causal(x)[:4], causal(changed)[:4]) and not torch.allclose(free(x)[:4], free(changed)[:4])
    assert [name for name, _ in causal.resblocks[0].named_children()][:2] == ["ln_1", "attn"]
    vit = VisionTransformer(input_resolution=8, patch_size=4, width=16, layers=1, heads=2, output_dim=6)
    assert vit(torch.rand(2, 3, 8, 8)).shape == (2, 6)
    assert vit.transformer.resblocks[0].mlp.c_fc.out_features == 64
    assert isinstance(vit, VisionTransformer) and not isinstance(causal, VisionTransformer)
    assert isinstance(tiny.visual, VisionTransformer) == hasattr(tiny.visual, "class_embedding")


def test_tools_for_layers():
    from dassl.utils import init_network_weights, open_all_layers, open_specified_layers

    net = nn.Sequential()
    net.add_module("body", nn.Linear(3, 4))
    net.add_module("norm", nn.BatchNorm1d(4))
    open_specified_layers(net, "norm")
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]
    assert not net.body.training and net.norm.training
    with pytest.raises(UnknownNameError, match="no such layer: 'boddy', did you mean body"):
        open_specified_layers(net, ["boddy"])
    open_all_layers(net)
    init_network_weights(net, "orthogonal", gain=1)
    assert all(p.requires_grad for p in net.parameters()) and not net.body.bias.any()
    assert torch.allclose(net.body.weight.T @ net.body.weight, torch.eye(3), atol=1e-5)


def test_warm_ups_and_distances():
    from dassl.metrics import compute_distance_matrix
    from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler

    def rates(kind, rate):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        after = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        schedule, found = kind(optimizer, after, 2, rate), []
        for _ in range(4):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    assert rates(ConstantWarmupScheduler, 0.1) == [0.1, 0.1, 1.0, 0.5]
    assert rates(LinearWarmupScheduler, 0.1) == [0.1, 0.5, 1.0, 0.5]
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    assert compute_distance_matrix(a, b).tolist() == [[5.0, 4.0]]
    assert compute_distance_matrix(a, b, "cosine").tolist() == [[1.0, 0.0]]


class ToyNetwork(TrainerX):
    """A trainer that builds nothing: the engine builds a backbone, a head and a classifier."""

    def __init__(self, cfg):
        super().__init__(cfg)

    def forward_backward(self, batch):
        image, label, _ = self.parse_batch_train(batch)
        loss = nn.functional.cross_entropy(self.model(image), label)
        self.model_backward_and_update(loss)
        return {"loss": loss.item()}


def test_the_default_network_of_a_trainer(tmp_path):
    from dassl.modeling import BACKBONE_REGISTRY, Backbone

    class Pooled(Backbone):
        def __init__(self, pretrained=True):
            super().__init__()
            self._out_features = 3

        def forward(self, x):
            return x.mean((-2, -1))

    BACKBONE_REGISTRY.register(Pooled, force=True)
    toy.draw_images(tmp_path)
    with toy.registered(ToyNetwork):
        settings = {"trainer": "ToyNetwork", "OPTIM__MAX_EPOCH": 1, "MODEL__BACKBONE__NAME": "Pooled"}
        head = {"MODEL__HEAD__NAME": "mlp", "MODEL__HEAD__HIDDEN_LAYERS": (5,)}
        trainer = build_trainer(toy.config(tmp_path, tmp_path / "run", **settings, **head))
        trainer.train()
        assert (trainer.model.fdim, trainer.model.classifier.out_features) == (5, 3)
        assert (tmp_path / "run" / "model" / "model.pth.tar-1").is_file()
        # without data, as for predictions, although its __init__ takes cfg only
        again = build_trainer(trainer.cfg, trainer.dm.space)
        again.load_model(str(tmp_path / "run"))
        image = torch.rand(2, 3, 8, 8)
        again.set_model_mode("eval")
        trainer.set_model_mode("eval")
        assert torch.equal(again.model_inference(image), trainer.model_inference(image))
        assert again.dm.dataset.classnames == toy.CLASSES and again.train_loader_x is None
        with pytest.raises(UnknownNameError, match="no such backbone: 'RN50'"):
            build_trainer(toy.config(tmp_path, tmp_path / "b", trainer="ToyNetwork"))
    assert "ToyNetwork" not in TRAINER_REGISTRY
