// Batch norm's forward in two steps, for operations that meet x while it is in a cache: the statistics of
// some images at a time, merged, then y.
#pragma once

#include "core/desc.h"
#include "core/exec.h"
#include "cpu/kernels/channel.h"

namespace cnnext {

// Of a channel's values. Those of chunks are taken about each chunk's own mean and merged in double (Chan,
// Golub and LeVeque, 1979), so that nothing cancels however far the mean is from zero.
struct Statistics {
  double count = 0, mean = 0, squares = 0;  // squares: of the distances from the mean

  void add(double other_count, double other_mean, double other_squares) {
    if (other_count == 0) return;
    const double total = count + other_count, distance = other_mean - mean, share = other_count / total;
    mean += distance * share;
    squares += other_squares + distance * distance * count * share;
    count = total;
  }
  void add(const Statistics& s) { add(s.count, s.mean, s.squares); }
  void add(int64_t n, const Moments& m) {
    const double rest = m.sum / static_cast<double>(n);
    add(static_cast<double>(n), m.shift + rest, m.squares - m.sum * rest);
  }
};

// Each channel's statistics over d.x.
void batch_statistics(const BatchNormDesc& d, Statistics* channels, Exec& exec);
// y, saved and running statistics, from each channel's; y may be x. The end of x comes first: what wrote x
// may have left it in a cache.
void normalise_batch(const BatchNormDesc& d, const Statistics* channels, Exec& exec);

}  // namespace cnnext
