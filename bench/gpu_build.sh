#!/usr/bin/env bash
# Builds cnnext with CUDA into a folder to carry to a machine with a GPU; nothing has to be built or fetched there.
#   bench/gpu_build.sh FOLDER [--arch 90a] [--python PYTHON] [--jobs N] [--work FOLDER]
# FOLDER/cnnext is the package with its libraries, for PYTHONPATH=FOLDER. --arch: one or more of CMake's
# CNNEXT_CUDA_ARCHITECTURES, with ";" between them, or native for the GPU that is here. --work: a build folder that
# stays, so that the next build is short. The extension is for PYTHON's version alone: FOLDER/pybind11 has what
# bench/gpu_extension.sh makes another from.
set -euo pipefail
usage() {
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
folder="" arch=90a python=${PYTHON:-python3} jobs=$(getconf _NPROCESSORS_ONLN) work=""
while [ $# -gt 0 ]; do
  case $1 in
    --arch | --python | --jobs | --work)
      [ $# -ge 2 ] || usage
      declare "${1#--}=$2"
      shift
      ;;
    -*) usage ;;
    *)
      [ -z "$folder" ] || usage
      folder=$1
      ;;
  esac
  shift
done
[ -n "$folder" ] || usage
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "$work" ]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/cnnext-gpu.XXXXXX")
  trap 'rm -rf "$work"' EXIT
fi

if [ "$arch" = native ]; then
  major_minor=$(cd "$root" && "$python" -c 'from bench.cuda.driver import Driver; print(Driver().describe()["capability"])')
  arch=${major_minor//./}
  if [ "$arch" = 90 ]; then arch=90a; fi
fi
generator=()
if command -v ninja >/dev/null && [ ! -e "$work/CMakeCache.txt" ]; then generator=(-G Ninja); fi
cmake -S "$root" -B "$work" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DCNNEXT_CUDA=ON \
  "-DCNNEXT_CUDA_ARCHITECTURES=$arch" "-DPython_EXECUTABLE=$(command -v "$python")" -DCNNEXT_BUILD_TESTS=OFF
cmake --build "$work" --parallel "$jobs"

rm -rf "$folder/cnnext" "$folder/pybind11"
cp -r "$root/python/cnnext" "$folder/cnnext"
find "$folder/cnnext" -name __pycache__ -type d -prune -exec rm -r {} +
cp "$work"/libcnnext.so "$work"/libcnnext_cuda.so "$work"/_C*.so "$folder/cnnext/"
strip --strip-unneeded "$folder"/cnnext/*.so
cp -r "$("$python" -c 'import pybind11; print(pybind11.get_include())')/pybind11" "$folder/pybind11"
du -sh "$folder"
