// Max-pool of bytes: vectors over the channels of a pixel, or over a row of outputs, from strips of image
// rows that are padded and split by stride. The argmax is found as taps, of which plane indices are made.
#include "cpu/max_pool_bytes.h"

#include <cstring>

#include "cpu/max_pool_grad.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kTaskOutputs = 16384;
constexpr int64_t kMostSpread = 8;  // of a row's windows and padding beside what it holds

struct Problem {
  const Pool2dDesc& d;
  const WindowTaps *rows, *columns;  // by p and by q
  bool is_signed, planes;            // planes: the argmax is wanted as plane indices
  int64_t strip, phase;              // bytes of an image row's strip, and of one phase in it
  uint8_t* first;                    // column of each output's first valid tap, kNoTapByte where none is
  int64_t* tap_offsets;              // of a strip's taps, by column; -1 for those beyond the image
  int32_t *corners, *no_corners;     // columns of the windows' corners; zeros

  Problem(const Pool2dDesc& desc, Exec& exec)
      : d(desc),
        rows(window_table({d.H, d.P, d.R, d.stride_h, d.pad_top, d.dilation_h}, exec)),
        columns(window_table({d.W, d.Q, d.S, d.stride_w, d.pad_left, d.dilation_w}, exec)),
        is_signed(d.dtype == CNNEXT_INT8),
        planes(present(d.indices) && d.index_kind == CNNEXT_INDEX_PLANE),
        first(exec.scratch_array<uint8_t>(d.Q)),
        tap_offsets(exec.scratch_array<int64_t>(d.S)),
        corners(exec.scratch_array<int32_t>(d.Q)),
        no_corners(exec.scratch_array<int32_t>(d.C)) {
    const int64_t reach = d.Q + (d.S - 1) * d.dilation_w / d.stride_w;
    phase = round_up(std::max(reach, (d.W - 1 + d.pad_left) / d.stride_w + 1), 64);
    strip = phase * std::min(d.stride_w, d.W + d.pad_left);
    for (int64_t q = 0; q < d.Q; ++q) {
      first[q] = columns[q].begin < columns[q].end ? static_cast<uint8_t>(columns[q].begin) : kNoTapByte;
      corners[q] = static_cast<int32_t>(columns[q].start);
    }
    for (int64_t c = 0; c < d.S; ++c) {
      const int64_t w = c * d.dilation_w, offset = w % d.stride_w * phase;
      tap_offsets[c] = offset < strip ? offset + w / d.stride_w : -1;
    }
    std::fill_n(no_corners, d.C, 0);
  }

  const uint8_t* x() const { return static_cast<const uint8_t*>(d.x.data); }
  uint8_t* y() const { return static_cast<uint8_t*>(d.y.data); }
  uint8_t least() const { return is_signed ? 0x80 : 0; }

  // Stores the taps of outputs from `at` on, whose windows' corners are corner + corners[i].
  void put(const uint8_t* taps, int64_t count, int64_t at, uint32_t corner, const int32_t* places_of,
           int32_t* places) const {
    if (!present(d.indices)) return;
    if (!planes) {
      std::memcpy(static_cast<uint8_t*>(d.indices.data) + at, taps, static_cast<size_t>(count));
      return;
    }
    ops_ukernels().max_pool_grad.places_of_taps({taps, count, corner, places_of, d.S,
                                                 low_place(d.dilation_h, d.W),
                                                 static_cast<uint32_t>(d.dilation_w), places});
    std::copy_n(places, count, static_cast<int64_t*>(d.indices.data) + at);
  }
};

// The scratch of a strand.
struct Scratch {
  const uint8_t** taps;
  uint8_t *numbers, *first, *found, *strips;
  int32_t* places;
  int64_t floats;

  Scratch(const Problem& p, int64_t outputs, int64_t strips_bytes, void* base) {
    ScratchParts parts(base);
    taps = parts.take<const uint8_t*>(p.d.R * p.d.S);
    numbers = parts.take<uint8_t>(p.d.R * p.d.S);
    first = parts.take<uint8_t>(outputs);
    found = parts.take<uint8_t>(outputs);
    places = parts.take<int32_t>(p.planes ? outputs : 0);
    strips = parts.take<uint8_t>(strips_bytes);
    floats = parts.floats();
  }
};

void run(const MaxPoolBytes& a) { ops_ukernels().max_pool_bytes.run(a); }

void pixel(const Problem& problem, int64_t n, int64_t p, int64_t q, const Scratch& s) {
  const Pool2dDesc& d = problem.d;
  const WindowTaps &rows = problem.rows[p], &columns = problem.columns[q];
  const int64_t at = ((n * d.P + p) * d.Q + q) * d.C;
  int64_t taps = 0;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = columns.begin; c < columns.end; ++c) {
      s.taps[taps] = problem.x() + ((n * d.H + rows.at(r)) * d.W + columns.at(c)) * d.C;
      s.numbers[taps++] = static_cast<uint8_t>(r * d.S + c);
    }
  }
  if (taps == 0) s.numbers[0] = kNoTapByte;
  run({s.taps, s.numbers, taps, d.C, problem.is_signed, nullptr, problem.y() + at, s.found});
  problem.put(s.found, d.C, at, low_place(rows.start, d.W, columns.start), problem.no_corners, s.places);
}

