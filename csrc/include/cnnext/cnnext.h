/* cnnext: convolution, pooling and the operations around them, on the CPU (and on CUDA where that library is
 * installed).
 *
 * The C ABI, and all that a program outside this library includes (cnnext.hpp is C++17 over it). Rules that
 * hold for every function:
 *  - Nothing throws, nothing aborts. A status other than CNNEXT_OK leaves a message in cnnext_last_error()
 * (per thread).
 *  - A tensor is a view: the caller owns the memory. The logical shape of images is always N, C, H, W;
 * strides say whether the memory is NCHW or channels-last (NHWC). Strides count elements. Any other strides
 * are accepted and copied once.
 *  - Dry run: an output whose `data` is NULL makes the call only check its arguments and write dtype, shape
 * and strides of every output, so that the caller can allocate; then the same call with data runs it. An
 * output of size 0 may stay NULL on the second call. Outputs and inputs marked "may be NULL" are optional
 * pointers.
 *  - All tensors of a call lie on one device, and the call runs there: on the CPU, or queued on
 * cnnext_context's stream of that CUDA device, without waiting for it. That device is current during the call
 * alone. The scratch of such a call is device memory, and so is its workspace.
 *  - Structs start with their own size, so that they can grow: use the _INIT macros.
 *  - Threads: any function may be called from any number of threads at once, on the same inputs and handles
 * too; a call's outputs, workspace and plan are its own. Process-wide settings hold for all threads.
 *  - Errors: what the outputs of a failed call hold is undefined. CNNEXT_INVALID_VALUE and
 * CNNEXT_INVALID_TYPE name the argument, its value and the rule.
 *  - Ownership: no pointer is kept beyond the call (on CUDA: beyond the work that it queued). Only
 * cnnext_alloc, cnnext_cuda_alloc and cnnext_pack_weight give what the caller has to free. Strings belong to
 * the library and live for ever where nothing else is said.
 *  - dtypes: all floating tensors of a call have x's dtype, where nothing else is said. "float" below is
 * float32 or float64; "any float" float16 and bfloat16 too, with sums in float32. On CUDA float is any float.
 *  - Results have the memory format of the (first) image, and do not depend on the number of threads.
 */
#ifndef CNNEXT_H_
#define CNNEXT_H_

#include <stddef.h>
#include <stdint.h>

#define CNNEXT_VERSION_MAJOR 0
#define CNNEXT_VERSION_MINOR 1
#define CNNEXT_VERSION_PATCH 0

#if defined(_WIN32)
#error "cnnext supports Linux (x86-64, aarch64) and macOS"
#else
#define CNNEXT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status, tensors, context
 * ---------------------------------------------------------------------------------------- */

typedef enum cnnext_status {
  CNNEXT_OK = 0,
  CNNEXT_INVALID_VALUE = 1,   /* a shape, size or parameter breaks a rule (Python: ValueError) */
  CNNEXT_INVALID_TYPE = 2,    /* wrong kind or dtype (TypeError) */
  CNNEXT_NOT_IMPLEMENTED = 3, /* valid, but not supported by this backend (NotImplementedError) */
  CNNEXT_OUT_OF_MEMORY = 4,   /* (MemoryError) */
  CNNEXT_RUNTIME_ERROR = 5    /* device and system failures (RuntimeError) */
} cnnext_status;

/* The message of this thread's last failed call; "" if none failed. Valid until this thread's next call. */
CNNEXT_API const char* cnnext_last_error(void);

typedef enum cnnext_dtype {
  CNNEXT_FLOAT32 = 0,
  CNNEXT_FLOAT64 = 1,
  CNNEXT_FLOAT16 = 2,
  CNNEXT_BFLOAT16 = 3,
  CNNEXT_UINT8 = 4,
  CNNEXT_INT8 = 5,
  CNNEXT_UINT16 = 6,
  CNNEXT_INT16 = 7,
  CNNEXT_INT32 = 8,
  CNNEXT_INT64 = 9
} cnnext_dtype;

typedef enum cnnext_device_type { CNNEXT_CPU = 1, CNNEXT_CUDA = 2 } cnnext_device_type; /* DLPack's numbers */

#define CNNEXT_MAX_NDIM 8

/* A view. Inputs are only read; data may be NULL where a size is 0. */
typedef struct cnnext_tensor {
  void* data;
  int32_t dtype;       /* cnnext_dtype */
  int32_t ndim;        /* 0 .. CNNEXT_MAX_NDIM */
  int32_t device_type; /* cnnext_device_type */
  int32_t device_id;
  int64_t shape[CNNEXT_MAX_NDIM];
  int64_t strides[CNNEXT_MAX_NDIM]; /* in elements; may be 0 or negative */
} cnnext_tensor;

