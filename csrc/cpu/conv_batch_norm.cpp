// Convolution and batch norm in one: the convolution runs strip by strip, some whole images or in NHWC some
// rows of one, whose moments are taken while they are in a cache; then one pass normalises.
#include <algorithm>

#include "cpu/batch_norm.h"
#include "cpu/conv_part.h"
#include "cpu/cpu.h"
#include "cpu/ops_ukernels.h"
#include "cpu/pool_tables.h"
#include "cpu/ref/ref.h"
#include "cpu/serial_parts.h"
#include "cpu/shared_weight.h"
#include "cpu/winograd.h"

namespace cnnext {
namespace {

constexpr int64_t kStripFloats = 128 << 10;  // of one thread, in L2 with what the convolution reads
constexpr int64_t kImageFloats = 256 << 10;  // an image of so many is not cut
constexpr int64_t kLeastFloats = 2 << 20;    // of a result that leaves the caches
constexpr int64_t kMostTasks = 64;           // each with statistics of its own
constexpr int64_t kMinStrips = 8;            // fewer tasks than that do not share out well
constexpr int64_t kMinRows = 8;

// How the convolution's result is cut; it follows from the shape alone.
struct Strips {
  int64_t images, rows;  // of a strip: whole images, or some rows of one
  int64_t row_parts, count;
  int64_t per_task, tasks;  // strips one after the other on one thread, whose statistics are added up
};

enum class Way { kApart, kInPlace, kStaged };

// What was measured to pay. Strips in scratch, moved from there past the caches, where the convolution is
// Winograd's or a 1x1 with more channels out than in; in place where it computes longer than it writes.
Way way_of(const Conv2dDesc& c) {
  constexpr int64_t kMostFilterFloats = 1 << 20;  // of Winograd's: each strip reads them all
  constexpr int64_t kMostDepth = 160, kMostPointwise = 64;
  const int64_t image = c.K * c.P * c.Q, depth = c.C * c.R * c.S;
  if (c.groups > 1 || c.N * image < kLeastFloats) return Way::kApart;
  const bool whole = image <= kImageFloats, channels_last = c.format == Format::kNHWC;
  if (winograd_supports_forward(c)) {
    return whole && 36 * c.C * c.K <= kMostFilterFloats ? Way::kStaged : Way::kApart;
  }
  if (c.R * c.S == 1) {
    return channels_last && c.C <= kMostPointwise && c.K > c.C ? Way::kStaged : Way::kApart;
  }
  return (whole || channels_last) && depth <= kMostDepth ? Way::kInPlace : Way::kApart;
}

Strips cut(const Conv2dDesc& c) {
  Strips s{};
  const int64_t image = c.K * c.P * c.Q;
  const bool whole = image <= kImageFloats;
  s.rows = whole ? c.P : ceil_div(c.P, ceil_div(c.P, std::max(kMinRows, kStripFloats / (c.K * c.Q))));
  s.row_parts = ceil_div(c.P, s.rows);
  const int64_t fit =
      whole ? std::clamp<int64_t>(kStripFloats / image, 1, std::max<int64_t>(1, c.N / kMinStrips)) : 1;
  s.images = ceil_div(c.N, ceil_div(c.N, fit));
  s.count = ceil_div(c.N, s.images) * s.row_parts;
  s.per_task = ceil_div(s.count, kMostTasks);
  s.tasks = ceil_div(s.count, s.per_task);
  return s;
}

class Driver {
 public:
  Driver(const ConvBatchNormDesc& d, bool staged, Exec& exec) : d_(d), strips_(cut(d.conv)), staged_(staged) {
    if (winograd_supports_forward(d.conv)) d_.conv.variant = ConvVariant::kWinograd;
    d_.conv.one_thread = true;
    statistics_ = exec.scratch_array<Statistics>(strips_.tasks * d.norm.C);
  }
  void set_weight(const void* handle) { d_.conv.packed = handle; }
  const Strips& strips() const { return strips_; }
  int64_t scratch_floats() const {
    return staged_ ? strips_.images * d_.conv.K * strips_.rows * d_.conv.Q : 0;
  }
  Conv2dDesc conv(int64_t index, float* scratch) const {
    const ConvPart part = part_of(index);
    return conv_part(d_.conv, part, staged_ ? scratch : place_of(part));
  }

  PartReport run_task(int64_t task, const Exec& exec, float* scratch) const {
    Statistics* const sums = statistics_ + task * d_.norm.C;
    if (!exec.planning()) std::fill_n(sums, d_.norm.C, Statistics{});
    const int64_t begin = task * strips_.per_task, end = std::min(strips_.count, begin + strips_.per_task);
    PartReport report;
    // A plan looks at the first strips, and at the last, which may be smaller.
    for (int64_t i = begin; i < end; i = exec.planning() && i == begin + 1 && i < end - 1 ? end - 1 : i + 1) {
      const PartReport part = run_strip(i, exec, scratch, sums);
      if (i == begin) report.kernel = part.kernel;
      report.include(part);
    }
    return report;
  }

