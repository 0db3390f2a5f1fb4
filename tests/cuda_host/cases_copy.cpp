#include <algorithm>
#include <numeric>

#include "cases.h"

using namespace cnnext;

namespace {

// A view of arg's memory: `shape`, with its axes lying in memory in the order `order` (outermost first), the
// innermost with the stride `step`, and a gap behind each of its runs.
Tensor view(Tensor t, const std::vector<int64_t>& shape, const std::vector<int>& order, int64_t step,
            int64_t gap = 0) {
  t.ndim = static_cast<int32_t>(shape.size());
  int64_t stride = step;
  for (size_t i = order.size(); i-- > 0;) {
    const size_t axis = static_cast<size_t>(order[i]);
    t.shape[axis] = shape[axis];
    t.strides[axis] = stride;
    stride = stride * shape[axis] + (i + 1 == order.size() ? gap : 0);
  }
  return t;
}

void run_case(Suite& suite, const std::vector<int64_t>& shape, int32_t dtype, const std::vector<int>& from,
              const std::vector<int>& to, int64_t from_step, int64_t to_step, int64_t shift = 0) {
  std::string name = describe("copy", dtype, {from_step, to_step, shift});
  for (const int64_t dim : shape) name += "," + std::to_string(dim);
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  const ArgPtr src = suite.arg({count * from_step}, dtype, Format::kNCHW, shift);
  const ArgPtr dst = suite.arg({count * to_step}, dtype, Format::kNCHW, shift);
  if (src->on(Side::kRef).dtype != CNNEXT_FLOAT32) {
    auto* bytes = static_cast<unsigned char*>(src->on(Side::kRef).data);
    const int64_t size = dtype_size(dtype) * src->count();
    for (int64_t i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(suite.random()());
    src->upload();
  }
  const auto desc = [&](Side side) {
    return CopyDesc{view(src->on(side), shape, from, from_step), view(dst->on(side), shape, to, to_step)};
  };
  suite.check<CopyDesc>(name, &OpTable::copy, desc, {dst}, kExact);
}

// Rows with a gap behind each, on either side.
void run_gaps(Suite& suite, int64_t from_gap, int64_t to_gap) {
  const int64_t rows = 7, columns = 10;
  const ArgPtr src = suite.arg({rows * (columns + from_gap)}, CNNEXT_FLOAT32);
  const ArgPtr dst = suite.arg({rows * (columns + to_gap)}, CNNEXT_FLOAT32);
  const auto desc = [&](Side side) {
    return CopyDesc{view(src->on(side), {rows, columns}, {0, 1}, 1, from_gap),
                    view(dst->on(side), {rows, columns}, {0, 1}, 1, to_gap)};
  };
  suite.check<CopyDesc>("copy with gaps", &OpTable::copy, desc, {dst}, kExact);
}

}  // namespace

void cases_copy(Suite& suite) {
  const std::vector<int> nchw = {0, 1, 2, 3}, nhwc = {0, 2, 3, 1}, reversed = {3, 2, 1, 0};
  for (const int32_t dtype : {CNNEXT_UINT8, CNNEXT_FLOAT16, CNNEXT_FLOAT32, CNNEXT_INT64}) {
    const std::vector<std::vector<int64_t>> shapes = {
        {2, 3, 5, 7}, {1, 33, 8, 9}, {2, 64, 6, 11}, {3, 1, 4, 4}, {1, 1, 1, 1}};
    for (const auto& shape : shapes) {
      for (const auto& [from, to] : {std::pair(nchw, nhwc), std::pair(nhwc, nchw), std::pair(nchw, nchw),
                                     std::pair(nhwc, reversed), std::pair(reversed, nchw)}) {
        run_case(suite, shape, dtype, from, to, 1, 1);
      }
      run_case(suite, shape, dtype, nchw, nchw, 2, 1);
      run_case(suite, shape, dtype, nchw, nhwc, 1, 3);
      run_case(suite, shape, dtype, nhwc, nhwc, 1, 1, 1);
    }
    run_case(suite, {3, 70, 3, 21}, dtype, nchw, nhwc, 1, 1);  // a block has several tiles
    run_case(suite, {5000}, dtype, {0}, {0}, 1, 1);
    run_case(suite, {70, 45}, dtype, {0, 1}, {1, 0}, 1, 1);
    run_case(suite, {3, 2, 2, 3, 2, 2}, dtype, {0, 1, 2, 3, 4, 5}, {5, 1, 3, 0, 2, 4}, 1, 1);
  }
  run_gaps(suite, 0, 3);
  run_gaps(suite, 2, 0);
}