typedef enum cnnext_backend {
  CNNEXT_BACKEND_AUTO = 0,
  CNNEXT_BACKEND_REF = 1,
  CNNEXT_BACKEND_CPU = 2,
  CNNEXT_BACKEND_CUDA = 3
} cnnext_backend;

/* What parallel_for is given; it never throws, and every index is a piece of work of its own. */
typedef void (*cnnext_task)(void* arg, int64_t index);

/* What a call would do. kernel is as cnnext_last_kernel() would give it, and lives for ever. */
typedef struct cnnext_plan {
  size_t size; /* sizeof(cnnext_plan) */
  const char* kernel;
  uint64_t scratch_bytes;       /* as cnnext_last_scratch_bytes() */
  uint64_t packed_weight_bytes; /* of that: the weights in the kernels' order (0: read as they lie) */
  int64_t tasks;                /* that the threads share, in the largest step; on CUDA: its blocks */
  const char* choice; /* "table", or what autotune found: "autotune: large regions"; lives for ever */
  int32_t num_threads;
  int64_t
      strip_images;   /* of a fused operation: what is computed at a time of the result between its parts, */
  int64_t strip_rows; /* so many rows of so many images; 0 for others */
} cnnext_plan;
#define CNNEXT_PLAN_INIT {sizeof(cnnext_plan), NULL, 0, 0, 0, NULL, 0, 0, 0}

/* How to run a call; every function accepts NULL for the defaults. */
typedef struct cnnext_context {
  size_t size;         /* sizeof(cnnext_context) */
  int32_t backend;     /* cnnext_backend; AUTO follows the tensors' device */
  int32_t num_threads; /* of parallel_for below; ignored without one */
  /* Runs task(arg, i) once for each i in [0, count), in any order and on any threads, and returns when all
   * have ended; called any number of times by a call, on its thread. NULL: cnnext's own pool. */
  void (*parallel_for)(void* user, int64_t count, cnnext_task task, void* arg);
  void* parallel_for_user;
  /* Scratch for this call on the tensors' device, any alignment; what does not fit comes from cnnext's
   * allocator, on CUDA in the stream's order. */
  void* workspace;
  size_t workspace_bytes;
  void* stream; /* cudaStream_t for CUDA tensors; NULL is the legacy default stream */
  /* Not NULL: the call decides everything as it would (for finite weights), writes it to *plan, and neither
   * reads nor writes a tensor's data; data pointers must be there, but may point at nothing. For
   * convolutions, linear and max-pool; on CUDA nothing is launched. */
  cnnext_plan* plan;
} cnnext_context;
#define CNNEXT_CONTEXT_INIT {sizeof(cnnext_context), CNNEXT_BACKEND_AUTO, 0, NULL, NULL, NULL, 0, NULL, NULL}

/* ---- process-wide state
 * ---------------------------------------------------------------------------------------------- */

/* Call it once at the start: CNNEXT_OK where a program that was compiled with this header runs with the
 * library that it has loaded, else CNNEXT_RUNTIME_ERROR with both versions in the message. While the major
 * version is 0, the minor one must be the same; the library's patch version must not be older. */
#define CNNEXT_CHECK_VERSION() \
  cnnext_check_version(CNNEXT_VERSION_MAJOR, CNNEXT_VERSION_MINOR, CNNEXT_VERSION_PATCH)
CNNEXT_API cnnext_status cnnext_check_version(int32_t major, int32_t minor, int32_t patch);
CNNEXT_API const char* cnnext_version(void);    /* of the library: "0.1.0" */
CNNEXT_API const char* cnnext_build_info(void); /* compiler, flags, CUDA option: one line */
CNNEXT_API const char* cnnext_isa(void); /* the CPU instruction set in use: "scalar", "avx2", "avx512" */
/* CNNEXT_OK, or what is wrong with CNNEXT_CPU_ISA (unknown name, not supported by this processor),
 * CNNEXT_NUM_THREADS (1 to 1024), CNNEXT_CACHE_MB (0 or more) or CNNEXT_AUTOTUNE. What is wrong is ignored
 * otherwise. */
CNNEXT_API cnnext_status cnnext_init(void);
/* Comma-separated names of the instruction sets that this build and this processor support, best last. */
CNNEXT_API const char* cnnext_isa_available(void);
/* Of cnnext's own pool: 1 to 1024; the default is what affinity and the cgroup's quota allow. */
CNNEXT_API cnnext_status cnnext_set_num_threads(int32_t n);
CNNEXT_API int32_t cnnext_get_num_threads(void);
/* Whether denormals count as 0; off by default. Every task sets and restores the mode of its thread. */
CNNEXT_API void cnnext_set_flush_denormal(int32_t on);
CNNEXT_API int32_t cnnext_get_flush_denormal(void);
/* What CUDA's float32 convolutions and dense layers may round their factors to before they multiply them
 * (sums stay float32): nothing, TF32 (10 bits of mantissa, 13 fewer than float32's), or bfloat16 (7). A
 * permission, not an order. The CPU always multiplies float32. */
