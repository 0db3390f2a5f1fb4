// Copies between any strides. Axes that lie behind one another on both sides are joined first; what is left
// is one run (16 bytes a thread), a transposition through shared memory (NCHW to NHWC and back: the one axis
// runs in memory here, another there), or an element at a time in the destination's order. Where one of the
// two axes of a transposition is short (the three colours of an image), a thread takes all of it.
#include <algorithm>

#include "cuda/launch.cuh"
#include "cuda/ops.cuh"

namespace cnnext::cuda {
namespace {

struct Axis {
  int64_t size, from, to;
};
// Axes from the outermost in the destination's memory.
struct Axes {
  int count = 0;
  Axis axis[CNNEXT_MAX_NDIM];
};

Axes join_axes(const CopyDesc& d) {
  Axes all;
  for (int i = 0; i < d.src.ndim; ++i) {
    if (d.src.shape[i] != 1) all.axis[all.count++] = {d.src.shape[i], d.src.strides[i], d.dst.strides[i]};
  }
  const auto size_of = [](int64_t stride) { return stride < 0 ? -stride : stride; };
  std::stable_sort(all.axis, all.axis + all.count,
                   [&](const Axis& a, const Axis& b) { return size_of(a.to) > size_of(b.to); });
  Axes joined;
  for (int i = 0; i < all.count; ++i) {
    const Axis& inner = all.axis[i];
    Axis* const outer = joined.count > 0 ? &joined.axis[joined.count - 1] : nullptr;
    if (outer && outer->from == inner.from * inner.size && outer->to == inner.to * inner.size) {
      *outer = {outer->size * inner.size, inner.from, inner.to};
    } else {
      joined.axis[joined.count++] = inner;
    }
  }
  return joined;
}

// Where element i, counted over some axes, lies on both sides.
struct Places {
  int count;
  FastDivisor by_size[CNNEXT_MAX_NDIM];  // from the innermost
  int64_t from_step[CNNEXT_MAX_NDIM], to_step[CNNEXT_MAX_NDIM];

  Places() : count(0) {}
  void add(const Axis& axis) {
    by_size[count] = FastDivisor(axis.size);
    from_step[count] = axis.from;
    to_step[count++] = axis.to;
  }
  CNNEXT_DEVICE void locate(int64_t i, int64_t* from, int64_t* to) const {
    for (int k = 0; k < count; ++k) {
      const int64_t outer = by_size[k].split(&i);
      *from += i * from_step[k];
      *to += i * to_step[k];
      i = outer;
    }
  }
};

template <class T, int V>
__global__ void __launch_bounds__(kBlock) copy_run(int64_t count, const T* from, T* to) {
  const int64_t vectors = count / V;
  for (int64_t i = first_item(); i < vectors; i += item_step())
    store(to + i * V, load_streaming<V>(from + i * V));
  const int64_t tail = vectors * V + first_item();
  if (tail < count) to[tail] = from[tail];
}

template <class T>
__global__ void __launch_bounds__(kBlock) copy_elements(int64_t count, Places places, const T* from, T* to) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    int64_t source = 0, target = 0;
    places.locate(i, &source, &target);
    to[target] = from[source];
  }
}

// places: without the axis `few`.
template <class T>
__global__ void __launch_bounds__(kBlock)
    copy_few(int64_t count, Places places, Axis few, const T* from, T* to) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    int64_t source = 0, target = 0;
    places.locate(i, &source, &target);
    for (int64_t k = 0; k < few.size; ++k) to[target + k * few.to] = from[source + k * few.from];
  }
}

// Tiles of 32 x 32: rows run along the source's memory, and are written along the destination's. The odd
// pitch keeps columns in different banks.
constexpr int kTile = 32, kPitch = kTile + 1;
struct Transposition {
  int64_t rows, columns, from_row,
      to_column;  // element (r, c): from[r * from_row + c], to[c * to_column + r]
  FastDivisor row_tiles, column_tiles;
  int64_t tiles;
  Places batch;
};

