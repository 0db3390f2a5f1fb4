#!/usr/bin/env bash
# The Python tests on the address- and undefined-behaviour-sanitized build (CMake preset asan):
#   tools/run_asan_tests.sh BUILD_DIR [pytest arguments]
# Python itself is not built with the sanitizer, so its run time is loaded first; libstdc++ beside it, because the
# sanitizer wants to see exceptions from the start. Leaks are not looked for: Python leaves plenty at exit.
set -euo pipefail
if [ $# -lt 1 ] || [ ! -e "$1/libcnnext.so" ]; then
  echo "usage: $0 BUILD_DIR [pytest arguments] (no libcnnext.so in '${1:-}')" >&2
  exit 2
fi
build=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/cnnext-asan.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The package as it would be installed, from the sources and the sanitized libraries.
cp -r python/cnnext "$work/cnnext"
cp "$build"/libcnnext.so "$build"/_C*.so "$work/cnnext/"

compiler=${CXX:-c++}
preload="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libstdc++.so.6)"
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
export PYTHONMALLOC=malloc  # every array has a block of its own, so that overflows are found
export PYTHONPATH="$work" PYTHONDONTWRITEBYTECODE=1
export CNNEXT_SANITIZED=1

# An editable installation puts its own finder first: make sure that what is tested is the sanitized build.
used=$(LD_PRELOAD=$preload python -c 'import cnnext; print(cnnext.__path__[0])')
if [ "$used" != "$work/cnnext" ]; then
  echo "$0: Python imports cnnext from $used; uninstall it or use another virtual environment" >&2
  exit 1
fi
LD_PRELOAD=$preload python -m pytest -q -p no:cacheprovider tests "$@"
