#!/usr/bin/env bash
# Builds the wheel, installs it without its dependencies into an environment of its own, beside those of the given Python, and
# trains one step from an empty folder: what is installed is complete.
set -euo pipefail
python=$(realpath -s "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/dist" "$root"
"$python" -m venv "$work/venv"
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$work"/dist/*.whl
# The dependencies, without the editable install of this project: a plain path entry reads no .pth files.
echo "$packages" > "$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"

mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/python" -c "
import vgg_nll
assert vgg_nll.__file__.startswith('$work/venv'), vgg_nll.__file__"
"$work/venv/bin/vgg-nll" loss=all_logit model.width=0.25 trainer.steps=1 name=installed
test -e runs/installed/*/DONE
"$work/venv/bin/python" -c "
import glob, vgg_nll
trained = vgg_nll.load(glob.glob('runs/installed/*')[0])
assert trained.step == 1 and len(trained.class_names) == 10"
echo "the wheel trains"
