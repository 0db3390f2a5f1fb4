// Batch norm's backward: one pass for the sums of grad and grad * (x - mean), one for grad_x.
#include "cpu/batch_norm_tasks.h"
#include "cpu/cpu.h"

namespace cnnext {
namespace {

Gate gate(const BatchNormDesc& d, int64_t at) {
  return {d.activation ? in(d.y) + at : nullptr, d.activation == CNNEXT_ACT_RELU6};
}
bool is_closed(const Gate& gate) { return gate.y && (*gate.y <= 0 || (gate.six && *gate.y >= 6)); }

struct DoubleDots {
  double sum = 0, dot = 0;  // dot: of grad and x - mean
};
void add(DoubleDots* total, const DoubleDots& s) { *total = {total->sum + s.sum, total->dot + s.dot}; }

// Ends a channel: the gradients of weight and bias, coefficients.
void finish_channel(const BatchNormDesc& d, int64_t c, const DoubleDots& s, const Coefficients& k) {
  const double invstd = in(d.save_invstd)[c], count = static_cast<double>(d.N * d.inner);
  if (present(d.grad_weight)) out(d.grad_weight)[c] = static_cast<float>(s.dot * invstd);
  if (present(d.grad_bias)) out(d.grad_bias)[c] = static_cast<float>(s.sum);
  const double scale = invstd * weight_of(d, c);
  k.mean[c] = in(d.save_mean)[c];
  k.scale[c] = static_cast<float>(scale);
  k.slope[c] = static_cast<float>(-scale * invstd * invstd * s.dot / count);
  k.bias[c] = static_cast<float>(-scale * s.sum / count);
}

DoubleDots run_dots(const BatchNormDesc& d, int64_t c, int64_t begin, int64_t end) {
  DoubleDots s;
  const float mean = in(d.save_mean)[c];
  for_runs(d.C, d.inner, c, begin, end, [&](int64_t at, int64_t rows, int64_t count) {
    const RunArgs run{in(d.x) + at, in(d.grad_y) + at, nullptr, rows, d.C * d.inner, count,
                      false,        gate(d, at)};
    const Dots part = kernels().run_dots(run, mean);
    add(&s, {part.sum, part.dot});
  });
  return s;
}

void backward_planes(const BatchNormDesc& d, const Coefficients& k, Exec& exec) {
  const bool stream = streams(d);
  run_planes<DoubleDots>(
      d, exec, [&](int64_t c, int64_t begin, int64_t end) { return run_dots(d, c, begin, end); }, add,
      [&](int64_t c, const DoubleDots& s) { finish_channel(d, c, s, k); },
      [&](int64_t c, int64_t begin, int64_t end) {
        if (!present(d.grad_x)) return;
        for_runs(d.C, d.inner, c, begin, end, [&](int64_t at, int64_t rows, int64_t count) {
          RunArgs run{in(d.x) + at, in(d.grad_y) + at, out(d.grad_x) + at, rows, d.C * d.inner, count,
                      stream,       gate(d, at)};
          if (d.training) {
            kernels().run_grad(run, k.mean[c], k.scale[c], k.slope[c], k.bias[c]);
          } else {
            run.x = run.grad;
            kernels().run_affine(run, 0.f, k.scale[c], 0.f);
          }
        });
      });
}

void column_dots(const BatchNormDesc& d, const ChannelMatrix& m, const Coefficients& k, Exec& exec) {
  const float* mean = repeat(in(d.save_mean), m, exec);
  DoubleDots* parts =
      for_blocks<DoubleDots>(m, exec, [&](int64_t r, int64_t rows, float* scratch, DoubleDots* columns) {
        float *sums = scratch, *dots = sums + m.columns;
        const int64_t at = r * m.columns;
        kernels().column_dots({in(d.x) + at, in(d.grad_y) + at, rows, m.columns, m.columns,
                               const_cast<float*>(mean), sums, dots, gate(d, at)});
        for (int64_t j = 0; j < m.columns; ++j) add(columns + j, {sums[j], dots[j]});
      });
  for (int64_t j = 0; j < m.rest; ++j) {
    const int64_t at = m.rows * m.columns + j;
    const double grad = is_closed(gate(d, at)) ? 0 : in(d.grad_y)[at], x = in(d.x)[at];
    add(parts + j, {grad, grad * (x - mean[j])});
  }
  gather_columns(m, parts, exec, add, [&](int64_t c, const DoubleDots& s) { finish_channel(d, c, s, k); });
}

void backward_columns(const BatchNormDesc& d, const Coefficients& k, Exec& exec) {
  const ChannelMatrix m(d.N * d.inner, d.C, ops_ukernels().lanes);
  column_dots(d, m, k, exec);
  if (!present(d.grad_x)) return;
  if (!d.training) {
    std::fill_n(k.mean, d.C, 0.f);
    std::fill_n(k.bias, d.C, 0.f);
  }
  const float *mean = repeat(k.mean, m, exec), *scale = repeat(k.scale, m, exec);
  const float *slope = repeat(k.slope, m, exec), *bias = repeat(k.bias, m, exec);
  for_applied(m, exec, [&](int64_t row, int64_t rows, int64_t columns) {
    const int64_t at = row * m.columns;
    const float *grad = in(d.grad_y) + at, *x = in(d.x) + at;
    float* grad_x = out(d.grad_x) + at;
    d.training ? kernels().column_grad(
                     {x, grad, grad_x, rows, columns, mean, scale, slope, bias, streams(d), gate(d, at)})
               : kernels().column_affine({grad, grad_x, rows, columns, mean, scale, bias, streams(d)});
  });
}

}  // namespace

Ran cpu_batch_norm_backward(const BatchNormDesc& d, Exec& exec) {
  if (d.dtype != CNNEXT_FLOAT32 || d.C == 0) return Ran::kUnsupported;
  if (d.activation && !d.training) return Ran::kUnsupported;  // nobody is in a hurry there
  const Coefficients k(d.C, exec);
  d.format == Format::kNHWC ? backward_columns(d, k, exec) : backward_planes(d, k, exec);
  exec.ran(CNNEXT_KERNEL_NAME("batch_norm_grad"));
  return Ran::kDone;
}

}  // namespace cnnext
