#!/usr/bin/env bash
# Makes the extension in FOLDER, which bench/gpu_build.sh made, for another version of Python than it was made for:
#   bench/gpu_extension.sh FOLDER [PYTHON]
# It takes a C++ compiler and that Python's headers, and nothing from the network.
set -euo pipefail
folder=${1:-}
python=${2:-${PYTHON:-python3}}
if [ ! -e "$folder/cnnext/libcnnext.so" ] || [ ! -d "$folder/pybind11" ]; then
  echo "usage: $0 FOLDER [PYTHON] (no cnnext/libcnnext.so, or no pybind11, in '$folder')" >&2
  exit 2
fi
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."
objects=$(mktemp -d "${TMPDIR:-/tmp}/cnnext-extension.XXXXXX")
trap 'rm -rf "$objects"' EXIT
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
compiler=${CXX:-c++}
export compiler objects headers folder
# shellcheck disable=SC2016  # for the shells that xargs starts
printf '%s\0' csrc/bindings/*.cpp | xargs -0 -P "$(getconf _NPROCESSORS_ONLN)" -I{} bash -c \
  '"$compiler" -std=c++17 -O2 -DNDEBUG -fPIC -fvisibility=hidden -Icsrc/include -Icsrc -I"$folder" -isystem "$headers" \
    -c "$1" -o "$objects/$(basename "$1").o"' _ {}
"$compiler" -shared "$objects"/*.o -L"$folder/cnnext" -lcnnext '-Wl,-rpath,$ORIGIN' -o "$objects/extension"
mv "$objects/extension" "$folder/cnnext/_C$suffix"
