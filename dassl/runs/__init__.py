"""The folder of a run: the only place that knows the names and the contents of its files.

`record` reads results.json, config.yaml and tasks.json and imports no PyTorch; `writer` writes them; `folder`
prepares and locks the folder; `checkpoints` lists and removes checkpoints, `checkpoint_file` saves and loads one;
`open` opens a finished run again.
"""
