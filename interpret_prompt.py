"""Print the words nearest to the learned contexts of a finished run.

    python interpret_prompt.py output/icon5/MTCoOp/tiny_ep20_4shots/cnctx0_..._loss/seed1 --topk 5

A checkpoint and a number, as for CoOp's program, are also accepted: `FILE 3`.

For each vector of each context, the words of the vocabulary with the nearest token embeddings. Contexts are shared, per
task or per class, learned or generated (SoftCPT), including task and class prompts. A word that ends in "-" is the
beginning of longer words.
"""

from dassl import program  # isort: skip

if __name__ == "__main__":
    program.begin()  # before the slow imports

import argparse
import json
import os
import sys
from collections.abc import Callable

import numpy as np
import torch

from analysis.runs import open_run
from dassl.config import method_name
from dassl.utils import UserError
from dassl.utils.arguments import Parser
from trainers.prompts import named_contexts

METRICS = ("euclidean", "cosine")


class Vocabulary:
    """The words of a text tower with their token embeddings (V, D); words with equal embeddings are one entry.

    `word` gives a token as text.

    The embedded model has a single embedding for all words that it was not trained on.
    """

    def __init__(self, table: torch.Tensor, word: Callable[[int], str]):
        self.word = word
        rows = np.ascontiguousarray(table.detach().float().cpu().numpy())  # (V, D)
        as_bytes = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
        _, first, count = np.unique(as_bytes, return_index=True, return_counts=True)
        order = first.argsort()
        self.ids, self.count = first[order], count[order]
        self.table = torch.from_numpy(rows[self.ids])

    def nearest(self, context: torch.Tensor, topk: int, metric: str) -> list[list[dict]]:
        """The `topk` nearest words of each vector of a context (L, D), nearest first: {"word", "distance", "others"}.

        `distance` is euclidean, or 1 - cosine. `others` is the number of further words with the same embedding.
        """
        x, table = context.detach().float().cpu(), self.table
        if metric == "cosine":
            unit = torch.nn.functional.normalize
            distance = 1 - unit(x, dim=-1) @ unit(table, dim=-1).T  # (L, V)
        else:
            distance = torch.cdist(x, table, compute_mode="donot_use_mm_for_euclid_dist")
        values, places = distance.topk(min(topk, len(table)), largest=False)
        return [
            [
                {"word": self.word(int(self.ids[p])), "distance": round(v, 6), "others": int(self.count[p]) - 1}
                for v, p in zip(*row, strict=True)
            ]
            for row in zip(values.tolist(), places.tolist(), strict=True)
        ]


def interpret(trainer, topk: int = 5, metric: str = "euclidean", classes: int = 5) -> list[dict]:
    """Nearest words of all contexts of a trainer: [{"name", "tokens": a list per vector, see `Vocabulary.nearest`}].

    Args:
        classes: number of classes per task for which contexts per class are interpreted; 0 for all.

    Raises:
        UserError: the method learns no context.
    """
    spans = [trainer.space.columns(t) for t in range(trainer.space.num_tasks)]
    columns = [range(s.start, min(s.stop, s.start + classes) if classes else s.stop) for s in spans]
    select = torch.tensor([c for span in columns for c in span], device=trainer.device)
    with torch.no_grad():
        found = [(name, context.float().cpu()) for name, context in named_contexts(trainer.model, select)]
    if not found:
        raise UserError(f"{method_name(trainer.cfg)} learns no context, so no prompt can be interpreted")
    vocabulary = Vocabulary(trainer.clip.token_embedding.weight, trainer.clip.tokenizer.word)
    return [{"name": name, "tokens": vocabulary.nearest(context, topk, metric)} for name, context in found]


def show(contexts: list[dict]) -> None:
    for context in contexts:
        print(f"\n{context['name']}")
        for number, words in enumerate(context["tokens"], 1):
            print(f"{number:>4}  " + "  ".join(map(as_text, words)))


def as_text(found: dict) -> str:
    others = " (or {:,} more)".format(found["others"]) if found["others"] else ""
    return f"{found['word']}{others} {found['distance']:.4f}"


def run_of(path: str, epoch: int | None) -> tuple[str, int | None]:
    """The folder of the run and the epoch (None: the best or newest) of a run's folder or checkpoint.

    Raises:
        UserError: a checkpoint of an epoch other than `epoch`.
    """
    if not os.path.isfile(path):
        return path, epoch
    number = os.path.basename(path).removeprefix("model.pth.tar-")
    named = int(number) if number.isdecimal() else None
    if None not in (named, epoch) and named != epoch:
        raise UserError(f"{path} is the checkpoint of epoch {named}, --load-epoch is {epoch}; give one of them")
    return os.path.dirname(os.path.dirname(os.path.abspath(path))), named if epoch is None else epoch


def at_least(least: int):
    """Type of an argument: a whole number of at least `least`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least {least}")
        return int(text)

    return read


@program.entry
def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, or one of its checkpoints")
    parser.add_argument("words", metavar="N", type=at_least(1), nargs="?", help="the same as --topk, as in CoOp")
    parser.add_argument("--topk", metavar="N", type=at_least(1), default=5, help="words per vector (default 5)")
    parser.add_argument(
        "--metric", choices=METRICS, default=METRICS[0], help="distance (default, as published: euclidean)"
    )
    parser.add_argument(
        "--classes",
        metavar="N",
        type=at_least(0),
        default=5,
        help="first classes per task, for contexts per class (default 5, 0: all)",
    )
    parser.add_argument(
        "--load-epoch", metavar="N", type=int, help="which checkpoint (default: the best or newest one)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)

    options.run, epoch = run_of(options.run, options.load_epoch)
    trainer = open_run(options.run, epoch)
    contexts = interpret(trainer, options.words or options.topk, options.metric, options.classes)
    head = {
        "run": options.run,
        "trainer": trainer.cfg.TRAINER.NAME,
        "method": method_name(trainer.cfg),
        "epoch": trainer.epochs_done,
    }
    if options.json:
        print(json.dumps({**head, "metric": options.metric, "contexts": contexts}, indent=2, ensure_ascii=False))
    else:
        print(f"{head['method']}, epoch {head['epoch']}; nearest words, {options.metric} distance")
        show(contexts)


if __name__ == "__main__":
    sys.exit(main())
