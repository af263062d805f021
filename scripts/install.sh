#!/bin/sh
# Installs the requirements and does nothing else: requirements.txt into .venv, or its missing packages into $PYTHON:
#   sh scripts/install.sh

SCRIPT=install.sh
. "$(dirname -- "$0")/python.sh"
if [ $# -gt 0 ]; then stop "takes no arguments"; fi

prepare_python
echo "all packages of requirements.txt are installed: $PYTHON"
