#include <cuda.h>

#include "cuda/tensor_map.cuh"

namespace cnnext::cuda {
namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));

// A function of the driver, which the library does not link: it has to load where there is none.
void* driver_function(const Op& op, const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  check(op, "asking for the driver's tensor maps",
        cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &result));
#else
  check(op, "asking for the driver's tensor maps",
        cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &result));
#endif
  if (result != cudaDriverEntryPointSuccess) {
    fail_cuda(op, "finding the driver's tensor maps", cudaErrorInsufficientDriver);
  }
  return function;
}

CUtensorMapDataType type_of(int32_t dtype) {
  if (dtype == CNNEXT_FLOAT32) return CU_TENSOR_MAP_DATA_TYPE_TFLOAT32;
  if (dtype == CNNEXT_FLOAT16) return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}
uint64_t bytes_of(int32_t dtype) { return dtype == CNNEXT_FLOAT32 ? 4 : 2; }
constexpr int kMostAxes = 5;

void check_map(const Op& op, CUresult result) {
  if (result != CUDA_SUCCESS) fail_cuda(op, "describing a tensor to TMA", cudaErrorInvalidValue);
}

}  // namespace

TensorMap map_boxes(const Op& op, int32_t dtype, const void* data, std::initializer_list<BoxAxis> axes) {
  if (op.planning()) return {};
  cuuint64_t sizes[kMostAxes], strides[kMostAxes];
  cuuint32_t box[kMostAxes], steps[kMostAxes], rank = 0;
  for (const BoxAxis& axis : axes) {
    sizes[rank] = static_cast<cuuint64_t>(axis.size);
    if (rank > 0) strides[rank - 1] = static_cast<cuuint64_t>(axis.stride) * bytes_of(dtype);
    box[rank] = static_cast<cuuint32_t>(axis.box);
    steps[rank++] = 1;
  }
  CUtensorMap map;
  const auto encode =
      reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(driver_function(op, "cuTensorMapEncodeTiled"));
  check_map(op, encode(&map, type_of(dtype), rank, const_cast<void*>(data), sizes, strides, box, steps,
                       CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                       CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return bits_as<TensorMap>(map);
}

// The corners of four axes have 8 bits with a sign, offsets 8 without, steps are 8 at most; coordinates
// have 31.
bool fits_pixel_boxes(const PixelBoxes& boxes, int64_t most_offset) {
  const auto fits = [](const WindowPositions& p, int64_t size) {
    const int64_t last = p.first + (p.count - 1) * p.step - (size - 1);
    return p.step <= 8 && p.first >= -128 && p.first <= 127 && last >= -128 && last <= 127;
  };
  constexpr int64_t kMost = INT32_MAX;
  return most_offset < 256 && boxes.images < kMost && boxes.channels < kMost &&
         boxes.height * boxes.width * boxes.channels < int64_t{1} << 38 && fits(boxes.rows, boxes.height) &&
         fits(boxes.columns, boxes.width);
}

TensorMap map_pixels(const Op& op, int32_t dtype, const void* data, const PixelBoxes& boxes) {
  if (op.planning()) return {};
  const auto sizes_of = [](int64_t n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t sizes[] = {sizes_of(boxes.channels), sizes_of(boxes.width), sizes_of(boxes.height),
                              sizes_of(boxes.images)};
  const cuuint64_t pixel = sizes[0] * bytes_of(dtype);
  const cuuint64_t strides[] = {pixel, pixel * sizes[1], pixel * sizes[1] * sizes[2]};
  // Columns before rows, as the axes come. The upper corner is seen from the image's last pixel.
  const auto first = [](const WindowPositions& p) { return static_cast<int>(p.first); };
  const auto last = [](const WindowPositions& p, int64_t size) {
    return static_cast<int>(p.first + (p.count - 1) * p.step - (size - 1));
  };
  const int lower[] = {first(boxes.columns), first(boxes.rows)};
  const int upper[] = {last(boxes.columns, boxes.width), last(boxes.rows, boxes.height)};
  const cuuint32_t steps[] = {1, static_cast<cuuint32_t>(boxes.columns.step),
                              static_cast<cuuint32_t>(boxes.rows.step), 1};
  CUtensorMap map;
  const auto encode =
      reinterpret_cast<decltype(&cuTensorMapEncodeIm2col)>(driver_function(op, "cuTensorMapEncodeIm2col"));
  check_map(op, encode(&map, type_of(dtype), 4, const_cast<void*>(data), sizes, strides, lower, upper,
                       static_cast<cuuint32_t>(boxes.box_channels), static_cast<cuuint32_t>(boxes.box_pixels),
                       steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                       CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return bits_as<TensorMap>(map);
}

}  // namespace cnnext::cuda