typedef enum cnnext_float32_precision {
  CNNEXT_FLOAT32_HIGHEST = 0, /* the default */
  CNNEXT_FLOAT32_HIGH = 1,
  CNNEXT_FLOAT32_MEDIUM = 2
} cnnext_float32_precision;
CNNEXT_API cnnext_status cnnext_set_float32_matmul_precision(int32_t precision);
CNNEXT_API int32_t cnnext_get_float32_matmul_precision(void);
/* Whether convolutions try other ways to run at the first call of a shape, and keep the fastest: none (the
 * default, or what CNNEXT_AUTOTUNE says: off, same_bits, any), only ways with the same bits, or others too
 * (such as direct against Winograd): results then depend on what was timed. Decisions are kept in
 * CNNEXT_CACHE_DIR, or $XDG_CACHE_HOME/cnnext, or ~/.cache/cnnext. */
typedef enum cnnext_autotune {
  CNNEXT_AUTOTUNE_OFF = 0,
  CNNEXT_AUTOTUNE_SAME_BITS = 1,
  CNNEXT_AUTOTUNE_ANY = 2
} cnnext_autotune;
CNNEXT_API cnnext_status cnnext_set_autotune(int32_t mode);
CNNEXT_API int32_t cnnext_get_autotune(void);
/* CUDA comes from libcnnext_cuda.so beside this library, or from the file that CNNEXT_CUDA_LIBRARY names;
 * opened by the first call that asks. */
CNNEXT_API int32_t cnnext_cuda_available(void);
CNNEXT_API const char* cnnext_cuda_reason(void); /* why CUDA is off; "" when it is on */

/* 64-byte-aligned blocks from the pooled allocator, not cleared; huge pages are advised for large ones. NULL
 * when memory is out. Freed on any thread, by cnnext_free alone; NULL is left alone. cnnext_empty_cache gives
 * back to the system what is free. */
CNNEXT_API void* cnnext_alloc(size_t bytes);
CNNEXT_API void cnnext_free(void* block);
CNNEXT_API void cnnext_empty_cache(void);
typedef struct cnnext_memory_stats {
  size_t size;
  /* in use: what was asked for; a block of the cache that serves it may be twice as large */
  uint64_t in_use_bytes, peak_in_use_bytes, cached_bytes, cache_limit_bytes, allocations, cache_hits;
} cnnext_memory_stats;
/* Set size before; the rest is written. */
CNNEXT_API cnnext_status cnnext_get_memory_stats(cnnext_memory_stats* stats);

/* This thread's last call: which implementation ran ("cpu/avx512/conv2d_k_6x64", "ref/max_pool2d"), and its
 * scratch. The text is valid until this thread's next call. */
CNNEXT_API const char* cnnext_last_kernel(void);
CNNEXT_API uint64_t cnnext_last_scratch_bytes(void);
/* Whether `backend` has an implementation of its own of op (the name of an op-table field, as cnnext_op_name
 * gives) for dtype; -1 for an unknown name. */
CNNEXT_API int32_t cnnext_op_supported(int32_t backend, const char* op, int32_t dtype);
CNNEXT_API const char* cnnext_op_name(int32_t index); /* NULL past the end */

/* ---- CUDA devices: memory and streams for programs without the CUDA runtime
 * ---------------------------------------------------------------------------------------------------------
 */

CNNEXT_API int32_t cnnext_cuda_device_count(void); /* 0 where CUDA is off */
/* "NVIDIA H100 PCIe, sm_90, 79 GiB", cut to bytes (1 or more) with its closing 0. */
CNNEXT_API cnnext_status cnnext_cuda_device_name(int32_t device, char* text, size_t bytes);
/* *device: whose memory pointer is; -1 for memory of no device. */
CNNEXT_API cnnext_status cnnext_cuda_pointer_device(const void* pointer, int32_t* device);
/* Memory in the order of a stream (cudaStream_t), from a pool that cnnext_empty_cache() empties; no bytes are
 * NULL. A block is freed on a stream that comes after everything that uses it. */
CNNEXT_API cnnext_status cnnext_cuda_alloc(int32_t device, size_t bytes, void* stream, void** block);
CNNEXT_API cnnext_status cnnext_cuda_free(int32_t device, void* block, void* stream);
/* Between host and device either way, or on the device, in the stream's order. Pageable host memory may be
 * reused when it returns. */
CNNEXT_API cnnext_status cnnext_cuda_copy(int32_t device, void* to, const void* from, size_t bytes,
                                          void* stream);
/* What is queued on stream from now on waits for what producer has been given by now. */
CNNEXT_API cnnext_status cnnext_cuda_wait(int32_t device, void* stream, void* producer);
CNNEXT_API cnnext_status cnnext_cuda_synchronize(int32_t device, void* stream);

/* ---- convolution
 * ----------------------------------------------------------------------------------------------------- */

