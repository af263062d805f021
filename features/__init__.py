"""Store image features on disk (`store`) and load them in place of images (`loader`)."""

from dassl import program  # first, because dassl reports which required packages are missing

if program.runs(__name__):
    program.begin()
