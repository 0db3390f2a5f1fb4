#!/usr/bin/env bash
# Everything worth knowing of a machine with a GPU in one go, without a network: `bench/gpu_run.sh OUT --site FOLDER`.
# Finds a Python, best one whose torch sees the GPU, and runs bench/gpu_run.py there, which says more (--help).
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLBACKEND=Agg

chosen="" with_numpy=""
for python in ${PYTHON:+"$PYTHON"} python3 python /opt/*/bin/python3 /opt/*/.venv/bin/python3; do
  python=$(command -v "$python") || continue
  found=$("$python" - <<'PY' 2>/dev/null
import importlib.util as u, sys
import numpy
cuda = False
if u.find_spec("torch"):
    import torch
    cuda = torch.cuda.is_available()
has = [name for name in ("torch", "cupy", "pytest", "matplotlib") if u.find_spec(name)]
print(cuda, sys.version.split()[0], *has)
PY
  ) || { echo "gpu_run: $python: no numpy"; continue; }
  echo "gpu_run: $python: torch sees a GPU: $found"
  [ -n "$with_numpy" ] || with_numpy=$python
  case $found in True*) chosen=$python && break ;; esac
done
chosen=${chosen:-$with_numpy}
if [ -z "$chosen" ]; then
  echo "gpu_run: no Python with numpy was found; PYTHON=... names one" >&2
  exit 2
fi
exec "$chosen" "$root/bench/gpu_run.py" "$@"