typedef enum cnnext_padding_mode {
  CNNEXT_PAD_EXPLICIT = 0,
  CNNEXT_PAD_SAME = 1, /* output = ceil(input / stride); an odd total puts the extra at the end */
  CNNEXT_PAD_VALID = 2
} cnnext_padding_mode;

typedef enum cnnext_activation {
  CNNEXT_ACT_NONE = 0,
  CNNEXT_ACT_RELU = 1,
  CNNEXT_ACT_RELU6 = 2,
  CNNEXT_ACT_LEAKY_RELU = 3, /* alpha: negative slope */
  CNNEXT_ACT_GELU = 4,       /* by erf */
  CNNEXT_ACT_GELU_TANH = 5,
  CNNEXT_ACT_SILU = 6,
  CNNEXT_ACT_SIGMOID = 7,
  CNNEXT_ACT_TANH = 8
} cnnext_activation;

typedef enum cnnext_algorithm { CNNEXT_ALGO_AUTO = 0, CNNEXT_ALGO_DIRECT = 1 } cnnext_algorithm;

typedef struct cnnext_conv2d_params {
  size_t size;
  int64_t stride[2];  /* h, w */
  int64_t padding[4]; /* top, bottom, left, right */
  int64_t dilation[2];
  int64_t output_padding[2]; /* conv_transpose2d; and the conv2d calls that are its gradients, where it is
                              * taken off the end of the image side before windows are counted */
  int64_t groups;
  int32_t padding_mode;
  int32_t activation;
  int32_t algorithm;
  double activation_alpha;
} cnnext_conv2d_params;
#define CNNEXT_CONV2D_PARAMS_INIT                                                      \
  {sizeof(cnnext_conv2d_params), {1, 1},          {0, 0, 0, 0},     {1, 1}, {0, 0}, 1, \
   CNNEXT_PAD_EXPLICIT,          CNNEXT_ACT_NONE, CNNEXT_ALGO_AUTO, 0.01}

/* y = activation(conv(x, w) + bias + residual). x (N,C,H,W) or (C,H,W); w (K,C/groups,R,S); bias (K),
 * residual as y: may be NULL. y (N,K,P,Q), P = (H + top + bottom - dilation*(R-1) - 1) / stride + 1, or
 * without N. Any float. */
CNNEXT_API cnnext_status cnnext_conv2d(const cnnext_context*, const cnnext_conv2d_params*,
                                       const cnnext_tensor* x, const cnnext_tensor* w,
                                       const cnnext_tensor* bias, const cnnext_tensor* residual,
                                       cnnext_tensor* y);
/* grad_y (N,K,P,Q), w as above; grad_x (N,C,H,W), whose shape is an input (set ndim and shape before a dry
 * run). activation is NONE, here and below. Any float. */
CNNEXT_API cnnext_status cnnext_conv2d_backward_data(const cnnext_context*, const cnnext_conv2d_params*,
                                                     const cnnext_tensor* grad_y, const cnnext_tensor* w,
                                                     cnnext_tensor* grad_x);
/* grad_y and x as above; grad_w (K,C/groups,R,S), whose shape is an input. The bias's gradient is
 * cnnext_bias_grad(grad_y). */
CNNEXT_API cnnext_status cnnext_conv2d_backward_weights(const cnnext_context*, const cnnext_conv2d_params*,
                                                        const cnnext_tensor* grad_y, const cnnext_tensor* x,
                                                        cnnext_tensor* grad_w);
/* x (N,C,H,W) or (C,H,W); w (C,K/groups,R,S); bias (K) may be NULL; y (N,K,P,Q), P = (H-1)*stride - top -
 * bottom + dilation*(R-1) + output_padding + 1. */
CNNEXT_API cnnext_status cnnext_conv_transpose2d(const cnnext_context*, const cnnext_conv2d_params*,
                                                 const cnnext_tensor* x, const cnnext_tensor* w,
                                                 const cnnext_tensor* bias, cnnext_tensor* y);

/* Weights packed once for repeated forwards on the CPU. The handle holds a copy: later changes of w do not
 * reach it. Any threads may use it at once; freed by cnnext_packed_weight_free when none does (NULL is left
 * alone). channels_last and input_shape say what inputs to pack for; others are taken too. On failure *packed
 * is NULL. */
typedef struct cnnext_packed_weight cnnext_packed_weight;
CNNEXT_API cnnext_status cnnext_pack_weight(const cnnext_context*, const cnnext_conv2d_params*,
                                            const cnnext_tensor* w, int32_t channels_last,
                                            const int64_t* input_shape /* N,C,H,W; may be NULL */,
                                            cnnext_packed_weight** packed);
CNNEXT_API void cnnext_packed_weight_free(cnnext_packed_weight*);
CNNEXT_API uint64_t cnnext_packed_weight_bytes(const cnnext_packed_weight*);
/* As cnnext_conv2d. params' stride, padding, dilation and groups must be those of the packing; NULL: the
 * packing's params. */
