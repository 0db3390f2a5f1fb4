#!/usr/bin/env bash
# The Python tests for CUDA, tests/test_cuda_*.py, on the test bed that a CMake build with tests has:
#   tools/run_cuda_bed_tests.sh BUILD_DIR [pytest arguments]
# Python is $PYTHON (python3 if it is not set), with numpy, pytest, hypothesis and ml_dtypes.
set -euo pipefail
bed=${1:-}/tests/cuda_host/libcnnext_cuda_host.so
if [ $# -lt 1 ] || [ ! -e "$bed" ] || ! compgen -G "$1/_C*.so" >/dev/null; then
  echo "usage: $0 BUILD_DIR [pytest arguments] (no $bed, or no _C*.so in '${1:-}')" >&2
  exit 2
fi
build=$(cd "$1" && pwd)
bed=$build/tests/cuda_host/libcnnext_cuda_host.so
shift
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/cnnext-bed.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The package as it would be installed, from the sources and this build's libraries.
cp -r python/cnnext "$work/cnnext"
cp "$build"/libcnnext.so "$build"/_C*.so "$work/cnnext/"
export PYTHONPATH=$work PYTHONDONTWRITEBYTECODE=1
export CNNEXT_CUDA_LIBRARY=$bed CNNEXT_CUDA_DRIVER=$bed CNNEXT_EXPECT_CUDA=1

# An editable installation puts its own finder first: make sure that this build is what is tested.
python=${PYTHON:-python3}
used=$("$python" -c 'import cnnext; print(cnnext.__path__[0])')
if [ "$used" != "$work/cnnext" ]; then
  echo "$0: Python imports cnnext from $used; uninstall it or use another virtual environment" >&2
  exit 1
fi
"$python" -m pytest -q -p no:cacheprovider tests/test_cuda_*.py "$@"
