// Average pools of planes, band by band: rows of the source lie in a strip, split by stride and with zeros
// for padding, so that one sum along the strip is the columns' of all its rows; then rows are summed.
#include "cpu/avg_pool.h"
#include "cpu/scratch_parts.h"
#include "cpu/strands.h"

namespace cnnext {
namespace {

constexpr int64_t kBandFloats = 1 << 13;  // of a strip, which stays in L1 or near it
constexpr int64_t kMostSpread = 4;        // of a window and its padding beside the plane

// Taps of a window along a row: tap s of output q is element q + shift(s) of phase(s).
struct Columns {
  const Pool2dDesc& d;
  int64_t phase(int64_t s) const { return s * d.dilation_w % d.stride_w; }
  int64_t shift(int64_t s) const { return s * d.dilation_w / d.stride_w; }
  int64_t most_shift() const { return shift(d.S - 1); }
  int64_t padded() const { return (d.W + d.pad_left - 1) / d.stride_w + 1; }  // elements of a phase
};

// ---- forward ----

class Forward {
 public:
  Forward(const AvgPool& pool, float* scratch)
      : p_(pool),
        d_(pool.d),
        columns_{pool.d},
        pitch_(round_up(std::max(d_.Q + columns_.most_shift(), columns_.padded()), 16)) {
    const int64_t reach = (d_.R - 1) * d_.dilation_h + 1;
    const int64_t fit = (kBandFloats / (pitch_ * d_.stride_w) - reach) / d_.stride_h + 1;
    band_ = std::clamp<int64_t>(fit, 1, d_.P);
    rows_ = std::min(d_.H, (band_ - 1) * d_.stride_h + reach);
    ScratchParts parts(scratch);
    terms_ = parts.take<const float*>(std::max(d_.R, d_.S));
    divisors_.at(parts.take<float>(d_.Q));
    sums_ = parts.take<float>(rows_ * pitch_);
    phases_ = parts.take<float>(d_.stride_w * rows_ * pitch_);
    floats_ = parts.floats();
    if (scratch) std::fill_n(phases_, d_.stride_w * rows_ * pitch_, 0.f);  // the padding stays
  }

  int64_t scratch_floats() const { return floats_; }
  int64_t bands() const { return ceil_div(d_.P, band_); }

  void run(int64_t plane, int64_t band) {
    const int64_t begin = band * band_, end = std::min(d_.P, begin + band_);
    const int64_t low = std::clamp<int64_t>(p_.rows[begin].taps.start, 0, d_.H);
    const int64_t high = std::clamp<int64_t>(p_.rows[end - 1].taps.at(d_.R - 1) + 1, low, d_.H);
    const float* x = p_.x() + plane * d_.H * d_.W;
    for (int64_t h = low; h < high; ++h) {
      ops_ukernels().max_pool.strip(
          {x + h * d_.W, d_.W, d_.pad_left, d_.stride_w, phases_ + (h - low) * pitch_, rows_ * pitch_});
    }
    for (int64_t s = 0; s < d_.S; ++s) {
      terms_[s] = phases_ + columns_.phase(s) * rows_ * pitch_ + columns_.shift(s);
    }
    if (high > low) {
      sum_terms({terms_, nullptr, d_.S, (high - low - 1) * pitch_ + d_.Q, 1.f, nullptr, sums_});
    }
    for (int64_t row = begin; row < end; ++row) {
      const WindowTaps& taps = p_.rows[row].taps;
      int64_t count = 0;
      for (int64_t r = taps.begin; r < taps.end; ++r) terms_[count++] = sums_ + (taps.at(r) - low) * pitch_;
      float* const y = p_.y_out() + (plane * d_.P + row) * d_.Q;
      sum_terms({terms_, nullptr, count, d_.Q, 1.f, divisors_.of(row), y});
    }
  }

 private:
  const AvgPool& p_;
  const Pool2dDesc& d_;
  Columns columns_;
  int64_t pitch_, band_, rows_, floats_;
  const float** terms_;
  float *sums_, *phases_;
  AvgDivisors divisors_{p_};
};

// ---- backward ----

// Each window's share of its gradient lies in the strip, between zeros.
class Backward {
 public:
  Backward(const AvgPool& pool, const AvgCovers& covers, float* scratch)
      : p_(pool),
        d_(pool.d),
        covers_(covers),
        columns_{pool.d},
        margin_(columns_.most_shift()),
        pitch_(round_up(margin_ + std::max(d_.Q, columns_.padded()), 16)) {
    const int64_t reach = (d_.R - 1) * d_.dilation_h + 1;
    const int64_t windows = kBandFloats / (pitch_ * (d_.stride_w + 1));
    const int64_t step = std::min(d_.stride_h, d_.H);
    band_ = std::clamp<int64_t>(windows * step - reach, step, d_.H);
    windows_ = std::min(d_.P, (band_ + reach - 2) / d_.stride_h + 1);
    ScratchParts parts(scratch);
    terms_ = parts.take<const float*>(std::max(covers.most(), d_.S));
    divisors_.at(parts.take<float>(d_.Q));
    line_ = parts.take<float>(columns_.padded());
    shares_ = parts.take<float>(windows_ * pitch_ + margin_);
    phases_ = parts.take<float>(d_.stride_w * windows_ * pitch_);
    floats_ = parts.floats();
    if (scratch) std::fill_n(shares_, windows_ * pitch_ + margin_, 0.f);  // what is between them stays
  }