CNNEXT_API cnnext_status cnnext_conv2d_packed(const cnnext_context*, const cnnext_conv2d_params*,
                                              const cnnext_tensor* x, const cnnext_packed_weight* w,
                                              const cnnext_tensor* bias, const cnnext_tensor* residual,
                                              cnnext_tensor* y);

/* y = activation(x w^T + bias); x (..., in), w (out, in), bias (out) may be NULL, y (..., out). Any float. */
CNNEXT_API cnnext_status cnnext_linear(const cnnext_context*,
                                       const cnnext_conv2d_params* /* activation only; may be NULL */,
                                       const cnnext_tensor* x, const cnnext_tensor* w,
                                       const cnnext_tensor* bias, cnnext_tensor* y);
/* grad_x (..., in) of grad_y (..., out); grad_w (out, in), summed over the leading axes. */
CNNEXT_API cnnext_status cnnext_linear_backward_data(const cnnext_context*, const cnnext_tensor* grad_y,
                                                     const cnnext_tensor* w, cnnext_tensor* grad_x);
CNNEXT_API cnnext_status cnnext_linear_backward_weights(const cnnext_context*, const cnnext_tensor* grad_y,
                                                        const cnnext_tensor* x, cnnext_tensor* grad_w);

/* ---- pooling
 * ---------------------------------------------------------------------------------------------------------
 */

typedef enum cnnext_index_kind {
  CNNEXT_INDEX_PLANE = 0, /* int64, h*W + w in the plane; -1: no valid tap */
  CNNEXT_INDEX_WINDOW =
      1, /* r*S + s; uint8, uint16 where R*S > 255, int32 above 65,535; all ones: no valid tap */
  CNNEXT_INDEX_ONNX = 2,             /* int64 into the whole flattened N,C,H,W tensor */
  CNNEXT_INDEX_ONNX_COLUMN_MAJOR = 3 /* the same with h and w exchanged (ONNX storage_order = 1) */
} cnnext_index_kind;

typedef struct cnnext_pool2d_params {
  size_t size;
  int64_t kernel[2];
  int64_t stride[2];
  int64_t padding[4]; /* top, bottom, left, right */
  int64_t dilation[2];
  int32_t padding_mode;
  int32_t ceil_mode;
  int32_t index_kind;
  int32_t count_include_pad;
  int32_t four_sided; /* padding was given side by side: each side may reach up to the effective kernel - 1 */
  int64_t divisor_override; /* 0: none */
} cnnext_pool2d_params;
#define CNNEXT_POOL2D_PARAMS_INIT \
  {sizeof(cnnext_pool2d_params),  \
   {1, 1},                        \
   {1, 1},                        \
   {0, 0, 0, 0},                  \
   {1, 1},                        \
   CNNEXT_PAD_EXPLICIT,           \
   0,                             \
   CNNEXT_INDEX_PLANE,            \
   1,                             \
   0,                             \
   0}

/* x (N,C,H,W) or (C,H,W), any float, uint8 or int8; y (N,C,P,Q); indices (N,C,P,Q) in the dtype of
 * index_kind. Of equal values the first in row-major order counts, NaN above all; padding counts as -inf and
 * is never chosen. padding is at most half the effective kernel (four_sided: less than all of it). */
CNNEXT_API cnnext_status cnnext_max_pool2d(const cnnext_context*, const cnnext_pool2d_params*,
                                           const cnnext_tensor* x, cnnext_tensor* y,
                                           cnnext_tensor* indices /* may be NULL */);
/* grad_x (N,C,H,W), whose shape is an input: zeros with grad_y (N,C,P,Q) added at the indices, which are
 * checked: CNNEXT_INVALID_VALUE for one that names no element. So below. */
CNNEXT_API cnnext_status cnnext_max_pool2d_backward(const cnnext_context*, const cnnext_pool2d_params*,
                                                    const cnnext_tensor* grad_y, const cnnext_tensor* indices,
                                                    cnnext_tensor* grad_x);
/* y (N,C,P,Q) = x (N,C,H,W) read at the argmax: the adjoint of max_pool2d_backward, and max_unpool2d's
 * backward. float. */
CNNEXT_API cnnext_status cnnext_max_pool2d_gather(const cnnext_context*, const cnnext_pool2d_params*,
                                                  const cnnext_tensor* x, const cnnext_tensor* indices,
                                                  cnnext_tensor* y);
/* y (N,C,H,W), whose shape is an input: zeros with x (N,C,P,Q), float, written at the indices. Values at
 * equal indices: the last in row-major order stays. */
CNNEXT_API cnnext_status cnnext_max_unpool2d(const cnnext_context*, const cnnext_pool2d_params*,
                                             const cnnext_tensor* x, const cnnext_tensor* indices,
                                             cnnext_tensor* y);
