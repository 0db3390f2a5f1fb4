// cnnext.h for C++17: tensors that know who owns their memory, exceptions for status codes, one function an
// operation. Header-only; link cnnext::cnnext.
//
//   using namespace cnnext;
//   Tensor x = Tensor::view(pixels, {8, 3, 32, 32});        // the caller's memory
//   Conv2d conv;  conv.padding = {1, 1, 1, 1};              // what is not set has its default
//   Tensor y = conv2d(x, weight, bias, conv);               // memory from cnnext's pool
//
// The rules of cnnext.h hold. Every function throws Error, with cnnext's message, where its call fails; the
// first call of a program compares the library's version with this header's.
#ifndef CNNEXT_HPP_
#define CNNEXT_HPP_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "cnnext/cnnext.h"

namespace cnnext {

/// A call that failed. what(): cnnext's message; status says of which kind.
class Error : public std::runtime_error {
 public:
  Error(cnnext_status status, const std::string& message) : std::runtime_error(message), status(status) {}
  cnnext_status status;
};

/// Throws unless status is CNNEXT_OK. To be called on the thread of the call that gave it.
inline void check(cnnext_status status) {
  if (status != CNNEXT_OK) throw Error(status, cnnext_last_error());
}

/// Throws where this header and the library that was loaded do not fit (CNNEXT_CHECK_VERSION). Every function
/// below calls it; it compares once.
inline void check_version() {
  static const bool fits = (check(CNNEXT_CHECK_VERSION()), true);
  static_cast<void>(fits);
}

// ---- tensors -------------------------------------------------------------------------------------------

/// The cnnext_dtype of a C++ type.
template <class T>
struct DType;
template <>
struct DType<float> : std::integral_constant<cnnext_dtype, CNNEXT_FLOAT32> {};
template <>
struct DType<double> : std::integral_constant<cnnext_dtype, CNNEXT_FLOAT64> {};
template <>
struct DType<uint8_t> : std::integral_constant<cnnext_dtype, CNNEXT_UINT8> {};
template <>
struct DType<int8_t> : std::integral_constant<cnnext_dtype, CNNEXT_INT8> {};
template <>
struct DType<uint16_t> : std::integral_constant<cnnext_dtype, CNNEXT_UINT16> {};
template <>
struct DType<int16_t> : std::integral_constant<cnnext_dtype, CNNEXT_INT16> {};
template <>
struct DType<int32_t> : std::integral_constant<cnnext_dtype, CNNEXT_INT32> {};
template <>
struct DType<int64_t> : std::integral_constant<cnnext_dtype, CNNEXT_INT64> {};

/// Bytes of an element; 0 for what is no cnnext_dtype.
inline size_t dtype_size(int32_t dtype) {
  static constexpr size_t sizes[] = {4, 8, 2, 2, 1, 1, 2, 2, 4, 8};  // cnnext_dtype's order
  return dtype >= CNNEXT_FLOAT32 && dtype <= CNNEXT_INT64 ? sizes[dtype] : 0;
}

enum class Format { contiguous, channels_last };

/// An array on the host with its shape: a view of the caller's memory, or memory of cnnext's pool, which the
/// copies of a Tensor share. One without a shape is false, and stands for an argument that is not given.
class Tensor {
 public:
  Tensor() = default;

  /// Memory of its own, not cleared. channels_last: of 4-D and 3-D tensors, N, C, H, W being the shape.
  explicit Tensor(const std::vector<int64_t>& shape, cnnext_dtype dtype = CNNEXT_FLOAT32,
                  Format format = Format::contiguous) {
    describe(shape, dtype, format);
    allocate();
  }

  /// Memory of its own for an output that a dry run of cnnext.h described.
  static Tensor described(const cnnext_tensor& output) {
    Tensor t;
    t.raw_ = output;
    t.allocate();
    return t;
  }

  /// A view of data, which has to live as long as the Tensor and its copies do.
  template <class T>
  static Tensor view(T* data, const std::vector<int64_t>& shape, Format format = Format::contiguous) {
    using Element = std::remove_const_t<T>;
    Tensor t;
    t.describe(shape, DType<Element>::value, format);
    t.raw_.data = const_cast<Element*>(data);
    t.read_only_ = std::is_const_v<T>;
    return t;
  }

  explicit operator bool() const { return raw_.data || described_; }
  int64_t ndim() const { return raw_.ndim; }
  int64_t size(int axis) const {
    if (axis < 0 || axis >= raw_.ndim) {
      throw Error(CNNEXT_INVALID_VALUE, "axis is " + std::to_string(axis) + "; the tensor has " +
                                            std::to_string(raw_.ndim) + " axes");
    }
    return raw_.shape[axis];
  }
  std::vector<int64_t> shape() const { return {raw_.shape, raw_.shape + raw_.ndim}; }
  int64_t numel() const {
    int64_t count = 1;
    for (int i = 0; i < raw_.ndim; ++i) count *= raw_.shape[i];
    return count;
  }

