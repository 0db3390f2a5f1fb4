// Depthwise convolution of 16-bit images. Vectors over channels widen what they load. Otherwise (columns,
// slow activations, the baseline) a task widens some channels of one image, runs the float32 kernels on them
// and rounds what they give, so that of a tensor no more is float32 at once than one such part a thread.
#include <algorithm>
#include <atomic>
#include <new>

#include "cpu/conv2d_k.h"
#include "cpu/depthwise.h"
#include "cpu/depthwise_engines.h"
#include "cpu/half_rows.h"

namespace cnnext {
namespace {

constexpr int64_t kLanes = 32;      // channels of a part: a cache line of halves
constexpr int64_t kMaxSlices = 16;  // of the batch, each with sums of its own for the weights' gradient

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The tasks' own calls run on their thread alone and take their scratch from the pool.
void run_serially(void*, int64_t count, cnnext_task task, void* arg) {
  for (int64_t i = 0; i < count; ++i) task(arg, i);
}
cnnext_context serial_context() {
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.parallel_for = run_serially;
  context.num_threads = 1;
  return context;
}

class HalfParts {
 public:
  HalfParts(const Conv2dDesc& desc, Exec& exec)
      : desc_(desc),
        half_(half_converter(desc.dtype)),
        each_(std::min(desc.C, ceil_div(ceil_div(desc.C, ceil_div(desc.C, kLanes)), 16) * 16)),
        blocks_(ceil_div(desc.C, each_)),
        planning_(exec.planning()),
        bias_(present(desc.bias) ? widened(desc.bias, exec) : nullptr) {}

  int64_t blocks() const { return blocks_; }
  int64_t first(int64_t block) const { return block * each_; }
  int64_t channels(int64_t block) const { return std::min(each_, desc_.C - first(block)); }

  // The float32 convolution of a block's channels of one image; what it reads and writes is in exec's
  // scratch, its weights are the caller's.
  Conv2dDesc part(int64_t block, const float* weights, Exec& exec) const {
    Conv2dDesc d = desc_;
    d.dtype = CNNEXT_FLOAT32;
    d.N = 1;
    d.C = d.K = d.groups = channels(block);
    d.x = image(d, d.H, d.W, exec);
    d.y = image(d, d.P, d.Q, exec);
    if (present(d.residual)) d.residual = image(d, d.P, d.Q, exec);
    d.w.dtype = CNNEXT_FLOAT32;
    d.w.shape[0] = d.C;
    d.w.data = const_cast<float*>(weights);
    if (bias_) {
      d.bias.dtype = CNNEXT_FLOAT32;
      d.bias.shape[0] = d.C;
      d.bias.data = const_cast<float*>(bias_ + first(block));
    }
    return d;
  }

  // A part's tensor from the image of `all` that it stands for, and back; nothing where the call only plans.
  void load(const Tensor& all, int64_t image, int64_t block, const Tensor& part) const {
    if (planning_) return;
    const Matrix m = matrix(all, image, block);
    const auto* in = static_cast<const uint16_t*>(all.data) + m.offset;
    widen_rows(half_, m.rows, m.cols, in, m.step, static_cast<float*>(part.data), m.cols);
  }
  void store(const Tensor& part, int64_t image, int64_t block, const Tensor& all) const {
    if (planning_) return;
    const Matrix m = matrix(all, image, block);
    auto* out = static_cast<uint16_t*>(all.data) + m.offset;
    narrow_rows(half_, m.rows, m.cols, static_cast<const float*>(part.data), m.cols, out, m.step);
  }

 private:
  struct Matrix {
    int64_t offset, rows, cols, step;
  };
  Matrix matrix(const Tensor& all, int64_t image, int64_t block) const {
    const int64_t pixels = all.shape[2] * all.shape[3], c = first(block), count = channels(block);
    if (desc_.format == Format::kNHWC) return {image * pixels * desc_.C + c, pixels, count, desc_.C};
    return {(image * desc_.C + c) * pixels, 1, count * pixels, count * pixels};
  }

  Tensor image(const Conv2dDesc& d, int64_t rows, int64_t cols, Exec& exec) const {
    Tensor t{};
    t.dtype = CNNEXT_FLOAT32;
    t.device_type = CNNEXT_CPU;
    t.ndim = 4;
    const int64_t shape[] = {1, d.C, rows, cols};
    std::copy(shape, shape + 4, t.shape);
    set_format(&t, d.format);
    t.data = exec.scratch_array<float>(numel(t));
    return t;
  }

