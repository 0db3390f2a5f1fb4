// The fake driver's tensor maps, with the limits that the driver's manual gives.
#include "tensor_map.h"

#include <cuda_runtime.h>

#include <cstring>

#include "fake_memory.h"

namespace cuda_host {
namespace {

static_assert(sizeof(MapContents) <= sizeof(CUtensorMap));

bool begin_map(MapContents* m, CUtensorMapDataType type, cuuint32_t rank, void* address,
               const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* steps) {
  if (rank < 1 || rank > 5 || reinterpret_cast<uintptr_t>(address) % 16 != 0 || !owns(address)) return false;
  m->address = static_cast<const unsigned char*>(address);
  m->rank = static_cast<uint8_t>(rank);
  m->rounds = type == CU_TENSOR_MAP_DATA_TYPE_TFLOAT32;
  m->element = m->rounds || type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4 : 2;
  m->mark = kMapMark;
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (sizes[i] == 0 || sizes[i] > 0xffffffffu || steps[i] == 0 || steps[i] > 8) return false;
    m->sizes[i] = static_cast<uint32_t>(sizes[i]);
    m->steps[i] = static_cast<uint8_t>(steps[i]);
    if (i + 1 == rank) break;
    if (strides[i] % 16 != 0 || strides[i] >= uint64_t{1} << 40) return false;
    m->strides[i] = strides[i];
  }
  return true;
}

bool fits_swizzle(const MapContents& m, cuuint32_t elements) {
  return elements * m.element <= 128 && elements * m.element % 16 == 0;
}

CUresult end_map(const MapContents& m, CUtensorMap* map) {
  std::memcpy(map, &m, sizeof(m));
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace cuda_host

using cuda_host::MapContents;

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  MapContents m{};
  if (!cuda_host::begin_map(&m, type, rank, address, sizes, strides, steps)) return CUDA_ERROR_INVALID_VALUE;
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (box[i] == 0 || box[i] > 256 || steps[i] != 1) return CUDA_ERROR_INVALID_VALUE;
    m.box[i] = static_cast<uint16_t>(box[i]);
  }
  if (!cuda_host::fits_swizzle(m, box[0])) return CUDA_ERROR_INVALID_VALUE;
  return cuda_host::end_map(m, map);
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                 const cuuint64_t* sizes, const cuuint64_t* strides, const int* lower,
                                 const int* upper, cuuint32_t channels, cuuint32_t pixels,
                                 const cuuint32_t* steps, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  MapContents m{};
  if (rank != 4 || !cuda_host::begin_map(&m, type, rank, address, sizes, strides, steps)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (int i = 0; i < 2; ++i) {
    const auto size = static_cast<int64_t>(sizes[i + 1]);
    if (lower[i] < -128 || lower[i] > 127 || upper[i] < -128 || upper[i] > 127 ||
        lower[i] > size - 1 + upper[i]) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    m.lower[i] = static_cast<int8_t>(lower[i]);
    m.upper[i] = static_cast<int8_t>(upper[i]);
  }
  if (channels == 0 || !cuda_host::fits_swizzle(m, channels) || pixels == 0 || pixels > 1024) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  m.is_im2col = true;
  m.box[0] = static_cast<uint16_t>(channels);
  m.box[1] = static_cast<uint16_t>(pixels);
  return cuda_host::end_map(m, map);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = nullptr;
  if (std::strcmp(name, "cuTensorMapEncodeTiled") == 0) {
    *function = reinterpret_cast<void*>(&cuTensorMapEncodeTiled);
  } else if (std::strcmp(name, "cuTensorMapEncodeIm2col") == 0) {
    *function = reinterpret_cast<void*>(&cuTensorMapEncodeIm2col);
  }
  *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