  /// The elements. Throws where T is not the tensor's type, or not const and the view is of const memory.
  template <class T>
  T* data() const {
    if (raw_.dtype != DType<std::remove_const_t<T>>::value) {
      throw Error(CNNEXT_INVALID_TYPE, "data<T>(): T is not the tensor's dtype");
    }
    if (read_only_ && !std::is_const_v<T>) {
      throw Error(CNNEXT_INVALID_TYPE, "data<T>(): the tensor is a view of const memory; T must be const");
    }
    return static_cast<T*>(raw_.data);
  }

  /// The same memory in another shape of as many elements; contiguous tensors only.
  Tensor reshape(const std::vector<int64_t>& shape) const {
    Tensor same = *this, result = *this;
    same.describe(this->shape(), static_cast<cnnext_dtype>(raw_.dtype), Format::contiguous);
    for (int i = 0; i < raw_.ndim; ++i) {
      if (raw_.shape[i] != 1 && raw_.strides[i] != same.raw_.strides[i]) {
        throw Error(CNNEXT_INVALID_VALUE, "reshape: the tensor is not contiguous");
      }
    }
    result.describe(shape, static_cast<cnnext_dtype>(raw_.dtype), Format::contiguous);
    if (result.numel() != numel()) {
      throw Error(CNNEXT_INVALID_VALUE, "reshape: the tensor has " + std::to_string(numel()) +
                                            " elements, the shape " + std::to_string(result.numel()));
    }
    return result;
  }

  /// For the functions of cnnext.h: an input, NULL where there is none.
  const cnnext_tensor* get() const { return *this ? &raw_ : nullptr; }

  /// For the functions of cnnext.h, called by `call(cnnext_tensor*)`: out itself, or where it is none, new
  /// memory of the shape that a dry run gives.
  template <class Call>
  static Tensor result(Tensor out, Call&& call) {
    if (!out) {
      cnnext_tensor y = {};
      check(call(&y));
      out = described(y);
    } else if (out.read_only_) {
      throw Error(CNNEXT_INVALID_TYPE, "out is a view of const memory");
    } else if (!out.raw_.data && out.numel() != 0) {  // which cnnext.h would take for a dry run
      throw Error(CNNEXT_INVALID_VALUE, "out is a view of NULL; the rule is memory of its shape");
    }
    check(call(&out.raw_));
    return out;
  }

 private:
  void describe(const std::vector<int64_t>& shape, cnnext_dtype dtype, Format format) {
    const int ndim = static_cast<int>(shape.size());
    if (ndim > CNNEXT_MAX_NDIM) {
      throw Error(CNNEXT_INVALID_VALUE, "a tensor has at most " + std::to_string(CNNEXT_MAX_NDIM) + " axes");
    }
    if (format == Format::channels_last && ndim != 4 && ndim != 3) {
      throw Error(CNNEXT_INVALID_VALUE, "channels_last needs a shape N, C, H, W or C, H, W");
    }
    raw_.dtype = dtype;
    raw_.ndim = ndim;
    raw_.device_type = CNNEXT_CPU;
    raw_.device_id = 0;
    described_ = true;
    uint64_t stride = 1;
    const int channel = format == Format::channels_last ? ndim - 3 : -1;
    const auto add_axis = [&](int axis) {
      const int64_t length = shape[static_cast<size_t>(axis)];
      const uint64_t factor = length > 1 ? static_cast<uint64_t>(length) : 1;
      if (length < 0 || stride > (uint64_t{1} << 60) / factor) {
        throw Error(CNNEXT_INVALID_VALUE, "a size is negative, or the tensor too large");
      }
      raw_.shape[axis] = length;
      raw_.strides[axis] = static_cast<int64_t>(stride);
      stride *= factor;
    };
    if (channel >= 0) add_axis(channel);
    for (int axis = ndim - 1; axis >= 0; --axis) {
      if (axis != channel) add_axis(axis);
    }
  }

  void allocate() {
    described_ = true;
    const size_t bytes = static_cast<size_t>(numel()) * dtype_size(raw_.dtype);
    if (bytes == 0) return;
    memory_.reset(cnnext_alloc(bytes), cnnext_free);
    if (!memory_) throw Error(CNNEXT_OUT_OF_MEMORY, "out of memory: " + std::to_string(bytes) + " bytes");
    raw_.data = memory_.get();
  }

