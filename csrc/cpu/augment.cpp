// Images prepared row by row: read through a map, coloured, erased, while the row is in the first cache.
#include "core/augment.h"

#include <algorithm>
#include <cmath>

#include "cpu/flat_tasks.h"

namespace cnnext {
namespace {

// A NaN counts as -1.
double clipped(double value, double high) { return value > -1.0 ? std::min(value, high) : -1.0; }

// One image of x: 0 outside.
template <class T>
struct Source {
  const T* pixels;
  int64_t C, H, W;

  float at(int64_t c, int64_t row, int64_t column) const {
    const bool inside = row >= 0 && row < H && column >= 0 && column < W;
    return inside ? static_cast<float>(pixels[(c * H + row) * W + column]) : 0.0f;
  }

  // out[c * step] for each channel; y and x are fractions of pixels.
  void bilinear(double y, double x, float scale, float* out, int64_t step) const {
    // In -1 .. size both neighbours are told apart from the picture by at(); truncation is floor from 0 on.
    y = clipped(y, static_cast<double>(H)) + 1.0;
    x = clipped(x, static_cast<double>(W)) + 1.0;
    const int64_t row = static_cast<int64_t>(y), column = static_cast<int64_t>(x);
    const float down = static_cast<float>(y - static_cast<double>(row));
    const float right = static_cast<float>(x - static_cast<double>(column));
    const int64_t r = row - 1, q = column - 1;
    const bool interior = r >= 0 && r + 1 < H && q >= 0 && q + 1 < W;
    for (int64_t c = 0; c < C; ++c) {
      float corner[4];
      if (interior) {
        const T* first = pixels + (c * H + r) * W + q;
        corner[0] = static_cast<float>(first[0]), corner[1] = static_cast<float>(first[1]);
        corner[2] = static_cast<float>(first[W]), corner[3] = static_cast<float>(first[W + 1]);
      } else {
        corner[0] = at(c, r, q), corner[1] = at(c, r, q + 1);
        corner[2] = at(c, r + 1, q), corner[3] = at(c, r + 1, q + 1);
      }
      const float upper = corner[0] * (1.0f - right) + corner[1] * right;
      const float lower = corner[2] * (1.0f - right) + corner[3] * right;
      out[c * step] = (upper * (1.0f - down) + lower * down) * scale;
    }
  }

