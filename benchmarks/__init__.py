"""What the exact text tower saves, measured against the published way in one process, see docs/performance.md; and the
methods against each other, see docs/methods.md.

python -m benchmarks.text_tower --suite plant6 --backbone RN50         forward and backward of the text tower
python -m benchmarks.train_step --suite general10 --backbone RN50      one training step of SoftCPT at batch 32
python -m benchmarks.evaluate --suite plant6 --backbone RN50           an evaluation of 20 batches
python -m benchmarks.cocoop --backbone RN50                            the text side of a batch of CoCoOp
python -m benchmarks.visual_prompts --backbone ViT-B/16                prompts in the image tower, images of many tasks
python -m benchmarks.methods --suite plant6 --backbone RN50            a step of every method relative to CoOp's
python -m benchmarks.growth --suite general10 --backbone RN50          cost against classes, tasks, context length

Weights are random, of the real geometry; names are synthetic, of realistic length. Nothing is downloaded.
"""

import dassl  # noqa: F401  before the packages it needs: it says which are missing