  cnnext_tensor raw_ = {};
  bool described_ = false, read_only_ = false;
  std::shared_ptr<void> memory_;  // none: a view
};

// ---- descriptors: what is not set has its default ------------------------------------------------------

/// A convolution's parameters. stride, dilation: h, w; padding: top, bottom, left, right.
struct Conv2d {
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 4> padding{0, 0, 0, 0};
  std::array<int64_t, 2> dilation{1, 1};
  int64_t groups = 1;
  cnnext_padding_mode padding_mode = CNNEXT_PAD_EXPLICIT;
  cnnext_activation activation = CNNEXT_ACT_NONE;
  cnnext_algorithm algorithm = CNNEXT_ALGO_AUTO;
  double activation_alpha = 0.01;

  cnnext_conv2d_params params() const {
    cnnext_conv2d_params p = CNNEXT_CONV2D_PARAMS_INIT;
    for (size_t i = 0; i < 2; ++i) p.stride[i] = stride[i], p.dilation[i] = dilation[i];
    for (size_t i = 0; i < 4; ++i) p.padding[i] = padding[i];
    p.groups = groups;
    p.padding_mode = padding_mode;
    p.activation = activation;
    p.algorithm = algorithm;
    p.activation_alpha = activation_alpha;
    return p;
  }
};

/// A max-pool's parameters. stride 0: the kernel's size. padding: top, bottom, left, right.
struct MaxPool2d {
  std::array<int64_t, 2> kernel{2, 2};
  std::array<int64_t, 2> stride{0, 0};
  std::array<int64_t, 4> padding{0, 0, 0, 0};
  std::array<int64_t, 2> dilation{1, 1};
  bool ceil_mode = false;
  cnnext_index_kind index_kind = CNNEXT_INDEX_PLANE;

  cnnext_pool2d_params params() const {
    cnnext_pool2d_params p = CNNEXT_POOL2D_PARAMS_INIT;
    for (size_t i = 0; i < 2; ++i) {
      p.kernel[i] = kernel[i];
      p.stride[i] = stride[i] ? stride[i] : kernel[i];
      p.dilation[i] = dilation[i];
    }
    for (size_t i = 0; i < 4; ++i) p.padding[i] = padding[i];
    p.ceil_mode = ceil_mode;
    p.index_kind = index_kind;
    p.four_sided = 1;
    return p;
  }
};

/// How to run a call: on the caller's threads and workspace (CNNEXT_CONTEXT_INIT), and into the caller's out.
struct Run {
  const cnnext_context* context = nullptr;
  Tensor out{};
};

/// Weights packed once for repeated convolutions. It holds a copy; moves, and frees itself.
class PackedWeight {
 public:
  explicit PackedWeight(const Tensor& w, const Conv2d& conv = {},
                        const std::vector<int64_t>& input_shape = {}, Format format = Format::contiguous) {
    check_version();
    if (!input_shape.empty() && input_shape.size() != 4) {
      throw Error(CNNEXT_INVALID_VALUE, "input_shape must be N, C, H, W");
    }
    const cnnext_conv2d_params params = conv.params();
    cnnext_packed_weight* packed = nullptr;
    check(cnnext_pack_weight(nullptr, &params, w.get(), format == Format::channels_last,
                             input_shape.empty() ? nullptr : input_shape.data(), &packed));
    packed_.reset(packed);
  }
  const cnnext_packed_weight* get() const { return packed_.get(); }
  uint64_t bytes() const { return cnnext_packed_weight_bytes(get()); }

 private:
  struct Free {
    void operator()(cnnext_packed_weight* packed) const { cnnext_packed_weight_free(packed); }
  };
  std::unique_ptr<cnnext_packed_weight, Free> packed_;
};

// ---- operations ----------------------------------------------------------------------------------------

/// activation(conv(x, w) + bias + residual): cnnext_conv2d. A Tensor that is none is left out.
inline Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias = {}, const Conv2d& conv = {},
                     const Tensor& residual = {}, const Run& run = {}) {
  check_version();
  const cnnext_conv2d_params params = conv.params();
  return Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_conv2d(run.context, &params, x.get(), w.get(), bias.get(), residual.get(), y);
  });
}

/// The same by packed weights; conv's geometry must be that of the packing.
inline Tensor conv2d(const Tensor& x, const PackedWeight& w, const Tensor& bias = {}, const Conv2d& conv = {},
                     const Tensor& residual = {}, const Run& run = {}) {
  check_version();
  const cnnext_conv2d_params params = conv.params();
  return Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_conv2d_packed(run.context, &params, x.get(), w.get(), bias.get(), residual.get(), y);
  });
}