// Every step-th byte; a kStep other than 0 is the step, known to the compiler.
template <int kStep>
void pick(const uint8_t* __restrict from, int64_t count, int64_t step, uint8_t* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * (kStep ? kStep : step)];
}

// Rows [begin, end) of a plane's outputs.
void plane_rows(const Problem& problem, int64_t plane, int64_t begin, int64_t end, const Scratch& s) {
  const Pool2dDesc& d = problem.d;
  const int64_t top = std::max<int64_t>(problem.rows[begin].start, 0);
  const int64_t bottom = std::min(d.H, problem.rows[end - 1].at(d.R - 1) + 1);
  for (int64_t h = top; h < bottom; ++h) {
    const uint8_t* row = problem.x() + (plane * d.H + h) * d.W;
    uint8_t* const strip = s.strips + (h - top) * problem.strip;
    if (d.stride_w == 1) {
      std::memcpy(strip + d.pad_left, row, static_cast<size_t>(d.W));
      continue;
    }
    for (int64_t k = 0; k < std::min(d.stride_w, d.W); ++k) {
      const int64_t place = k + d.pad_left, count = ceil_div(d.W - k, d.stride_w);
      uint8_t* const to = strip + place % d.stride_w * problem.phase + place / d.stride_w;
      d.stride_w == 2 ? pick<2>(row + k, count, 2, to) : pick<0>(row + k, count, d.stride_w, to);
    }
  }
  for (int64_t p = begin; p < end; ++p) {
    const WindowTaps& rows = problem.rows[p];
    int64_t taps = 0;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t c = 0; c < d.S; ++c) {
        if (problem.tap_offsets[c] < 0) continue;
        s.taps[taps] = s.strips + (rows.at(r) - top) * problem.strip + problem.tap_offsets[c];
        s.numbers[taps++] = static_cast<uint8_t>(r * d.S + c);
      }
    }
    const int base = static_cast<int>(rows.begin < rows.end ? rows.begin * d.S : kNoTapByte);
    for (int64_t q = 0; q < d.Q; ++q) {
      const int tap = problem.first[q] == kNoTapByte ? kNoTapByte : base + problem.first[q];
      s.first[q] = static_cast<uint8_t>(base == kNoTapByte ? base : tap);
    }
    const int64_t at = (plane * d.P + p) * d.Q;
    run({s.taps, s.numbers, taps, d.Q, problem.is_signed, s.first, problem.y() + at, s.found});
    problem.put(s.found, d.Q, at, low_place(rows.start, d.W), problem.corners, s.places);
  }
}

}  // namespace

Ran max_pool_bytes_forward(const Pool2dDesc& d, Exec& exec) {
  if (d.R * d.S > kMostTaps || d.H * d.W > INT32_MAX / 2) return Ran::kUnsupported;
  // Strips are as wide as that.
  if ((d.S - 1) * d.dilation_w / kMostSpread > d.W + d.Q || d.pad_left / kMostSpread > d.W + d.Q) {
    return Ran::kUnsupported;
  }
  const Problem problem(d, exec);
  const bool pixels = d.format == Format::kNHWC;
  const int64_t row = d.Q * (pixels ? d.C : 1), images = pixels ? d.N : d.N * d.C;
  const int64_t block = std::clamp<int64_t>(kTaskOutputs / row, 1, d.P), blocks = ceil_div(d.P, block);
  const int64_t group = std::clamp<int64_t>(kTaskOutputs / (row * block), 1, images);
  const int64_t image_rows = std::min(d.H, (block - 1) * d.stride_h + (d.R - 1) * d.dilation_h + 1);
  const int64_t strips = pixels ? 0 : image_rows * problem.strip + 64;
  const int64_t outputs = pixels ? d.C : d.Q, floats = Scratch(problem, outputs, strips, nullptr).floats;
  parallel_strands(exec, ceil_div(images, group) * blocks, floats, [&](int64_t task, float* memory) {
    const Scratch scratch(problem, outputs, strips, memory);
    std::memset(scratch.strips, problem.least(), static_cast<size_t>(strips));
    const int64_t begin = task % blocks * block, end = std::min(d.P, begin + block);
    const int64_t first = task / blocks * group;
    for (int64_t image = first; image < std::min(images, first + group); ++image) {
      if (!pixels) plane_rows(problem, image, begin, end, scratch);
      for (int64_t i = begin * d.Q; pixels && i < end * d.Q; ++i)
        pixel(problem, image, i / d.Q, i % d.Q, scratch);
    }
  });
  exec.ran(CNNEXT_KERNEL_NAME("max_pool2d_bytes"));
  return Ran::kDone;
}

}  // namespace cnnext
