"""Programs and classes with the names and calls of CoOp, MVLPT, CLAP and TaskRes, without a clip/ of their own."""

import argparse
import copy
import os
import pickle

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from yacs.config import CfgNode as CN

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
from dassl.config import get_cfg_default
from dassl.data import DataManager
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    collect_env_info,
    load_checkpoint,
    mkdir_if_missing,
    read_json,
    set_random_seed,
    setup_logger,
    write_json,
)

_tokenizer = _Tokenizer()


class CachedDataset(DatasetBase):
    """A dataset of CoOp's kind: a split file, and a pickled cache of the few-shot sample."""

    classes = ()

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        self.split_path = os.path.join(self.dataset_dir, "split.json")
        self.split_fewshot_dir = os.path.join(self.dataset_dir, "split_fewshot")
        mkdir_if_missing(self.split_fewshot_dir)
        if not os.path.exists(self.split_path):
            self.save_split()
        train, test = ([self.item(*entry) for entry in read_json(self.split_path)[part]] for part in ("train", "test"))
        shots, seed = cfg.DATASET.NUM_SHOTS, cfg.SEED
        if shots >= 1:
            cache = os.path.join(self.split_fewshot_dir, f"shot_{shots}-seed_{seed}.pkl")
            if os.path.exists(cache):
                with open(cache, "rb") as file:
                    data = pickle.load(file)
                train, val = data["train"], data["val"]
            else:
                train = self.generate_fewshot_dataset(train, num_shots=shots)
                val = self.generate_fewshot_dataset(train, num_shots=min(shots, 4))
                with open(cache, "wb") as file:
                    pickle.dump({"train": train, "val": val}, file, protocol=pickle.HIGHEST_PROTOCOL)
        super().__init__(train_x=train, val=val, test=test)

    def item(self, path, label, classname):
        return Datum(impath=os.path.join(self.dataset_dir, path), label=int(label), classname=classname)

    def save_split(self):
        entries = [[f"{name}/{i}.png", label, name] for label, name in enumerate(self.classes) for i in range(6)]
        write_json({"train": entries[::2] + entries[1::3], "test": entries}, self.split_path)


@DATASET_REGISTRY.register(force=True)
class ClientsTwo(CachedDataset):
    dataset_dir, classes = "two", ("red thing", "green thing")


@DATASET_REGISTRY.register(force=True)
class ClientsThree(CachedDataset):
    dataset_dir, classes = "three", ("red thing", "green thing", "blue thing")


def load_clip_to_cpu(cfg):
    backbone_name = cfg.MODEL.BACKBONE.NAME
    model_path = clip._download(clip._MODELS[backbone_name])
    try:
        model = torch.jit.load(model_path, map_location="cpu").eval()
        state_dict = None
    except RuntimeError:
        state_dict = torch.load(model_path, map_location="cpu")
    return clip.build_model(state_dict or model.state_dict())


class TextEncoder(nn.Module):
    def __init__(self, clip_model):
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection
        self.dtype = clip_model.dtype

    def forward(self, prompts, tokenized_prompts):
        x = prompts + self.positional_embedding.type(self.dtype)
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = self.ln_final(x).type(self.dtype)
        return x[torch.arange(x.shape[0]), tokenized_prompts.argmax(dim=-1)] @ self.text_projection


