"""The folder of a run: the only place that knows the names and the contents of its files.

`record` reads results.json, config.yaml and tasks.json and imports no PyTorch; `writer` writes them; `folder` prepares
and locks the folder; `checkpoints` saves and loads models; `open` opens a finished run again.
"""