  // Adds up the tasks' statistics in order, and normalises.
  PartReport finish(const Exec& exec) const {
    if (!exec.planning()) {
      for (int64_t i = 1; i < strips_.tasks; ++i) {
        for (int64_t c = 0; c < d_.norm.C; ++c) statistics_[c].add(statistics_[i * d_.norm.C + c]);
      }
    }
    return run_part(exec, false, [&](Exec& on) { normalise_batch(d_.norm, statistics_, on); });
  }

 private:
  ConvPart part_of(int64_t index) const {
    const int64_t n0 = index / strips_.row_parts * strips_.images;
    const int64_t h0 = index % strips_.row_parts * strips_.rows;
    return {n0, std::min(d_.conv.N, n0 + strips_.images), h0, std::min(d_.conv.P, h0 + strips_.rows)};
  }
  PartReport run_strip(int64_t index, const Exec& exec, float* scratch, Statistics* sums) const;
  // A strip is one run of the result: rows are cut in NHWC alone.
  float* place_of(const ConvPart& part) const {
    return static_cast<float*>(d_.conv.y.data) + (part.n0 * d_.conv.P + part.h0) * d_.conv.Q * d_.conv.K;
  }

  ConvBatchNormDesc d_;
  const Strips strips_;
  const bool staged_;
  Statistics* statistics_;  // of each task's channels
};

PartReport Driver::run_strip(int64_t index, const Exec& exec, float* scratch, Statistics* sums) const {
  const Conv2dDesc strip = conv(index, scratch);
  PartReport report = run_part(
      exec, true, [&](Exec& on) { run_or_ref(cpu_conv2d_forward_untuned, ref_conv2d_forward, strip, on); });
  BatchNormDesc norm = d_.norm;
  norm.N = strip.N;
  norm.inner = strip.P * strip.Q;
  norm.x = strip.y;
  report.include(run_part(exec, true, [&](Exec& on) {
    Statistics* const own = on.scratch_array<Statistics>(norm.C);
    batch_statistics(norm, own, on);
    for (int64_t c = 0; c < norm.C && !on.planning(); ++c) sums[c].add(own[c]);
  }));
  if (staged_ && !exec.planning()) {
    const RunArgs move{scratch, nullptr, place_of(part_of(index)), 1, 0, numel(strip.y), true};
    ops_ukernels().channel.run_affine(move, 0.f, 1.f, -0.f);  // bit for bit
  }
  return report;
}

PartReport run_strips(const ConvBatchNormDesc& d, bool staged, Exec& exec) {
  Driver driver(d, staged, exec);
  const Strips& strips = driver.strips();
  const SharedWeight weight(driver.conv(0, nullptr), exec);
  driver.set_weight(weight.handle());
  const int64_t strands = std::min<int64_t>(exec.num_threads(), strips.tasks);
  PartReport report;
  if (exec.planning()) {
    float* const scratch = exec.scratch_array<float>(strands * round_up(driver.scratch_floats(), 16));
    const int64_t last = strips.tasks - 1;
    for (int64_t i = 0; i <= last; i = i < last ? last : i + 1) {
      const PartReport part = driver.run_task(i, exec, scratch);
      if (i == 0) report.kernel = part.kernel;
      report.include(part);
    }
    exec.shares(strips.tasks);
  } else {
    report = run_serial_parts(exec, strips.tasks, driver.scratch_floats(),
                              [&](int64_t i, float* scratch) { return driver.run_task(i, exec, scratch); });
  }
  report.scratch_bytes *= static_cast<size_t>(strands);
  exec.strips(strips.images, strips.rows);
  report.include(driver.finish(exec));
  return report;
}

PartReport run_apart(const ConvBatchNormDesc& d, Exec& exec) {
  PartReport report = run_part(
      exec, false, [&](Exec& on) { run_or_ref(cpu_conv2d_forward, ref_conv2d_forward, d.conv, on); });
  report.include(run_part(exec, false, [&](Exec& on) { cpu_batch_norm_forward(d.norm, on); }));
  return report;
}

}  // namespace

Ran cpu_conv2d_batch_norm_forward(const ConvBatchNormDesc& d, Exec& exec) {
  if (d.conv.dtype != CNNEXT_FLOAT32 || d.conv.N == 0 || d.conv.C == 0 || d.conv.K == 0) {
    return Ran::kUnsupported;
  }
  const Way way = way_of(d.conv);
  const PartReport report =
      way == Way::kApart ? run_apart(d, exec) : run_strips(d, way == Way::kStaged, exec);
  exec.borrows(report.scratch_bytes);
  exec.ran(report.kernel);
  return Ran::kDone;
}

}  // namespace cnnext
