// Tensors seen as N x C x inner, and sums over everything but C.
//
// Both layouts are read as they lie. NCHW: a block takes a slice of one channel's N * inner elements. NHWC: a
// block takes a slice of the rows and some 32 vectors of channels. How many slices there are follows from the
// shape alone; their States go to scratch, and one warp a channel joins them in a fixed order.
#pragma once

#include "cuda/reduce.cuh"

namespace cnnext::cuda {

struct ChannelShape {
  int64_t N, C, inner;
  CNNEXT_HOST_DEVICE int64_t count() const { return N * C * inner; }
};

// body(V, kNhwc): V elements that are read at once share a channel (NCHW), or are V channels (NHWC). Where
// inner is 1 the two are the same, and only the latter is read in order.
template <class T, class Body>
void dispatch_channels(Format format, const ChannelShape& s, std::initializer_list<const void*> pointers,
                       const Body& body) {
  if (format == Format::kNCHW && s.inner != 1) {
    dispatch_width<T>(s.inner, pointers, [&](auto v) { body(v, std::false_type{}); });
  } else {
    dispatch_width<T>(s.C, pointers, [&](auto v) { body(v, std::true_type{}); });
  }
}

// The (first) channel of the V elements at `element`.
template <bool kNhwc>
class ChannelOf {
 public:
  explicit ChannelOf(const ChannelShape& s) : by_channels_(s.C), by_inner_(greatest(s.inner, 1)) {}
  CNNEXT_DEVICE int64_t operator()(int64_t element) const {
    if constexpr (!kNhwc) element = by_inner_.divide(element);
    by_channels_.split(&element);
    return element;
  }

 private:
  FastDivisor by_channels_, by_inner_;
};

// V neighbouring values as floats; aligned to 16 bytes where there are several.
template <int V, class T>
CNNEXT_DEVICE Vec<float, V> load_floats(const T* from) {
  constexpr int kAtOnce = V < kWidest<T> ? V : kWidest<T>;
  Vec<float, V> result;
#pragma unroll
  for (int i = 0; i < V; i += kAtOnce) {
    const Vec<T, kAtOnce> part = load<kAtOnce>(from + i);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) result[i + j] = to_float(part[j]);
  }
  return result;
}
// What belongs to the channels of the V elements whose first channel is c, of one value per channel.
template <int V, bool kNhwc, class T>
CNNEXT_DEVICE Vec<float, V> of_channels(const T* values, int64_t c) {
  if constexpr (kNhwc) {
    return load_floats<V>(values + c);
  } else {
    Vec<float, V> result;
    const float one = to_float(values[c]);
#pragma unroll
    for (int j = 0; j < V; ++j) result[j] = one;
    return result;
  }
}
// The same of a vector whose type the kernel does not know.
template <int V, bool kNhwc>
CNNEXT_DEVICE Vec<float, V> of_channels(const void* values, int32_t dtype, int64_t c) {
  if (dtype == CNNEXT_FLOAT16) return of_channels<V, kNhwc>(static_cast<const float16*>(values), c);
  if (dtype == CNNEXT_BFLOAT16) return of_channels<V, kNhwc>(static_cast<const bfloat16*>(values), c);
  return of_channels<V, kNhwc>(static_cast<const float*>(values), c);
}

// How a reduction is cut. `length`: vectors of a channel (NCHW) or rows (NHWC).
template <int V, bool kNhwc>
struct Slices {
  int64_t length, per_slice, slices, channel_blocks;
  int lanes;  // NHWC: threads side by side over the vectors of channels

  explicit Slices(const ChannelShape& s) {
    lanes = kNhwc ? static_cast<int>(least(32, next_power_of_two(s.C / V))) : 1;
    length = kNhwc ? s.N * s.inner : s.N * s.inner / V;
    channel_blocks = kNhwc ? ceil_div(s.C / V, lanes) : s.C;
    // Some 16 steps a thread, and no more blocks than keep a large device busy.
    constexpr int64_t kSteps = 16, kEnough = 2048;
    const int64_t step = kNhwc ? kBlock / lanes : kBlock;
    const int64_t wanted = ceil_div(length, step * kSteps), most = greatest(1, kEnough / channel_blocks);
    slices = greatest(1, least(wanted, most));
    per_slice = ceil_div(greatest(length, 1), slices);
  }
  int64_t blocks() const { return channel_blocks * slices; }
};

struct SumAccumulator {
  float sum;
  CNNEXT_DEVICE Sums<1> finish() const { return {{sum}}; }
};

