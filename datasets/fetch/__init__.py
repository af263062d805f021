"""Downloading datasets and laying them out. A training run never imports this package."""
