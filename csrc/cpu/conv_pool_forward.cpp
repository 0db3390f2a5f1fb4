#include <cstring>

#include "cpu/conv_part.h"
#include "cpu/conv_pool.h"
#include "cpu/cpu.h"
#include "cpu/flat_tasks.h"
#include "cpu/ops_ukernels.h"
#include "cpu/ref/ref.h"
#include "cpu/scratch_parts.h"
#include "cpu/serial_parts.h"
#include "cpu/shared_weight.h"
#include "cpu/winograd.h"

namespace cnnext {
namespace {

class Driver {
 public:
  Driver(const ConvPoolDesc& desc, const ConvPoolStrips& strips) : d_(desc), strips_(strips) {
    if (winograd_supports_forward(desc.conv)) d_.conv.variant = ConvVariant::kWinograd;
    d_.conv.activation = CNNEXT_ACT_RELU;
    d_.conv.one_thread = strips.serial;
    // Rows of planes lie apart: they are pooled side by side, then moved.
    staged_ = d_.conv.format == Format::kNCHW && strips.row_parts > 1;
    code_bytes_ = present(d_.pool.indices) ? dtype_size(d_.pool.index_dtype) : 0;
  }

  int64_t scratch_floats() const {
    Parts none;
    return cut(nullptr, &none);
  }
  Conv2dDesc conv(int64_t index) const {
    return strip_conv(d_, conv_pool_strip(d_, strips_, index), nullptr);
  }
  void set_weights(const void* handle) { d_.conv.packed = handle; }
  PartReport run(int64_t index, const Exec& exec, float* scratch) const;

 private:
  struct Parts {
    float *inner, *y;
    char* codes;
  };
  int64_t cut(float* base, Parts* parts) const {
    ScratchParts all(base);
    const int64_t pooled = staged_ ? d_.conv.K * strips_.rows * d_.pool.Q : 0;
    parts->inner = all.take<float>(strips_.images * d_.conv.K * strips_.conv_rows * d_.conv.Q);
    parts->y = all.take<float>(pooled);
    parts->codes = all.take<char>(pooled * code_bytes_);
    return all.floats();
  }
  void place(const ConvPoolStrip& strip, const Parts& parts, Pool2dDesc* pool) const;
  void move(const ConvPoolStrip& strip, const Parts& parts) const;

  ConvPoolDesc d_;
  const ConvPoolStrips& strips_;
  bool staged_;
  int64_t code_bytes_;
};

// Where the pool writes. Strips of rows are of one image each.
void Driver::place(const ConvPoolStrip& s, const Parts& parts, Pool2dDesc* pool) const {
  const int64_t row = d_.pool.Q * d_.pool.C;
  const int64_t at = (s.n0 * d_.pool.P + s.p0) * row;
  pool->y = pool->x;
  pool->y.shape[2] = pool->P;
  pool->y.shape[3] = pool->Q;
  set_format(&pool->y, pool->format);
  pool->y.data = staged_ ? parts.y : static_cast<float*>(d_.pool.y.data) + at;
  if (!code_bytes_) return;
  pool->indices = pool->y;
  pool->indices.dtype = pool->index_dtype;
  pool->indices.data = staged_ ? parts.codes : static_cast<char*>(d_.pool.indices.data) + at * code_bytes_;
}

void Driver::move(const ConvPoolStrip& s, const Parts& parts) const {
  const int64_t part = s.rows() * d_.pool.Q, plane = d_.pool.P * d_.pool.Q;
  for (int64_t c = 0; c < d_.pool.C; ++c) {
    const int64_t at = (s.n0 * d_.pool.C + c) * plane + s.p0 * d_.pool.Q;
    std::memcpy(static_cast<float*>(d_.pool.y.data) + at, parts.y + c * part,
                static_cast<size_t>(part) * sizeof(float));
    if (!code_bytes_) continue;
    std::memcpy(static_cast<char*>(d_.pool.indices.data) + at * code_bytes_,
                parts.codes + c * part * code_bytes_, static_cast<size_t>(part * code_bytes_));
  }
}

PartReport Driver::run(int64_t index, const Exec& exec, float* scratch) const {
  Parts parts;
  cut(scratch, &parts);
  const ConvPoolStrip strip = conv_pool_strip(d_, strips_, index);
  PartReport report = run_part(exec, strips_.serial, [&](Exec& part) {
    run_or_ref(cpu_conv2d_forward_untuned, ref_conv2d_forward, strip_conv(d_, strip, parts.inner), part);
  });
  Pool2dDesc pool = strip_pool(d_, strip, parts.inner);
  place(strip, parts, &pool);
  report.include(run_part(exec, strips_.serial, [&](Exec& part) {
    run_or_ref(cpu_max_pool2d_forward, ref_max_pool2d_forward, pool, part);
    if (!code_bytes_) return;
    for_chunks(part, numel(pool.y), kCheapChunk, [&](int64_t begin, int64_t end) {
      ops_ukernels().drop_codes(static_cast<const float*>(pool.y.data) + begin, end - begin, pool.index_dtype,
                                static_cast<char*>(pool.indices.data) + begin * code_bytes_);
    });
  }));
  if (staged_ && !exec.planning()) move(strip, parts);
  return report;
}

// The first strip with the most rows of the convolution.
int64_t widest_strip(const ConvPoolDesc& desc, const ConvPoolStrips& strips) {
  int64_t widest = 0, most = 0;
  for (int64_t i = 0; i < strips.row_parts; ++i) {
    const ConvPoolStrip strip = conv_pool_strip(desc, strips, i);
    if (strip.h1 - strip.h0 > most) most = strip.h1 - strip.h0, widest = i;
  }
  return widest;
}

}  // namespace

Ran cpu_conv2d_relu_max_pool2d_forward(const ConvPoolDesc& desc, Exec& exec) {
  if (desc.conv.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  const ConvPoolStrips strips = plan_conv_pool(desc);
  Driver driver(desc, strips);
  const int64_t last = strips.count() - 1, widest = widest_strip(desc, strips);
  const SharedWeight weights(driver.conv(widest), exec);
  driver.set_weights(weights.handle());

  const int64_t strands = strips.serial ? std::min<int64_t>(exec.num_threads(), last + 1) : 1;
  PartReport report;
  if (strips.serial && !exec.planning()) {
    report = run_serial_parts(exec, strips.count(), driver.scratch_floats(),
                              [&](int64_t i, float* scratch) { return driver.run(i, exec, scratch); });
  } else {
    float* const scratch = exec.scratch_array<float>(strands * driver.scratch_floats());
    // A plan looks at those that differ.
    for (int64_t i = 0; i <= last; ++i) {
      if (exec.planning() && i != 0 && i != widest && i != last) continue;
      const PartReport part = driver.run(i, exec, scratch);
      if (i == 0) report.kernel = part.kernel;
      report.include(part);
    }
  }
  exec.shares(strips.serial ? strips.count() : 1);
  exec.borrows(static_cast<size_t>(strands) * report.scratch_bytes);
  exec.strips(strips.images, strips.conv_rows);
  exec.ran(report.kernel);
  return Ran::kDone;
}

}  // namespace cnnext