// Reader has: using State, Accumulator (default: nothing added yet) with finish() -> State;
//   Input read<V>(int64_t at), and add(Accumulator*, const Input&, int j, float centre), centre(channel).
template <class Reader, int V>
__global__ void __launch_bounds__(kBlock)
    reduce_nchw(ChannelShape s, Slices<V, false> cut, FastDivisor by_inner, Reader reader, float* partial) {
  const int64_t c = blockIdx.x / cut.slices, slice = blockIdx.x % cut.slices;
  const int64_t end = least((slice + 1) * cut.per_slice, cut.length);
  const float centre = reader.centre(c);
  typename Reader::Accumulator sum{};
  for (int64_t i = slice * cut.per_slice + threadIdx.x; i < end; i += kBlock) {
    int64_t within = i;
    const int64_t n = by_inner.split(&within);
    const auto input = reader.template read<V>((n * s.C + c) * s.inner + within * V);
#pragma unroll
    for (int j = 0; j < V; ++j) reader.add(&sum, input, j, centre);
  }
  typename Reader::State state = sum.finish();
  merge_block(&state);
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int i = 0; i < Reader::State::kFields; ++i)
    partial[(slice * Reader::State::kFields + i) * s.C + c] = state.fields[i];
}

template <class Reader, int V>
__global__ void __launch_bounds__(kBlock)
    reduce_nhwc(ChannelShape s, Slices<V, true> cut, Reader reader, float* partial) {
  using State = typename Reader::State;
  const int64_t slice = blockIdx.x / cut.channel_blocks, channel_block = blockIdx.x % cut.channel_blocks;
  const int lane = static_cast<int>(threadIdx.x) % cut.lanes,
            row0 = static_cast<int>(threadIdx.x) / cut.lanes;
  const int rows = kBlock / cut.lanes;
  const int64_t c = (channel_block * cut.lanes + lane) * V;
  const bool inside = c < s.C;
  const int64_t end = least((slice + 1) * cut.per_slice, cut.length);
  typename Reader::Accumulator sums[V] = {};
  float centre[V] = {};
  if (inside) {
#pragma unroll
    for (int j = 0; j < V; ++j) centre[j] = reader.centre(c + j);
    for (int64_t row = slice * cut.per_slice + row0; row < end; row += rows) {
      const auto input = reader.template read<V>(row * s.C + c);
#pragma unroll
      for (int j = 0; j < V; ++j) reader.add(&sums[j], input, j, centre[j]);
    }
  }
  // Rows are joined pairwise, one of the V channels at a time. One barrier a step is enough: what a step
  // writes was last read at least two steps ago.
  CNNEXT_SHARED(float, parts, kBlock* State::kFields);
  const int me = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int j = 0; j < V; ++j) {
    State state = sums[j].finish();
    for (int half = rows / 2; half > 0; half /= 2) {
      if (row0 >= half && row0 < 2 * half) {
#pragma unroll
        for (int i = 0; i < State::kFields; ++i) parts.set(i * kBlock + me, state.fields[i]);
      }
      block_barrier();
      if (row0 < half) {
        State other;
#pragma unroll
        for (int i = 0; i < State::kFields; ++i)
          other.fields[i] = parts.get(i * kBlock + me + half * cut.lanes);
        state.merge(other);
      }
    }
    if (row0 != 0 || !inside) continue;
#pragma unroll
    for (int i = 0; i < State::kFields; ++i)
      partial[(slice * State::kFields + i) * s.C + c + j] = state.fields[i];
  }
}

// For a kernel of one warp a channel: all slices of channel c, in the first lane.
template <class State>
CNNEXT_DEVICE State join_slices(const float* partial, int64_t slices, int64_t C, int64_t c) {
  State state = State::empty();
  for (int64_t slice = threadIdx.x % 32; slice < slices; slice += 32) {
    State other;
#pragma unroll
    for (int i = 0; i < State::kFields; ++i) other.fields[i] = partial[(slice * State::kFields + i) * C + c];
    state.merge(other);
  }
  merge_warp(&state);
  return state;
}

struct Partial {
  const float* data;
  int64_t slices;
};

// By V neighbouring elements of a channel or, kNhwc, of V channels at once.
template <int V, bool kNhwc, class Reader>
Partial reduce_as(const Op& op, const ChannelShape& s, const Reader& reader) {
  const Slices<V, kNhwc> cut(s);
  float* const partial = op.scratch<float>(cut.slices * Reader::State::kFields * s.C);
  if constexpr (kNhwc) {
    launch_flat(op, reduce_nhwc<Reader, V>, cut.blocks(), s, cut, reader, partial);
  } else {
    launch_flat(op, reduce_nchw<Reader, V>, cut.blocks(), s, cut, FastDivisor(greatest(s.inner / V, 1)),
                reader, partial);
  }
  return {partial, cut.slices};
}

template <class T, class Reader>
Partial reduce_channels(const Op& op, Format format, const ChannelShape& s,
                        std::initializer_list<const void*> pointers, const Reader& reader) {
  Partial result{};
  dispatch_channels<T>(format, s, pointers, [&](auto v, auto nhwc) {
    result = reduce_as<decltype(v)::value, decltype(nhwc)::value>(op, s, reader);
  });
  return result;
}

// Blocks for one warp a channel.
inline int64_t blocks_of_channels(const ChannelShape& s) { return ceil_div(s.C, kBlock / 32); }
CNNEXT_DEVICE int64_t channel_of_warp() { return first_item() / 32; }

}  // namespace cnnext::cuda
