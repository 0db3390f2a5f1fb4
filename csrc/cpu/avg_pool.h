// What average pools' engines share.
#pragma once

#include <algorithm>

#include "cpu/ops_ukernels.h"
#include "cpu/pool_tables.h"
#include "cpu/ref/avg_window.h"

namespace cnnext {

constexpr int64_t kAvgTaskFloats = 1 << 14;  // read by a task, at least
constexpr int64_t kAvgMaxStride = 16;        // planes: a row is split into as many

// The windows of both axes, and for each element the windows that hold it.
struct AvgPool {
  const Pool2dDesc& d;
  const AvgWindows windows;
  AvgTaps *rows, *columns;

  AvgPool(const Pool2dDesc& desc, bool adaptive, Exec& exec)
      : d(desc),
        windows{desc, adaptive},
        rows(exec.scratch_array<AvgTaps>(desc.P)),
        columns(exec.scratch_array<AvgTaps>(desc.Q)) {
    for (int64_t p = 0; p < d.P; ++p) rows[p] = windows.row(p);
    for (int64_t q = 0; q < d.Q; ++q) columns[q] = windows.column(q);
  }

  const float* x() const { return static_cast<const float*>(d.x.data); }
  const float* y() const { return static_cast<const float*>(d.y.data); }
  float* x_out() const { return static_cast<float*>(d.x.data); }
  float* y_out() const { return static_cast<float*>(d.y.data); }

  // 1 for a window without taps: its sum is 0.
  float divisor(const AvgTaps& row, const AvgTaps& column) const {
    const double value = windows.divisor(row, column);
    return value != 0 ? static_cast<float>(value) : 1.f;
  }
  static int64_t taps_in_image(const AvgTaps* table, int64_t count) {
    int64_t most = 0;
    for (int64_t i = 0; i < count; ++i) most = std::max(most, table[i].taps.end - table[i].taps.begin);
    return most;
  }
};

inline void sum_terms(const SumTerms& terms) { ops_ukernels().avg_pool.sum_terms(terms); }

// The windows that hold each element along an axis, in order.
class AvgCovers {
 public:
  AvgCovers(const AvgTaps* windows, int64_t count, int64_t size, Exec& exec)
      : first_(exec.scratch_array<int64_t>(size + 1)) {
    std::fill_n(first_, size + 1, 0);
    for (int64_t w = 0; w < count; ++w) each(windows[w].taps, [&](int64_t at) { ++first_[at + 1]; });
    for (int64_t i = 0; i < size; ++i) {
      most_ = std::max(most_, first_[i + 1]);
      first_[i + 1] += first_[i];
    }
    list_ = exec.scratch_array<int64_t>(first_[size]);
    auto* const next = exec.scratch_array<int64_t>(size);
    std::copy_n(first_, size, next);
    for (int64_t w = 0; w < count; ++w) each(windows[w].taps, [&](int64_t at) { list_[next[at]++] = w; });
  }

  const int64_t* begin(int64_t i) const { return list_ + first_[i]; }
  const int64_t* end(int64_t i) const { return list_ + first_[i + 1]; }
  int64_t most() const { return most_; }

 private:
  template <class Body>
  static void each(const WindowTaps& taps, const Body& body) {
    for (int64_t t = taps.begin; t < taps.end; ++t) body(taps.at(t));
  }
  int64_t *first_, *list_;
  int64_t most_ = 0;
};

// The divisors of a row of outputs; rows in the middle share theirs.
class AvgDivisors {
 public:
  explicit AvgDivisors(const AvgPool& pool) : p_(pool) {}
  void at(float* values) { values_ = values; }
  const float* of(int64_t row) {
    const AvgTaps& window = p_.rows[row];
    if (counted_ != window.counted) {
      counted_ = window.counted;
      for (int64_t q = 0; q < p_.d.Q; ++q) values_[q] = p_.divisor(window, p_.columns[q]);
    }
    return values_;
  }

 private:
  const AvgPool& p_;
  float* values_ = nullptr;
  int64_t counted_ = -1;
};

// Windows of planes, not adaptive ones. Whether a plane's strips are not far larger than it; and the pools.
bool avg_pool_takes_bands(const Pool2dDesc& desc);
void avg_pool_bands_forward(const AvgPool& pool, Exec& exec);
void avg_pool_bands_backward(const AvgPool& pool, Exec& exec);
// The same without strips of more than a row.
void avg_pool_rows_forward(const AvgPool& pool, Exec& exec);

}  // namespace cnnext