/// max_pool2d(relu(conv(x, w) + bias)) in one: cnnext_conv2d_relu_max_pool2d.
inline Tensor conv2d_relu_max_pool2d(const Tensor& x, const Tensor& w, const Tensor& bias = {},
                                     const Conv2d& conv = {}, const MaxPool2d& pool = {},
                                     const Run& run = {}) {
  check_version();
  const cnnext_conv2d_params conv_params = conv.params();
  cnnext_pool2d_params pool_params = pool.params();
  pool_params.index_kind = CNNEXT_INDEX_WINDOW;  // of the codes, were they asked for
  return Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_conv2d_relu_max_pool2d(run.context, &conv_params, &pool_params, x.get(), w.get(),
                                         bias.get(), y, nullptr);
  });
}

/// The same by packed weights.
inline Tensor conv2d_relu_max_pool2d(const Tensor& x, const PackedWeight& w, const Tensor& bias = {},
                                     const Conv2d& conv = {}, const MaxPool2d& pool = {},
                                     const Run& run = {}) {
  check_version();
  const cnnext_conv2d_params conv_params = conv.params();
  cnnext_pool2d_params pool_params = pool.params();
  pool_params.index_kind = CNNEXT_INDEX_WINDOW;  // of the codes, were they asked for
  return Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_conv2d_relu_max_pool2d_packed(run.context, &conv_params, &pool_params, x.get(), w.get(),
                                                bias.get(), y, nullptr);
  });
}

/// The maximum of every window: cnnext_max_pool2d.
inline Tensor max_pool2d(const Tensor& x, const MaxPool2d& pool = {}, const Run& run = {}) {
  check_version();
  const cnnext_pool2d_params params = pool.params();
  return Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_max_pool2d(run.context, &params, x.get(), y, nullptr);
  });
}

/// The maxima and, in *indices, where they were (pool.index_kind), in new memory. It is set where all went
/// well, and no Tensor of the call.
inline Tensor max_pool2d(const Tensor& x, const MaxPool2d& pool, Tensor* indices, const Run& run = {}) {
  check_version();
  if (!indices || indices == &x || indices == &run.out) {
    throw Error(CNNEXT_INVALID_VALUE, "indices is NULL, x or out; the rule is the address of another Tensor");
  }
  const cnnext_pool2d_params params = pool.params();
  cnnext_tensor shape = {}, places = {};
  check(cnnext_max_pool2d(run.context, &params, x.get(), &shape, &places));  // a dry run
  const Tensor found = Tensor::described(places);
  places = *found.get();
  const Tensor maxima = Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_max_pool2d(run.context, &params, x.get(), y, &places);
  });
  *indices = found;
  return maxima;
}

/// activation(x w^T + bias): cnnext_linear.
inline Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias = {},
                     cnnext_activation activation = CNNEXT_ACT_NONE, const Run& run = {}) {
  check_version();
  cnnext_conv2d_params params = CNNEXT_CONV2D_PARAMS_INIT;
  params.activation = activation;
  return Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_linear(run.context, &params, x.get(), w.get(), bias.get(), y);
  });
}

/// Batch norm in evaluation, and NONE, RELU or RELU6 of it: cnnext_batch_norm.
inline Tensor batch_norm(const Tensor& x, const Tensor& mean, const Tensor& var, const Tensor& weight = {},
                         const Tensor& bias = {}, double eps = 1e-5,
                         cnnext_activation activation = CNNEXT_ACT_NONE, const Run& run = {}) {
  check_version();
  cnnext_batch_norm_params params = CNNEXT_BATCH_NORM_PARAMS_INIT;
  params.eps = eps;
  params.activation = activation;
  // Only training writes to the statistics.
  cnnext_tensor *m = const_cast<cnnext_tensor*>(mean.get()), *v = const_cast<cnnext_tensor*>(var.get());
  return Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_batch_norm(run.context, &params, x.get(), weight.get(), bias.get(), m, v, y, nullptr,
                             nullptr);
  });
}

/// kind(x); alpha: LEAKY_RELU's: cnnext_activation_forward.
inline Tensor activation(const Tensor& x, cnnext_activation kind, double alpha = 0.01, const Run& run = {}) {
  check_version();
  return Tensor::result(run.out, [&](cnnext_tensor* y) {
    return cnnext_activation_forward(run.context, kind, alpha, x.get(), y);
  });
}

/// max(x, 0).
inline Tensor relu(const Tensor& x, const Run& run = {}) { return activation(x, CNNEXT_ACT_RELU, 0.0, run); }

/// exp(x) over its sum along dim: cnnext_softmax.
inline Tensor softmax(const Tensor& x, int dim, const Run& run = {}) {
  check_version();
  return Tensor::result(run.out,
                        [&](cnnext_tensor* y) { return cnnext_softmax(run.context, dim, 0, x.get(), y); });
}

}  // namespace cnnext
#endif  // CNNEXT_HPP_