template <class T>
__global__ void __launch_bounds__(kBlock) copy_transposed(Transposition s, const T* from, T* to) {
  CNNEXT_SHARED(T, tile, kTile * kPitch);
  const int lane = static_cast<int>(threadIdx.x % kTile), first = static_cast<int>(threadIdx.x / kTile);
  for (int64_t block = blockIdx.x; block < s.tiles; block += gridDim.x) {
    int64_t rest = block, source = 0, target = 0;
    int64_t outer = s.column_tiles.split(&rest);
    const int64_t column0 = rest * kTile;
    rest = outer;
    outer = s.row_tiles.split(&rest);
    const int64_t row0 = rest * kTile;
    s.batch.locate(outer, &source, &target);
    for (int r = first; r < kTile; r += kBlock / kTile) {
      if (row0 + r < s.rows && column0 + lane < s.columns) {
        tile.set(r * kPitch + lane, from[source + (row0 + r) * s.from_row + column0 + lane]);
      }
    }
    block_barrier();
    for (int c = first; c < kTile; c += kBlock / kTile) {
      if (column0 + c < s.columns && row0 + lane < s.rows) {
        to[target + (column0 + c) * s.to_column + row0 + lane] = tile.get(lane * kPitch + c);
      }
    }
    block_barrier();  // the next tile overwrites this one
  }
}

// All axes but one, from the innermost.
Places places_of(const Axes& axes, int without) {
  Places places;
  for (int i = axes.count - 1; i >= 0; --i) {
    if (i != without) places.add(axes.axis[i]);
  }
  return places;
}

template <class T>
void run(const Op& op, const CopyDesc& d, const Axes& axes, int64_t count) {
  const T* const from = data<const T>(d.src);
  T* const to = data<T>(d.dst);
  const int last = axes.count - 1;
  if (axes.count == 0 || (axes.count == 1 && axes.axis[0].from == 1 && axes.axis[0].to == 1)) {
    dispatch_width<T>(0, {from, to}, [&](auto v) {
      constexpr int V = decltype(v)::value;
      launch_flat(op, copy_run<T, V>, blocks_for(count, kBlock * V), count, from, to);
    });
    return;
  }
  int columns = -1;  // the axis that runs in the source's memory
  for (int i = 0; i < last; ++i) columns = axes.axis[i].from == 1 ? i : columns;
  if (columns >= 0 && axes.axis[last].to == 1 && axes.axis[last].size > 1) {
    constexpr int64_t kFew = 8;  // most of a tile would be empty
    const int few = axes.axis[last].size < axes.axis[columns].size ? last : columns;
    if (axes.axis[few].size < kFew) {
      const int64_t runs = count / axes.axis[few].size;
      launch_flat(op, copy_few<T>, blocks_for(runs, kBlock), runs, places_of(axes, few), axes.axis[few], from,
                  to);
      return;
    }
    Transposition s{};
    s.rows = axes.axis[last].size;
    s.columns = axes.axis[columns].size;
    s.from_row = axes.axis[last].from;
    s.to_column = axes.axis[columns].to;
    s.row_tiles = FastDivisor(ceil_div(s.rows, kTile));
    s.column_tiles = FastDivisor(ceil_div(s.columns, kTile));
    s.tiles = ceil_div(s.rows, kTile) * ceil_div(s.columns, kTile);
    for (int i = last - 1; i >= 0; --i) {
      if (i == columns) continue;
      s.batch.add(axes.axis[i]);
      s.tiles *= axes.axis[i].size;
    }
    launch_flat(op, copy_transposed<T>, least(s.tiles, kMostBlocks), s, from, to);
    return;
  }
  launch_flat(op, copy_elements<T>, blocks_for(count, kBlock), count, places_of(axes, -1), from, to);
}

}  // namespace

Ran copy(const CopyDesc& d, Exec& exec) {
  const Op op{"copy", exec, d.src};
  int64_t count = 1;
  for (int i = 0; i < d.src.ndim; ++i) count *= d.src.shape[i];
  if (count == 0) return op.done("cuda/copy");
  const Axes axes = join_axes(d);
  switch (dtype_size(d.src.dtype)) {
    case 1:
      run<uint8_t>(op, d, axes, count);
      break;
    case 2:
      run<uint16_t>(op, d, axes, count);
      break;
    case 4:
      run<uint32_t>(op, d, axes, count);
      break;
    default:
      run<uint64_t>(op, d, axes, count);
  }
  return op.done("cuda/copy");
}

}  // namespace cnnext::cuda
