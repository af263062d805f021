#!/bin/sh
# Installs what is needed and does nothing else: .venv with requirements.txt, or what the interpreter $PYTHON lacks:
#   sh scripts/install.sh

. "$(dirname -- "$0")/lib.sh"
if [ $# -gt 0 ] || [ -n "$DRY_RUN$OVERWRITE" ]; then stop "takes no arguments"; fi

prepare_python
echo "everything of requirements.txt is there: $PYTHON"
