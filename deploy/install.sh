#!/bin/sh
# Install one part of Affiant into a folder, as its image has it: deploy/install.sh registry /opt/affiant
# Versions and hashes are those of requirements.lock. Run from the repository's root, with uv on the PATH.
set -eu
part=$1 folder=$2 python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Which packages this part needs …
uv pip compile --quiet --no-annotate --no-header --no-emit-package affiant --only-binary :all: --python-version 3.11 \
    --constraint requirements.lock --extra "$part" pyproject.toml > "$scratch/names"
# … and their lines in the lock.
"$python" deploy/pins.py "$scratch/names" requirements.lock > "$scratch/pins"

uv venv --quiet --python "$python" "$folder"
uv pip install --quiet --python "$folder/bin/python" --no-deps --require-hashes --only-binary :all: --compile-bytecode \
    --requirement "$scratch/pins"
uv pip install --quiet --python "$folder/bin/python" --no-deps --compile-bytecode .