  int64_t scratch_floats() const { return floats_; }
  int64_t bands() const { return ceil_div(d_.H, band_); }

  void run(int64_t plane, int64_t band) {
    const int64_t begin = band * band_, end = std::min(d_.H, begin + band_);
    int64_t low = d_.P, high = 0;  // the windows that hold these rows
    for (int64_t h = begin; h < end; ++h) {
      if (covers_.begin(h) == covers_.end(h)) continue;
      low = std::min(low, *covers_.begin(h));
      high = std::max(high, *(covers_.end(h) - 1) + 1);
    }
    for (int64_t p = low; p < high; ++p) {
      const float* y = p_.y() + (plane * d_.P + p) * d_.Q;
      sum_terms({&y, nullptr, 1, d_.Q, 1.f, divisors_.of(p), shares_ + margin_ + (p - low) * pitch_});
    }
    if (high > low) spread(high - low);
    for (int64_t h = begin; h < end; ++h) gather(h, low, p_.x_out() + (plane * d_.H + h) * d_.W);
  }

 private:
  // The sums of shares along rows: of each phase of the row's elements.
  void spread(int64_t windows) const {
    for (int64_t phase = 0; phase < d_.stride_w; ++phase) {
      int64_t count = 0;
      for (int64_t s = d_.S - 1; s >= 0; --s) {
        if (columns_.phase(s) == phase) terms_[count++] = shares_ + margin_ - columns_.shift(s);
      }
      float* const to = phases_ + phase * windows_ * pitch_;
      sum_terms({terms_, nullptr, count, (windows - 1) * pitch_ + columns_.padded(), 1.f, nullptr, to});
    }
  }

  // Row h of the image, from the rows of windows that hold it.
  void gather(int64_t h, int64_t low, float* x) const {
    for (int64_t phase = 0; phase < d_.stride_w; ++phase) {
      int64_t count = 0;
      for (const int64_t* p = covers_.begin(h); p < covers_.end(h); ++p) {
        terms_[count++] = phases_ + (phase * windows_ + *p - low) * pitch_;
      }
      // Elements first * stride + phase - pad_left, ... of the row.
      const int64_t first = d_.pad_left > phase ? ceil_div(d_.pad_left - phase, d_.stride_w) : 0;
      const int64_t w = first * d_.stride_w + phase - d_.pad_left;
      if (w >= d_.W) continue;
      const int64_t elements = ceil_div(d_.W - w, d_.stride_w);
      for (int64_t i = 0; i < count; ++i) terms_[i] += first;
      if (d_.stride_w == 1) {
        sum_terms({terms_, nullptr, count, elements, 1.f, nullptr, x});
        continue;
      }
      if (count != 1) sum_terms({terms_, nullptr, count, elements, 1.f, nullptr, line_});
      const float* line = count == 1 ? terms_[0] : line_;
      for (int64_t i = 0; i < elements; ++i) x[w + i * d_.stride_w] = line[i];
    }
  }

  const AvgPool& p_;
  const Pool2dDesc& d_;
  const AvgCovers& covers_;
  Columns columns_;
  int64_t margin_, pitch_, band_, windows_, floats_;
  const float** terms_;
  float *line_, *shares_, *phases_;
  AvgDivisors divisors_{p_};
};

// Bands of planes as tasks; make(scratch) is an engine.
template <class Make>
void run_bands(const Pool2dDesc& d, Exec& exec, const Make& make) {
  const auto none = make(nullptr);
  const int64_t bands = none.bands(), items = d.N * d.C * bands;
  const int64_t group = std::clamp<int64_t>(kAvgTaskFloats * bands / (d.H * d.W), 1, ceil_div(items, 4));
  parallel_strands(exec, ceil_div(items, group), none.scratch_floats(), [&](int64_t task, float* scratch) {
    auto engine = make(scratch);
    for (int64_t i = task * group; i < std::min(items, (task + 1) * group); ++i) {
      engine.run(i / bands, i % bands);
    }
  });
}

}  // namespace

bool avg_pool_takes_bands(const Pool2dDesc& d) {
  const int64_t plane = d.W + d.Q, rows = d.H + d.P;
  return d.stride_w <= kAvgMaxStride && d.pad_left / kMostSpread <= plane &&
         (d.S - 1) * d.dilation_w / kMostSpread <= plane && (d.R - 1) * d.dilation_h / kMostSpread <= rows;
}

void avg_pool_bands_forward(const AvgPool& pool, Exec& exec) {
  run_bands(pool.d, exec, [&](float* scratch) { return Forward(pool, scratch); });
}

void avg_pool_bands_backward(const AvgPool& pool, Exec& exec) {
  const AvgCovers covers(pool.rows, pool.d.P, pool.d.H, exec);
  run_bands(pool.d, exec, [&](float* scratch) { return Backward(pool, covers, scratch); });
}

}  // namespace cnnext
