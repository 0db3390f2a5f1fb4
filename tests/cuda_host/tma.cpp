// TMA as the PTX manual defines it: tiled and im2col mode, zeros for what is outside the tensor, 128-byte
// swizzle.
#include "tma.h"

#include <cstring>
#include <deque>
#include <vector>

#include "hopper_host.h"
#include "tensor_map.h"

namespace cuda_host {
namespace {

constexpr size_t kRow = 128;  // bytes, of the swizzle

struct Copy {
  size_t to;
  std::vector<unsigned char> bytes;  // rows as the tensor has them
  Phase phase;
};
std::deque<Copy>& under_way() {
  static auto* const copies = new std::deque<Copy>;
  return *copies;
}

void finish(const Copy& copy) {
  for (size_t i = 0; i < copy.bytes.size(); i += 16) {
    const size_t at = copy.to + i;
    write_async(at ^ (at / kRow % 8 * 16), copy.bytes.data() + i, 16);
  }
  bytes_came(copy.phase, static_cast<int64_t>(copy.bytes.size()));
}

void begin(uint32_t to, uint32_t barrier, std::vector<unsigned char> bytes) {
  if (to % kRow != 0) report("TMA writes to address %u, which is no multiple of %zu", to, kRow);
  if (bytes.size() % kRow != 0) report("TMA writes rows that are no %zu bytes long", kRow);
  const Phase phase = phase_of(barrier);
  expect_async(to, bytes.size(), phase);
  under_way().push_back({to, std::move(bytes), phase});
  if (control().order != 0) finish_a_copy();
}

MapContents contents_of(const cnnext::cuda::TensorMap& map, bool is_im2col, int rank) {
  MapContents m;
  std::memcpy(&m, &map, sizeof(m));
  if (m.mark != kMapMark || m.is_im2col != is_im2col || m.rank != rank) {
    report("this is no tensor map of %d axes in %s mode", rank, is_im2col ? "im2col" : "tiled");
  }
  return m;
}

// To the nearest of 10 bits of fraction, ties to even; not finite values stay (docs/CUDA.md).
void round_to_tf32(unsigned char* value) {
  uint32_t bits;
  std::memcpy(&bits, value, 4);
  if ((bits & 0x7f800000u) == 0x7f800000u) return;
  bits = (bits + 0xfffu + (bits >> 13 & 1)) & ~0x1fffu;
  std::memcpy(value, &bits, 4);
}

// `count` elements along axis 0 from `first` on, at these places of the other axes.
void append_row(std::vector<unsigned char>* bytes, const MapContents& m, int64_t first, int count,
                const int64_t (&places)[5]) {
  bool inside = true;
  const unsigned char* from = m.address;
  for (int axis = 1; axis < m.rank; ++axis) {
    inside = inside && places[axis] >= 0 && places[axis] < m.sizes[axis];
    if (inside) from += static_cast<uint64_t>(places[axis]) * m.strides[axis - 1];
  }
  for (int64_t i = first; i < first + count; ++i) {
    const bool is_there = inside && i >= 0 && i < m.sizes[0];
    unsigned char value[4] = {};
    if (is_there) std::memcpy(value, from + i * m.element, m.element);
    if (m.rounds) round_to_tf32(value);
    bytes->insert(bytes->end(), value, value + m.element);
  }
}

}  // namespace

void start_tma() { under_way().clear(); }

bool finish_a_copy() {
  if (under_way().empty()) return false;
  finish(under_way().front());
  under_way().pop_front();
  return true;
}

}  // namespace cuda_host

namespace cnnext::cuda {

void async_proxy_fence(const char* file, int line) {
  if (!::cuda_host::is_skipped({file, line})) ++::cuda_host::proxy_fences();
}

void load_box_at(const TensorMap& map, uint32_t to, uint32_t barrier, int rank, const int* first) {
  const ::cuda_host::MapContents m = ::cuda_host::contents_of(map, false, rank);
  std::vector<unsigned char> bytes;
  int at[5] = {};
  for (bool more = true; more;) {
    int64_t places[5] = {};
    for (int axis = 1; axis < rank; ++axis) places[axis] = int64_t{first[axis]} + at[axis];
    ::cuda_host::append_row(&bytes, m, first[0], m.box[0], places);
    more = false;
    for (int axis = 1; axis < rank && !more; ++axis) {
      more = ++at[axis] < m.box[axis];
      if (!more) at[axis] = 0;
    }
  }
  ::cuda_host::begin(to, barrier, std::move(bytes));
}

void load_pixels_at(const TensorMap& map, uint32_t to, uint32_t barrier, const int* first, int column_offset,
                    int row_offset) {
  const ::cuda_host::MapContents m = ::cuda_host::contents_of(map, true, 4);
  if (column_offset < 0 || column_offset > 255 || row_offset < 0 || row_offset > 255) {
    ::cuda_host::report("TMA's offsets are %d and %d", column_offset, row_offset);
  }
  const int64_t last[2] = {int64_t{m.sizes[1]} - 1 + m.upper[0], int64_t{m.sizes[2]} - 1 + m.upper[1]};
  int64_t column = first[1], row = first[2], image = first[3];
  if (column < m.lower[0] || column > last[0] || row < m.lower[1] || row > last[1] || image < 0) {
    ::cuda_host::report("TMA begins at column %d and row %d, which the box does not have", first[1],
                        first[2]);
  }
  std::vector<unsigned char> bytes;
  for (int i = 0; i < m.box[1]; ++i) {
    ::cuda_host::append_row(&bytes, m, first[0], m.box[0],
                            {0, column + column_offset, row + row_offset, image, 0});
    column += m.steps[1];
    if (column <= last[0]) continue;
    column = m.lower[0];
    row += m.steps[2];
    if (row <= last[1]) continue;
    row = m.lower[1];
    ++image;
  }
  ::cuda_host::begin(to, barrier, std::move(bytes));
}

}  // namespace cnnext::cuda