  const Conv2dDesc& desc_;
  const HalfConverter& half_;
  const int64_t each_, blocks_;
  const bool planning_;
  const float* const bias_;
};

// body(task, exec) for each task, on an Exec of its own; memory that ran out is reported once all have ended.
// The kernel that ran is the first task's. A plan is the first task's too.
template <class Body>
void for_tasks(int64_t tasks, Exec& exec, const Body& body) {
  std::atomic<bool> no_memory{false};
  const char* kernel = "";
  if (exec.planning()) {
    cnnext_plan plan = CNNEXT_PLAN_INIT;
    cnnext_context context = serial_context();
    context.plan = &plan;
    Exec own(&context);
    body(0, own);
    exec.shares(tasks);
    return exec.ran(own.kernel());
  }
  exec.parallel_for(tasks, [&](int64_t task) {
    try {
      const cnnext_context context = serial_context();
      Exec own(&context);
      body(task, own);
      if (task == 0) kernel = own.kernel();
    } catch (const std::bad_alloc&) {
      no_memory = true;
    }
  });
  if (no_memory) throw std::bad_alloc();
  exec.ran(kernel);
}

bool widens_as_it_loads(const Conv2dDesc& desc) {
  return depthwise_half_ukernels() && depthwise_by_channels(desc) &&
         !conv_activation_is_slow(desc.activation);
}

// Float32 weights and bias beside images that stay as they are.
Conv2dDesc with_float_weights(const Conv2dDesc& desc, const float* weights, Exec& exec) {
  Conv2dDesc d = desc;
  d.dtype = d.w.dtype = CNNEXT_FLOAT32;
  d.w.data = const_cast<float*>(weights);
  if (present(desc.bias)) d.bias.data = const_cast<float*>(widened(desc.bias, exec));
  return d;
}

void run_channels(const Conv2dDesc& desc, bool forward, Exec& exec) {
  const Conv2dDesc d = with_float_weights(desc, widened(desc.w, exec), exec);
  ConvProblem problem = forward ? forward_problem(d, exec) : backward_data_problem(d, exec);
  const Tensor& out = forward ? desc.y : desc.x;
  problem.half = &half_converter(desc.dtype);
  problem.half_out = static_cast<uint16_t*>(out.data);
  if (problem.residual) problem.half_residual = static_cast<const uint16_t*>(desc.residual.data);
  depthwise_channels_run(problem, desc.dtype, exec);
}

void run(const Conv2dDesc& desc, bool forward, Exec& exec) {
  if (widens_as_it_loads(desc)) return run_channels(desc, forward, exec);
  const HalfParts parts(desc, exec);
  const float* const weights = widened(desc.w, exec);
  const int64_t taps = desc.R * desc.S;
  for_tasks(desc.N * parts.blocks(), exec, [&](int64_t task, Exec& own) {
    const int64_t image = task / parts.blocks(), block = task % parts.blocks();
    const Conv2dDesc part = parts.part(block, weights + parts.first(block) * taps, own);
    if (forward) {
      parts.load(desc.x, image, block, part.x);
      if (present(part.residual)) parts.load(desc.residual, image, block, part.residual);
      depthwise_forward(part, own);
      parts.store(part.y, image, block, desc.y);
    } else {
      parts.load(desc.y, image, block, part.y);
      depthwise_backward_data(part, own);
      parts.store(part.x, image, block, desc.x);
    }
  });
}

}  // namespace

bool depthwise_half_supports(const Conv2dDesc& desc) {
  return is_half(desc.dtype) && desc.groups == desc.C && desc.groups == desc.K;
}

void depthwise_half_forward(const Conv2dDesc& desc, Exec& exec) { run(desc, true, exec); }
void depthwise_half_backward_data(const Conv2dDesc& desc, Exec& exec) { run(desc, false, exec); }

void depthwise_half_backward_weights(const Conv2dDesc& desc, Exec& exec) {
  if (widens_as_it_loads(desc)) {
    float* const sums = exec.scratch_array<float>(numel(desc.w));
    depthwise_channels_weights(with_float_weights(desc, sums, exec), desc.dtype, exec);
    return narrow_all(sums, desc.w, exec);
  }
  const HalfParts parts(desc, exec);
  const int64_t taps = desc.R * desc.S, count = desc.C * taps, slices = std::min(desc.N, kMaxSlices);
  float* const sums = exec.scratch_array<float>(slices * count);
  if (!exec.planning()) std::fill(sums, sums + slices * count, 0.f);
  for_tasks(slices * parts.blocks(), exec, [&](int64_t task, Exec& own) {
    const int64_t slice = task / parts.blocks(), block = task % parts.blocks();
    float* const sum = sums + slice * count + parts.first(block) * taps;
    const int64_t mine = parts.channels(block) * taps;
    float* const one = own.scratch_array<float>(mine);
    const Conv2dDesc part = parts.part(block, one, own);
    for (int64_t n = desc.N * slice / slices; n < desc.N * (slice + 1) / slices; ++n) {
      const cnnext_context context = own.context();
      Exec scratch(&context);
      parts.load(desc.x, n, block, part.x);
      parts.load(desc.y, n, block, part.y);
      depthwise_backward_weights(part, scratch);
      own.ran(scratch.kernel());
      if (own.planning()) break;  // the other images are like this one
      for (int64_t i = 0; i < mine; ++i) sum[i] += one[i];
    }
  });
  for (int64_t s = 1; s < slices && !exec.planning(); ++s) {
    for (int64_t i = 0; i < count; ++i) sums[i] += sums[s * count + i];
  }
  narrow_all(sums, desc.w, exec);
}

}  // namespace cnnext
