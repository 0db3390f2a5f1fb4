// Descriptors: an operation with everything decided. They are made in one place each (make_*_desc,
// *_desc.cpp), which is the only place where arguments are judged and shapes computed. Below them there are
// only asserts. Plain data, so that a backend in another library can read them.
//
// In a descriptor that reaches a backend every image tensor is 4-D and dense in desc.format, weights are
// dense in either order (K,C,R,S or K,R,S,C), everything else is row-major contiguous; outputs do not overlap
// inputs unless the op says so, and results of which every one is empty never reach a backend. A tensor that
// is absent has data == nullptr and ndim == -1 (see present()).
#pragma once

#include "core/tensor.h"

namespace cnnext {

inline bool present(const Tensor& t) { return t.ndim >= 0; }
inline Tensor absent() {
  Tensor t{};
  t.ndim = -1;
  return t;
}

// Other ways to run a convolution, which autotune may find faster than what the driver takes by itself. A
// driver that would run differently under one says so by Exec::offers(), and heeds it.
enum class ConvVariant : int32_t {
  kTable = 0,  // what the driver takes by itself
  // With the same bits:
  kSmallRegions,
  kLargeRegions,
  kPlainStores,  // where it would write past the caches
  // With other bits:
  kDirect,      // neither Winograd nor an inner product
  kWinograd,    // where it may be taken, but is expected to be slower
  kOtherSide,   // backward-weights: vectors over the other image's channels
  kTransposed,  // NCHW through transposed strips, where it would be read as it lies
  kPlanes,      // the other way round
};
constexpr int kNumConvVariants = 9;
constexpr bool keeps_bits(ConvVariant variant) { return variant <= ConvVariant::kPlainStores; }

// Convolution in all three passes. x is the image side (N,C,H,W), y the feature side (N,K,P,Q), w
// (K,C/groups,R,S):
//   forward            y <- x, w        (+ bias (K), residual (y's shape), activation)
//   backward-data      x <- y, w        (+ bias (C): conv_transpose2d's forward)
//   backward-weights   w <- y, x
// An empty result never reaches a backend. An empty sum may (forward: C == 0; backward-data: K == 0;
// backward-weights: N == 0): a backend may decline it with kUnsupported, and ref takes it.
// Always (P - 1) * stride_h + dilation_h * (R - 1) + 1 <= H + pads, so every tap lies in the padded image;
// but conv_transpose2d's output_padding can make P less than the number of windows that fit: never recompute
// it.
struct Conv2dDesc {
  int64_t N, C, H, W, K, R, S, P, Q, groups;
  int64_t stride_h, stride_w, dilation_h, dilation_w;
  int64_t pad_top, pad_bottom, pad_left, pad_right;  // may be negative nowhere
  int32_t dtype, activation, algorithm;
  ConvVariant variant;
  bool one_thread;  // runs on one: tasks need not be many
  double activation_alpha;
  Format format;    // of x and y
  Format w_format;  // kNCHW: K,C,R,S in memory; kNHWC: K,R,S,C
  Tensor x, w, y, bias, residual;
  const void* packed;  // cnnext_packed_weight*, or nullptr
};

// Pools and their indices. x is the large side (N,C,H,W), y the pooled side (N,C,P,Q), indices as y.
//   max_pool2d_forward   y, indices <- x        max_pool2d_backward  x <- y, indices (accumulates)
//   max_pool2d_gather    y <- x, indices        max_unpool2d         x <- y, indices (assigns)
//   avg / adaptive       y <- x                 their backwards      x <- y
// Empty results never reach a backend; adaptive's backward may have P or Q 0 (x is zero-filled). Codes in
// indices come from outside: see pool_index.h. Where ceil_mode reaches beyond the padded image, P and Q say
// so: never recompute them.
struct Pool2dDesc {
  int64_t N, C, H, W, P, Q, R, S;  // adaptive: R = S = 0
  int64_t stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_bottom, pad_left, pad_right;
  int64_t divisor_override;
  int32_t dtype, index_kind, index_dtype, count_include_pad;
  Format format;
  Tensor x, y, indices;
};

// max_pool2d(relu(conv2d(x, w, bias))) without its inner results: conv.y and pool.x are absent, and so is
// conv's activation. Window codes; all ones where a window has no tap, or its maximum is one that the ReLU
// stops (0 or less), so that max-pool's backward drops its gradient.
//   forward    pool.y, pool.indices <- conv.x, conv.w, conv.bias
//   backward   grad_x, grad_w (K,C,R,S), grad_bias <- pool.y (grad_y), pool.indices, conv.x, conv.w; any of
//              the results may be absent, and N may be 0.
struct ConvPoolDesc {
  Conv2dDesc conv;
  Pool2dDesc pool;
  Tensor grad_x, grad_w, grad_bias;
};

struct ConvertIndicesDesc {
  Pool2dDesc pool;  // geometry, source kind and dtype; its indices is the source
  int32_t target_kind;
  Tensor out;
};

// One flat run of numel elements in memory order. forward: y <- x. backward: y (grad_x) <- x, grad.
struct ElementwiseDesc {
  int64_t numel;
  int32_t dtype, kind;  // kind: cnnext_activation for activations
  double alpha;         // negative slope; dropout's p
  uint64_t seed, offset;
  Tensor x, grad, y;  // add: x + grad. y may be x or grad itself.
};

// x (N,C,inner...): element (n, c, i) at (n*C + c)*inner + i (NCHW) or (n*inner + i)*C + c (NHWC).
struct ChannelDesc {
  int64_t N, C, inner;
  int32_t dtype;
  Format format;
  Tensor x, bias, y;  // bias_add: y <- x + bias; bias_grad: bias <- sum x
};

struct BatchNormDesc {
  int64_t N, C, inner;  // as ChannelDesc
  int32_t dtype, training;
  int32_t activation;  // none, ReLU or ReLU6; backward: y is the forward's, and says where grad_y counts
  double eps, momentum;
  Format format;
  Tensor x, weight, bias, running_mean, running_var, y, save_mean, save_invstd;
  Tensor grad_y, grad_x, grad_weight, grad_bias;
};

// batch_norm(conv2d(x, w, bias)) by the batch's statistics: norm.y, norm's saved and running statistics <-
// conv.x, conv.w, conv.bias. conv.y is norm.x: the convolution's result for the backward, or norm.y itself
// where nobody wants it.
struct ConvBatchNormDesc {
  Conv2dDesc conv;
  BatchNormDesc norm;
};

// Element (o, d, i) at (o*dim + d)*inner + i. forward: y <- x. backward: grad_x <- grad_y, y.
struct SoftmaxDesc {
  int64_t outer, dim, inner;
  int32_t dtype, log;
  Tensor x, y, grad_y, grad_x;
};

// Logit (n, c, i) at (n*C + c)*inner + i; NHWC: (n*inner + i)*C + c. Class target (n, i) at n*inner + i.
struct CrossEntropyDesc {
  int64_t N, C, inner, ignore_index;
  int32_t dtype, target_is_index, reduction;
  double label_smoothing;
  Format format;
  Tensor x, target, weight, loss;  // index target: row-major, int64 or on CUDA any integers;
                                   // probabilities: laid out as x
  Tensor grad_loss, grad_x;        // backward
};

struct CopyDesc {
  Tensor src, dst;  // same shape and dtype, any strides
};

struct SgdDesc {
  cnnext_sgd_params params;
  int64_t count;
  Tensor *param, *grad,
      *buffer;  // buffer: nullptr when momentum is 0. All dense in the same order, one dtype each set.
};

struct AdamDesc {
  cnnext_adam_params params;
  int64_t count;
  Tensor *param, *grad, *exp_avg, *exp_avg_sq, *max_exp_avg_sq;
};

}  // namespace cnnext