class PromptLearner(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        n_ctx = cfg.TRAINER.CLIENTCOOP.N_CTX
        self.ctx = nn.Parameter(torch.empty(n_ctx, clip_model.ln_final.weight.shape[0], dtype=clip_model.dtype))
        nn.init.normal_(self.ctx, std=0.02)
        prompts = [" ".join(["X"] * n_ctx) + " " + name + "." for name in classnames]
        assert all(len(_tokenizer.encode(name)) > 0 for name in classnames)
        self.tokenized_prompts = torch.cat([clip.tokenize(p) for p in prompts])
        with torch.no_grad():
            embedding = clip_model.token_embedding(self.tokenized_prompts).type(clip_model.dtype)
        self.register_buffer("token_prefix", embedding[:, :1])
        self.register_buffer("token_suffix", embedding[:, 1 + n_ctx :])

    def forward(self):
        ctx = self.ctx.unsqueeze(0).expand(len(self.token_prefix), -1, -1)
        return torch.cat([self.token_prefix, ctx, self.token_suffix], dim=1)


class CustomCLIP(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        self.prompt_learner = PromptLearner(cfg, classnames, clip_model)
        self.image_encoder, self.text_encoder = clip_model.visual, TextEncoder(clip_model)
        self.logit_scale, self.dtype = clip_model.logit_scale, clip_model.dtype

    def forward(self, image):
        image_features = F.normalize(self.image_encoder(image.type(self.dtype)), dim=-1)
        text = self.text_encoder(self.prompt_learner(), self.prompt_learner.tokenized_prompts)
        return self.logit_scale.exp() * image_features @ F.normalize(text, dim=-1).t()


@TRAINER_REGISTRY.register(force=True)
class ClientCoOp(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.CLIENTCOOP.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        clip_model = load_clip_to_cpu(cfg)
        clip_model.float()
        self.model = CustomCLIP(cfg, self.dm.dataset.classnames, clip_model)
        for name, param in self.model.named_parameters():
            if "prompt_learner" not in name:
                param.requires_grad_(False)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)
        self.scaler = None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        for name in self.get_model_names():
            model_file = "model-best.pth.tar" if epoch is None else "model.pth.tar-" + str(epoch)
            checkpoint = load_checkpoint(os.path.join(directory, name, model_file))
            state_dict = checkpoint["state_dict"]
            for key in ("token_prefix", "token_suffix"):
                state_dict.pop(key, None)
            self._models[name].load_state_dict(state_dict, strict=False)


class MultiDataManager(DataManager):
    """The data of several datasets with one list of classes, as MVLPT builds it. It never calls Dassl's __init__."""

    def __init__(self, cfg):
        label_offset, num_classes, classnames, lab2cname = 0, [], [], {}
        self.dataset, self._task_class_idx = None, {}
        for domain, dataset_name in enumerate(cfg.DATASET.DATASET.split(",")):
            cfg.defrost()
            cfg.DATASET.NAME = dataset_name
            cfg.freeze()
            dataset = build_dataset(cfg)
            num_classes.append(dataset._num_classes)
            classnames += dataset._classnames
            lab2cname.update({key + label_offset: value for key, value in dataset._lab2cname.items()})
            for part in (dataset._train_x, dataset._test):
                for item in part:
                    item._label += label_offset
                    item._domain = domain
            if self.dataset is None:
                self.dataset = dataset
            else:
                self.dataset._train_x = self.dataset._train_x + dataset._train_x
                self.dataset._test = self.dataset._test + dataset._test
            self._task_class_idx[dataset_name] = (label_offset, label_offset + dataset._num_classes)
            label_offset += dataset._num_classes
        dataset = self.dataset
        dataset._classnames, dataset._lab2cname, dataset._num_classes = classnames, lab2cname, sum(num_classes)
        of_x = cfg.DATALOADER.TRAIN_X
        self.train_loader_x = build_data_loader(
            cfg,
            sampler_type=of_x.SAMPLER,
            data_source=dataset.train_x,
            batch_size=of_x.BATCH_SIZE,
            n_domain=of_x.N_DOMAIN,
            n_ins=of_x.N_INS,
            tfm=build_transform(cfg, is_train=True),
            is_train=True,
            dataset_wrapper=None,
        )
        self.test_loader = build_data_loader(
            cfg,
            sampler_type=cfg.DATALOADER.TEST.SAMPLER,
            data_source=dataset.test,
            batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=build_transform(cfg, is_train=False),
            is_train=False,
            dataset_wrapper=None,
        )
        self.train_loader_u = self.val_loader = None
        self._num_classes, self._num_source_domains = dataset._num_classes, len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset._lab2cname
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)


@TRAINER_REGISTRY.register(force=True)
class ClientMVLPT(ClientCoOp):
    def build_data_loader(self):
        dm = MultiDataManager(self.cfg)
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.num_source_domains = dm.num_classes, dm.num_source_domains
        self.lab2cname, self.dm = dm.lab2cname, dm

    @torch.no_grad()
    def test(self, split=None):
        self.set_model_mode("eval")
        self.evaluator.reset()
        self.domains = set()
        for batch in self.test_loader:
            input, label = self.parse_batch_test(batch)
            self.domains |= set(batch["domain"].tolist())
            self.evaluator.process(self.model_inference(input), label)
        results = self.evaluator.evaluate()
        for k, v in results.items():
            self.write_scalar(f"{split}/{k}", v, self.epoch)
        return next(iter(results.values()))


@TRAINER_REGISTRY.register(force=True)
class ClientAdapter(TrainerX):
    """A residual of text features, trained on features of augmented passes, as TaskRes and CLAP do."""

    def build_model(self):
        self.clip_model = load_clip_to_cpu(self.cfg)
        names = self.dm.dataset.classnames
        with torch.no_grad():
            text = self.clip_model.encode_text(clip.tokenize([f"a photo of a {name}." for name in names]))
        self.text = F.normalize(text, dim=-1)
        self.model = nn.Linear(self.text.shape[1], len(names), bias=False)
        nn.init.zeros_(self.model.weight)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("adapter", self.model, self.optim, self.sched)

    def model_inference(self, image):
        features = F.normalize(self.clip_model.encode_image(image), dim=-1)
        return 100 * features @ (self.text + self.model.weight).t()

    def extract(self, reps, transform=None):
        """Features (reps, M, d) and labels (reps, M) of the training images."""
        loader = copy.deepcopy(self.train_loader_x)
        if transform is not None:
            loader.dataset.transform = transform
        loader = DataLoader(copy.deepcopy(loader.dataset), batch_size=4, sampler=self.train_loader_x.sampler)
        features, labels = [], []
        with torch.no_grad():
            for _ in range(reps):
                batches = list(loader)
                order = torch.cat([batch["index"] for batch in batches]).argsort()
                features.append(self.clip_model.encode_image(torch.cat([batch["img"] for batch in batches])[order]))
                labels.append(torch.cat([batch["label"] for batch in batches])[order])
        return torch.stack(features), torch.stack(labels)

    def train(self):
        self.set_model_mode("train")
        features, labels = self.extract(3)
        for _ in range(self.max_epoch):
            for x, y in zip(features, labels, strict=True):
                logits = 100 * F.normalize(x, dim=-1) @ (self.text + self.model.weight).t()
                self.model_backward_and_update(F.cross_entropy(logits, y))
            self.update_lr()
        self.save_model(self.max_epoch - 1, self.output_dir)
        self.test()


def extend_cfg(cfg):
    cfg.TRAINER.CLIENTCOOP = CN()
    cfg.TRAINER.CLIENTCOOP.N_CTX = 4
    cfg.TRAINER.CLIENTCOOP.PREC = "fp32"
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    cfg.DATASET.DATASET = ""


def main(arguments):
    """The main program of CoOp. Returns the trainer."""
    parser = argparse.ArgumentParser()
    for name in ("root", "output-dir", "config-file", "trainer", "model-dir"):
        parser.add_argument(f"--{name}", type=str, default="")
    parser.add_argument("--seed", type=int, default=-1)
    parser.add_argument("--load-epoch", type=int)
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("--no-train", action="store_true")
    parser.add_argument("opts", default=None, nargs=argparse.REMAINDER)
    args = parser.parse_args(arguments)
    cfg = get_cfg_default()
    extend_cfg(cfg)
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.DATASET.ROOT, cfg.OUTPUT_DIR, cfg.TRAINER.NAME = args.root, args.output_dir, args.trainer
    cfg.SEED = args.seed
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    setup_logger(cfg.OUTPUT_DIR)
    print(collect_env_info())
    trainer = build_trainer(cfg)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.result = trainer.test()
    elif not args.no_train:
        trainer.train()
    return trainer
