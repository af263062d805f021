"""Benchmarks: the exact towers against the published way (docs/performance.md), and all methods (docs/methods.md).

python -m benchmarks.text_tower --suite plant6 --backbone RN50         forward and backward pass of the text tower
python -m benchmarks.train_step --suite general10 --backbone RN50      one training step of SoftCPT at batch 32
python -m benchmarks.evaluate --suite plant6 --backbone RN50           an evaluation of 20 batches
python -m benchmarks.cocoop --backbone RN50                            text side of a batch of CoCoOp
python -m benchmarks.visual_prompts --backbone ViT-B/16                prompts in the image tower, several tasks
python -m benchmarks.visual_prompts --tasks 1 --methods                image side of a step of MaPLe, MMRL, ...
python -m benchmarks.low_rank --backbone ViT-B/16                      low-rank changes in the image tower
python -m benchmarks.methods --suite plant6 --backbone RN50            a step of each method relative to CoOp
python -m benchmarks.growth --suite general10 --backbone RN50          cost against classes, tasks and context length

Weights are random with the real shapes; class names are synthetic with realistic lengths. Nothing is downloaded.
"""

from dassl import program  # first, because dassl reports which required packages are missing

if program.runs(__name__):
    program.begin()
