#!/usr/bin/env bash
# compute-sanitizer over a small selection of the op cases, on a machine with a GPU:
#   tools/run_sanitizers_gpu.sh [tool ...]          tools: memcheck racecheck initcheck synccheck (all four)
# Python is $PYTHON (python3 if it is not set), with cnnext built with CUDA, pytest, hypothesis, numpy and ml_dtypes.
# SANITIZER names compute-sanitizer where it is not on PATH. A finding fails (1), as does a test; a missing tool or
# device is said (2).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
tools=("$@")
[ $# -gt 0 ] || tools=(memcheck racecheck initcheck synccheck)
for tool in "${tools[@]}"; do
  case $tool in
    memcheck | racecheck | initcheck | synccheck) ;;
    *) echo "$0: '$tool' is none of memcheck, racecheck, initcheck and synccheck" >&2; exit 2 ;;
  esac
done

sanitizer=${SANITIZER:-$(command -v compute-sanitizer || true)}
for folder in "${CUDA_HOME:-}" /usr/local/cuda /opt/cuda; do
  if [ -z "$sanitizer" ] && [ -x "$folder/bin/compute-sanitizer" ]; then sanitizer=$folder/bin/compute-sanitizer; fi
done
if ! command -v "$sanitizer" >/dev/null; then
  echo "$0: compute-sanitizer was not found${sanitizer:+ as $sanitizer}; it comes with the CUDA toolkit" \
    "(PATH, CUDA_HOME or SANITIZER)" >&2
  exit 2
fi
reason=$("$python" -c 'import cnnext; print(cnnext.info().cuda)')
if [ "$reason" != available ]; then
  echo "$0: no CUDA device: $reason" >&2
  exit 2
fi

export CNNEXT_EXPECT_CUDA=1 CNNEXT_CUDA_CASES=few PYTHONDONTWRITEBYTECODE=1
found=()
for tool in "${tools[@]}"; do
  echo "=== $tool"
  options=()
  # Blocks of the memory pool lie side by side: a gap between them finds what leaves one.
  case $tool in memcheck) options=(--padding 256 --track-stream-ordered-races all) ;; esac
  "$sanitizer" --tool "$tool" --error-exitcode 99 --print-limit 20 "${options[@]}" \
    "$python" -m pytest -q -p no:cacheprovider tests/test_cuda_ops.py -k "against_ref" || found+=("$tool ($?)")
done
if [ ${#found[@]} -gt 0 ]; then
  echo "$0: failed: ${found[*]} (99: compute-sanitizer found something)" >&2
  exit 1
fi
echo "nothing was found by ${tools[*]}"