/* out (N,C,P,Q) of target_kind's dtype. params->index_kind is the source's kind. input_shape: N, C, H, W of
 * the pool's input. */
CNNEXT_API cnnext_status cnnext_convert_indices(const cnnext_context*, const cnnext_pool2d_params*,
                                                const int64_t* input_shape, int32_t target_kind,
                                                const cnnext_tensor* indices, cnnext_tensor* out);

/* y = max_pool2d(relu(conv(x, w) + bias)), strip by strip: the convolution's result is never in memory as a
 * whole. codes (may be NULL): the pool's window indices, of pool->index_kind WINDOW; all ones also where the
 * ReLU stops a window's maximum, so that codes alone say where gradients go. conv's activation is NONE.
 * float32 and float64. */
CNNEXT_API cnnext_status cnnext_conv2d_relu_max_pool2d(const cnnext_context*, const cnnext_conv2d_params*,
                                                       const cnnext_pool2d_params*, const cnnext_tensor* x,
                                                       const cnnext_tensor* w, const cnnext_tensor* bias,
                                                       cnnext_tensor* y, cnnext_tensor* codes);
CNNEXT_API cnnext_status cnnext_conv2d_relu_max_pool2d_packed(
    const cnnext_context*, const cnnext_conv2d_params*, const cnnext_pool2d_params*, const cnnext_tensor* x,
    const cnnext_packed_weight* w, const cnnext_tensor* bias, cnnext_tensor* y, cnnext_tensor* codes);
/* Each of the three results may be NULL. */
CNNEXT_API cnnext_status cnnext_conv2d_relu_max_pool2d_backward(
    const cnnext_context*, const cnnext_conv2d_params*, const cnnext_pool2d_params*,
    const cnnext_tensor* grad_y, const cnnext_tensor* codes, const cnnext_tensor* x, const cnnext_tensor* w,
    cnnext_tensor* grad_x, cnnext_tensor* grad_w, cnnext_tensor* grad_bias);
/* y (N,C,P,Q) of x (N,C,H,W) or (C,H,W), float; of params, index_kind is not used. grad_x's shape is an
 * input, and so for the adaptive pool, whose windows divide H and W evenly. */
CNNEXT_API cnnext_status cnnext_avg_pool2d(const cnnext_context*, const cnnext_pool2d_params*,
                                           const cnnext_tensor* x, cnnext_tensor* y);
CNNEXT_API cnnext_status cnnext_avg_pool2d_backward(const cnnext_context*, const cnnext_pool2d_params*,
                                                    const cnnext_tensor* grad_y, cnnext_tensor* grad_x);
/* output_size: h, w; -1 keeps the input's size. */
CNNEXT_API cnnext_status cnnext_adaptive_avg_pool2d(const cnnext_context*, const int64_t* output_size,
                                                    const cnnext_tensor* x, cnnext_tensor* y);
CNNEXT_API cnnext_status cnnext_adaptive_avg_pool2d_backward(const cnnext_context*,
                                                             const cnnext_tensor* grad_y,
                                                             cnnext_tensor* grad_x);

/* ---- element-wise and per channel
 * ------------------------------------------------------------------------------------ */

/* y = kind(x) of any shape, any float; y may be x. kind: a cnnext_activation but NONE; alpha: LEAKY_RELU's.
 */
CNNEXT_API cnnext_status cnnext_activation_forward(const cnnext_context*, int32_t kind, double alpha,
                                                   const cnnext_tensor* x, cnnext_tensor* y);
/* grad_x = grad_y times the derivative at x, the input of the forward. */
CNNEXT_API cnnext_status cnnext_activation_backward(const cnnext_context*, int32_t kind, double alpha,
                                                    const cnnext_tensor* grad_y, const cnnext_tensor* x,
                                                    cnnext_tensor* grad_x);
/* y = a + b of equal shapes, any float; y may be a or b. */
CNNEXT_API cnnext_status cnnext_add(const cnnext_context*, const cnnext_tensor* a, const cnnext_tensor* b,
                                    cnnext_tensor* y);
/* y = x + bias, x (N,C,...), bias (C), float; y may be x. */
CNNEXT_API cnnext_status cnnext_bias_add(const cnnext_context*, const cnnext_tensor* x,
                                         const cnnext_tensor* bias, cnnext_tensor* y);
/* grad_bias (C): the sum of grad_y (N,C,...) over every axis but axis 1. Any float. */
CNNEXT_API cnnext_status cnnext_bias_grad(const cnnext_context*, const cnnext_tensor* grad_y,
                                          cnnext_tensor* grad_bias);
/* Kept with probability 1-p and scaled by 1/(1-p): Philox4x32-10 keyed by seed at offset + position in memory
 * order. The gradient is the same call on grad_y. x of any shape, float; y may be x. */