  void nearest(double y, double x, float scale, float* out, int64_t step) const {
    const int64_t row = static_cast<int64_t>(clipped(y + 0.5, static_cast<double>(H)) + 1.0) - 1;
    const int64_t column = static_cast<int64_t>(clipped(x + 0.5, static_cast<double>(W)) + 1.0) - 1;
    for (int64_t c = 0; c < C; ++c) out[c * step] = at(c, row, column) * scale;
  }
};

// A flip or a crop: each row of the result is one of x's, from `first` on and forwards or backwards.
template <class T>
void copy_row(const AugmentDesc& d, const Source<T>& source, int64_t row, int64_t first, int64_t direction,
              float* out) {
  // Of the columns first + direction * q those inside x.
  const int64_t begin = direction > 0 ? -first : first - (d.W - 1), end = begin + d.W;
  const int64_t low = std::clamp<int64_t>(begin, 0, d.Q), high = std::clamp<int64_t>(end, 0, d.Q);
  for (int64_t c = 0; c < d.C; ++c) {
    float* to = out + c * d.P * d.Q;
    if (row < 0 || row >= d.H) {
      std::fill_n(to, d.Q, 0.0f);
      continue;
    }
    const T* in = source.pixels + (c * d.H + row) * d.W;
    std::fill(to, to + low, 0.0f);
    for (int64_t q = low; q < high; ++q) to[q] = static_cast<float>(in[first + direction * q]) * d.scale;
    std::fill(to + high, to + d.Q, 0.0f);
  }
}

// Row p of an image's result: channel c's pixels begin at out + c * P * Q.
template <class T>
void read_row(const AugmentDesc& d, int64_t n, int64_t p, float* out) {
  const Source<T> source{static_cast<const T*>(d.x) + n * d.C * d.H * d.W, d.C, d.H, d.W};
  const int64_t step = d.P * d.Q;
  if (!d.affine) {
    for (int64_t c = 0; c < d.C; ++c) {
      const T* in = source.pixels + (c * d.H + p) * d.W;
      for (int64_t q = 0; q < d.Q; ++q) out[c * step + q] = static_cast<float>(in[q]) * d.scale;
    }
    return;
  }
  const double* m = d.affine + 6 * n;
  constexpr double kFar = 1 << 30;  // what fits int64_t with room for sums
  if (!d.bilinear && m[1] == 0.0 && m[3] == 0.0 && std::fabs(m[4]) == 1.0 && m[5] == std::floor(m[5]) &&
      std::fabs(m[5]) < kFar && d.Q < kFar && d.W < kFar) {
    const double row = m[0] * static_cast<double>(p) + m[2] + 0.5;
    copy_row(d, source, static_cast<int64_t>(clipped(row, static_cast<double>(d.H)) + 1.0) - 1,
             static_cast<int64_t>(m[5]), m[4] > 0.0 ? 1 : -1, out);
    return;
  }
  for (int64_t q = 0; q < d.Q; ++q) {
    const double y = m[0] * static_cast<double>(p) + m[1] * static_cast<double>(q) + m[2];
    const double x = m[3] * static_cast<double>(p) + m[4] * static_cast<double>(q) + m[5];
    if (d.bilinear) {
      source.bilinear(y, x, d.scale, out + q, step);
    } else {
      source.nearest(y, x, d.scale, out + q, step);
    }
  }
}

void color_row(const AugmentDesc& d, const float* color, float* out) {
  const int64_t step = d.P * d.Q;
  if (d.color_terms == 2) {
    for (int64_t c = 0; c < d.C; ++c) {
      const float factor = color[2 * c], shift = color[2 * c + 1];
      for (int64_t q = 0; q < d.Q; ++q) out[c * step + q] = out[c * step + q] * factor + shift;
    }
    return;
  }
  float pixel[kMaxColorChannels];
  for (int64_t q = 0; q < d.Q; ++q) {
    for (int64_t c = 0; c < d.C; ++c) pixel[c] = out[c * step + q];
    for (int64_t c = 0; c < d.C; ++c) {
      const float* row = color + c * d.color_terms;
      float sum = row[d.C];
      for (int64_t k = 0; k < d.C; ++k) sum += row[k] * pixel[k];
      out[c * step + q] = sum;
    }
  }
}

void clamp_row(const AugmentDesc& d, float* out) {
  for (int64_t c = 0; c < d.C; ++c) {
    float* row = out + c * d.P * d.Q;
    for (int64_t q = 0; q < d.Q; ++q) row[q] = std::min(std::max(row[q], 0.0f), 1.0f);
  }
}

void erase_row(const AugmentDesc& d, int64_t n, int64_t p, float* out) {
  for (int64_t i = 0; i < d.rectangles; ++i) {
    const int64_t* r = d.erase + 4 * (n * d.rectangles + i);  // top, left, height, width
    if (p < r[0] || p >= r[0] + r[2]) continue;
    for (int64_t c = 0; c < d.C; ++c) {
      std::fill_n(out + c * d.P * d.Q + r[1], r[3], d.erase_value ? d.erase_value[c] : 0.0f);
    }
  }
}

}  // namespace

void augment(const AugmentDesc& d, Exec& exec) {
  // Bands of rows whose borders follow from the shape alone.
  const int64_t rows = std::max<int64_t>(1, kMathChunk / (d.C * d.Q));
  const int64_t bands = (d.P + rows - 1) / rows;
  exec.parallel_for(d.N * bands, [&](int64_t task) {
    const int64_t n = task / bands, begin = task % bands * rows, end = std::min(d.P, begin + rows);
    for (int64_t p = begin; p < end; ++p) {
      float* out = d.y + n * d.C * d.P * d.Q + p * d.Q;
      if (d.bytes) {
        read_row<uint8_t>(d, n, p, out);
      } else {
        read_row<float>(d, n, p, out);
      }
      if (d.color) color_row(d, d.color + n * d.color_stride, out);
      if (d.clamp) clamp_row(d, out);
      erase_row(d, n, p, out);
    }
  });
}

void mix_images(const MixDesc& d, Exec& exec) {
  const int64_t chunks = (d.inner + kCheapChunk - 1) / kCheapChunk;
  exec.parallel_for(d.N * chunks, [&](int64_t task) {
    const int64_t n = task / chunks, begin = task % chunks * kCheapChunk;
    const int64_t end = std::min(d.inner, begin + kCheapChunk);
    const float *own = d.x + n * d.inner, *other = d.x + d.partner[n] * d.inner;
    const float weight = d.weight[n];
    for (int64_t i = begin; i < end; ++i) {
      d.y[n * d.inner + i] = weight * own[i] + (1.0f - weight) * other[i];
    }
  });
}

}  // namespace cnnext
