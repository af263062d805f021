"""What a program that reads datasets tells its user about data that are missing or unusable."""

from __future__ import annotations

from datasets.reading import UnusableData


def explained(error: Exception) -> Exception:
    """`error`; if it is about datasets, with the doctor's text: where they were looked for and how to fix it."""
    if isinstance(error, UnusableData):
        from datasets.doctor.report import explain  # runs without mistakes never import the doctor

        error.args = (explain(error),)
    return error