CNNEXT_API cnnext_status cnnext_dropout(const cnnext_context*, double p, uint64_t seed, uint64_t offset,
                                        const cnnext_tensor* x, cnnext_tensor* y);
/* y = x of any dtype, with y's strides (any, without overlap of its own). In a dry run channels_last picks
 * y's format for 4-D and 3-D tensors. */
CNNEXT_API cnnext_status cnnext_copy(const cnnext_context*, int32_t channels_last, const cnnext_tensor* x,
                                     cnnext_tensor* y);

/* ---- normalisation, softmax, loss
 * ------------------------------------------------------------------------------------ */

typedef struct cnnext_batch_norm_params {
  size_t size;
  double eps;
  double momentum;
  int32_t training;
  int32_t activation; /* of y: CNNEXT_ACT_NONE, _RELU or _RELU6 */
} cnnext_batch_norm_params;
#define CNNEXT_BATCH_NORM_PARAMS_INIT {sizeof(cnnext_batch_norm_params), 1e-5, 0.1, 0, 0}

/* x (N,C,...). weight, bias (C): may be NULL. running_mean, running_var (C): updated in place in training
 * (unbiased variance), may be NULL then. save_mean, save_invstd (C) feed the backward; may be NULL. All have
 * x's dtype; where that has 16 bits (CUDA alone) the saved ones are float32, and the others may be: weight
 * and bias both or neither. */
CNNEXT_API cnnext_status cnnext_batch_norm(const cnnext_context*, const cnnext_batch_norm_params*,
                                           const cnnext_tensor* x, const cnnext_tensor* weight,
                                           const cnnext_tensor* bias, cnnext_tensor* running_mean,
                                           cnnext_tensor* running_var, cnnext_tensor* y,
                                           cnnext_tensor* save_mean, cnnext_tensor* save_invstd);
/* Each of the three results may be NULL. grad_weight and grad_bias have weight's dtype (x's without one). */
CNNEXT_API cnnext_status cnnext_batch_norm_backward(const cnnext_context*, const cnnext_batch_norm_params*,
                                                    const cnnext_tensor* grad_y, const cnnext_tensor* x,
                                                    const cnnext_tensor* weight,
                                                    const cnnext_tensor* save_mean,
                                                    const cnnext_tensor* save_invstd, cnnext_tensor* grad_x,
                                                    cnnext_tensor* grad_weight, cnnext_tensor* grad_bias);

/* The same where params has an activation: y is the forward's result, which tells where the gradient passes.
 */
CNNEXT_API cnnext_status cnnext_batch_norm_activation_backward(
    const cnnext_context*, const cnnext_batch_norm_params*, const cnnext_tensor* grad_y,
    const cnnext_tensor* x, const cnnext_tensor* y, const cnnext_tensor* weight,
    const cnnext_tensor* save_mean, const cnnext_tensor* save_invstd, cnnext_tensor* grad_x,
    cnnext_tensor* grad_weight, cnnext_tensor* grad_bias);

/* y = batch_norm(conv2d(x, w) + bias) and norm's activation, by the batch's statistics (norm->training
 * is required): they are taken of images of the convolution's result that are still in a cache. x is 4-D;
 * conv's activation is NONE. bias, norm_weight, norm_bias, running_mean and running_var (updated in place)
 * may be NULL. conv_y (the convolution's result), save_mean and save_invstd feed batch_norm's backward,
 * behind which comes conv2d's; each may be NULL. float32 and float64. */
CNNEXT_API cnnext_status cnnext_conv2d_batch_norm(const cnnext_context*, const cnnext_conv2d_params* conv,
                                                  const cnnext_batch_norm_params* norm,
                                                  const cnnext_tensor* x, const cnnext_tensor* w,
                                                  const cnnext_tensor* bias, const cnnext_tensor* norm_weight,
                                                  const cnnext_tensor* norm_bias, cnnext_tensor* running_mean,
                                                  cnnext_tensor* running_var, cnnext_tensor* y,
                                                  cnnext_tensor* conv_y, cnnext_tensor* save_mean,
                                                  cnnext_tensor* save_invstd);

/* y = exp(x) over its sum along dim (-ndim .. ndim-1), or with log its logarithm; any shape, float. */
CNNEXT_API cnnext_status cnnext_softmax(const cnnext_context*, int32_t dim, int32_t log,
                                        const cnnext_tensor* x, cnnext_tensor* y);
/* y is the forward's result. */
CNNEXT_API cnnext_status cnnext_softmax_backward(const cnnext_context*, int32_t dim, int32_t log,
                                                 const cnnext_tensor* grad_y, const cnnext_tensor* y,
                                                 cnnext_tensor* grad_x);

