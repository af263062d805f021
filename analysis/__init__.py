"""What finished runs show beside their results: `python -m analysis.<name> RUN ...`."""
