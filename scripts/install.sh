#!/bin/sh
# Installs the requirements and does nothing else: requirements.txt into .venv, or its missing packages into $PYTHON:
#   sh scripts/install.sh

. "$(dirname -- "$0")/lib.sh"
if [ $# -gt 0 ] || [ -n "$DRY_RUN$OVERWRITE" ]; then stop "takes no arguments"; fi

prepare_python
echo "all packages of requirements.txt are installed: $PYTHON"