typedef enum cnnext_reduction {
  CNNEXT_REDUCTION_NONE = 0,
  CNNEXT_REDUCTION_MEAN = 1,
  CNNEXT_REDUCTION_SUM = 2
} cnnext_reduction;
typedef struct cnnext_cross_entropy_params {
  size_t size;
  int64_t ignore_index;
  double label_smoothing;
  int32_t reduction;
} cnnext_cross_entropy_params;
#define CNNEXT_CROSS_ENTROPY_PARAMS_INIT \
  {sizeof(cnnext_cross_entropy_params), -100, 0.0, CNNEXT_REDUCTION_MEAN}

/* x (N,C), (N,C,d1,...) or (C). target: integers (N,d1,...) or probabilities of x's shape and dtype. weight
 * (C): may be NULL. loss: 0-d, or with CNNEXT_REDUCTION_NONE (N,d1,...). float. grad_loss has loss's shape.
 */
CNNEXT_API cnnext_status cnnext_cross_entropy(const cnnext_context*, const cnnext_cross_entropy_params*,
                                              const cnnext_tensor* x, const cnnext_tensor* target,
                                              const cnnext_tensor* weight, cnnext_tensor* loss);
CNNEXT_API cnnext_status cnnext_cross_entropy_backward(const cnnext_context*,
                                                       const cnnext_cross_entropy_params*,
                                                       const cnnext_tensor* grad_loss, const cnnext_tensor* x,
                                                       const cnnext_tensor* target,
                                                       const cnnext_tensor* weight, cnnext_tensor* grad_x);

/* ---- optimisers: one call updates `count` tensors in place
 * ----------------------------------------------------------- */

typedef struct cnnext_sgd_params {
  size_t size;
  double lr, momentum, dampening, weight_decay;
  int32_t nesterov, maximize, first_step; /* first_step: the buffers are set, not blended */
} cnnext_sgd_params;
/* torch's update (torch.optim.SGD). params, grads and buffers: `count` tensors each, float, of equal shapes;
 * params and buffers are updated and share memory with nothing. buffers: may be NULL when momentum is 0. */
CNNEXT_API cnnext_status cnnext_sgd_step(const cnnext_context*, const cnnext_sgd_params*, int64_t count,
                                         cnnext_tensor* params, const cnnext_tensor* grads,
                                         cnnext_tensor* buffers);

typedef struct cnnext_adam_params {
  size_t size;
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;                /* counts from 1 */
  int32_t decoupled, maximize; /* decoupled: AdamW's weight decay */
} cnnext_adam_params;
/* torch's update (torch.optim.Adam, AdamW); the lists as above. max_exp_avg_sqs: NULL without amsgrad. */
CNNEXT_API cnnext_status cnnext_adam_step(const cnnext_context*, const cnnext_adam_params*, int64_t count,
                                          cnnext_tensor* params, const cnnext_tensor* grads,
                                          cnnext_tensor* exp_avgs, cnnext_tensor* exp_avg_sqs,
                                          cnnext_tensor* max_exp_avg_sqs);

/* ---- preparing images: on the host alone, row-major, without gradients
 * ----------------------------------------------- */

typedef struct cnnext_augment_params {
  size_t size;
  int64_t height, width; /* of y; 0: x's */
  int32_t bilinear;      /* how x is read at fractions of a pixel; 0: the nearest one */
  int32_t clamp;         /* colours to 0 .. 1 */
  double scale;          /* of x's pixels, before anything else: 1/255 */
} cnnext_augment_params;
#define CNNEXT_AUGMENT_PARAMS_INIT {sizeof(cnnext_augment_params), 0, 0, 1, 0, 1.0}
/* x (N, C, H, W), uint8 or float32; y (N, C, height, width), float32. For each image, in this order; each may
 * be NULL:
 *  - affine (N, 2, 3), float64: y's pixel (p, q) is x at the row and the column affine . (p, q, 1); 0 outside
 * x.
 *  - color, float32, (N, C, 2) or (1, C, 2): each channel times [0] plus [1]; or (N, C, C + 1), (1, C, C + 1)
 * for C <= 16: a matrix over the channels, and what is added. Then the clamp.
 *  - erase (N, R, 4), int64: R rectangles top, left, height, width inside y, which become erase_value (C),
 *    float32; NULL: 0. */
CNNEXT_API cnnext_status cnnext_augment(const cnnext_context*, const cnnext_augment_params*,
                                        const cnnext_tensor* x, const cnnext_tensor* affine,
                                        const cnnext_tensor* color, const cnnext_tensor* erase,
                                        const cnnext_tensor* erase_value, cnnext_tensor* y);
/* y[n] = weight[n] * x[n] + (1 - weight[n]) * x[partner[n]]: x and y (N, ...), float32; partner (N), int64,
 * in 0 .. N - 1; weight (N), float32. */
CNNEXT_API cnnext_status cnnext_mix_images(const cnnext_context*, const cnnext_tensor* x,
                                           const cnnext_tensor* partner, const cnnext_tensor* weight,
                                           cnnext_tensor* y);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* CNNEXT_H_ */
