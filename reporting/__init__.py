"""Finished runs read back: one run (`runs`), seeds of an experiment (`experiments`), statistics, tables.

Standard library only, so that results can be looked at on a machine without PyTorch.
"""
