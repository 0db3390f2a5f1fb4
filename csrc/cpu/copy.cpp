// Copies between orders: runs that are contiguous on both sides by memcpy, and transpositions of 4-byte
// elements by blocks in registers. What is neither goes to ref.
#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/cpu.h"
#include "cpu/ops_ukernels.h"
#include "cpu/ukernels.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskElements = 65536;

struct Axis {
  int64_t extent, src, dst;
};

// The axes longer than 1, by dst's stride from the largest, neighbours merged where both sides allow.
struct Axes {
  Axis list[CNNEXT_MAX_NDIM];
  int count = 0;

  explicit Axes(const CopyDesc& d) {
    for (int i = 0; i < d.src.ndim; ++i) {
      const Axis axis{d.src.shape[i], d.src.strides[i], d.dst.strides[i]};
      if (axis.extent == 1) continue;
      int j = count++;
      for (; j > 0 && list[j - 1].dst < axis.dst; --j) list[j] = list[j - 1];
      list[j] = axis;
    }
    int kept = 0;
    for (int i = 1; i < count; ++i) {
      Axis &outer = list[kept], &inner = list[i];
      if (outer.src == inner.src * inner.extent && outer.dst == inner.dst * inner.extent) {
        outer = {outer.extent * inner.extent, inner.src, inner.dst};
      } else {
        list[++kept] = inner;
      }
    }
    if (count) count = kept + 1;
  }

  Axis take(int at) {
    const Axis taken = list[at];
    for (int i = at; i + 1 < count; ++i) list[i] = list[i + 1];
    --count;
    return taken;
  }
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < count; ++i) n *= list[i].extent;
    return n;
  }
  // Offsets of the index-th element in row-major order of the axes.
  std::pair<int64_t, int64_t> at(int64_t index) const {
    int64_t src = 0, dst = 0;
    for (int i = count - 1; i >= 0; --i) {
      src += index % list[i].extent * list[i].src;
      dst += index % list[i].extent * list[i].dst;
      index /= list[i].extent;
    }
    return {src, dst};
  }
};

void copy_runs(const CopyDesc& d, Axes outer, const Axis& run, Exec& exec) {
  const int64_t size = dtype_size(d.src.dtype), runs = outer.size();
  const char* src = static_cast<const char*>(d.src.data);
  char* dst = static_cast<char*>(d.dst.data);
  // Long runs are cut, short ones share a task.
  const int64_t part = std::min(run.extent, kTaskElements), parts = (run.extent + part - 1) / part;
  const int64_t group = std::max<int64_t>(1, kTaskElements / run.extent);
  exec.parallel_for((runs + group - 1) / group * parts, [&](int64_t task) {
    const int64_t begin = task % parts * part, count = std::min(part, run.extent - begin);
    const int64_t first = task / parts * group;
    for (int64_t r = first; r < std::min(runs, first + group); ++r) {
      const auto [from, to] = outer.at(r);
      std::memcpy(dst + (to + begin) * size, src + (from + begin) * size, static_cast<size_t>(count * size));
    }
  });
}

// `rows` is contiguous in dst and `cols` in src. Bits are moved as floats: nothing computes with them.
void transpose(const CopyDesc& d, const Axes& outer, const Axis& rows, const Axis& cols, Exec& exec) {
  const float* src = static_cast<const float*>(d.src.data);
  float* dst = static_cast<float*>(d.dst.data);
  const int64_t matrices = outer.size();
  const int64_t part = std::clamp<int64_t>(kTaskElements / rows.extent / 64 * 64, 64, cols.extent + 63);
  const int64_t parts = (cols.extent + part - 1) / part;
  const int64_t group = parts > 1 ? 1 : std::max<int64_t>(1, kTaskElements / (rows.extent * cols.extent));
  exec.parallel_for((matrices + group - 1) / group * parts, [&](int64_t task) {
    const int64_t begin = task % parts * part, count = std::min(part, cols.extent - begin);
    const int64_t first = task / parts * group;
    for (int64_t m = first; m < std::min(matrices, first + group); ++m) {
      const auto [from, to] = outer.at(m);
      ukernels().conv_pack.transpose(
          {src + from + begin, rows.src, rows.extent, count, dst + to + begin * cols.dst, cols.dst});
    }
  });
}

}  // namespace

Ran cpu_copy(const CopyDesc& d, Exec& exec) {
  if (numel(d.src) == 0) return Ran::kUnsupported;
  Axes axes(d);
  if (axes.count == 0 || (axes.list[axes.count - 1].src == 1 && axes.list[axes.count - 1].dst == 1)) {
    const Axis run = axes.count ? axes.take(axes.count - 1) : Axis{1, 1, 1};
    copy_runs(d, axes, run, exec);
    exec.ran("cpu/copy_runs");
    return Ran::kDone;
  }
  if (dtype_size(d.src.dtype) != 4 || axes.list[axes.count - 1].dst != 1) return Ran::kUnsupported;
  for (int i = 0; i + 1 < axes.count; ++i) {
    if (axes.list[i].src != 1) continue;
    const Axis rows = axes.take(axes.count - 1), cols = axes.take(i);
    transpose(d, axes, rows, cols, exec);
    exec.ran(CNNEXT_KERNEL_NAME("copy_transposed"));
    return Ran::kDone;
  }
  return Ran::kUnsupported;
}

}  // namespace cnnext
