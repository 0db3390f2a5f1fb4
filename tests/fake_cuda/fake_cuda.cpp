// A CUDA library without CUDA, for tests of everything around the kernels. Its two "devices" are host memory
// that nobody may touch: a block can be read and written only while this library runs, so that a caller who
// reads device memory through a host pointer crashes; and this library aborts on a pointer that is not its
// own, or of another device than the current one.
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "core/host_services.h"

#define FAKE_API extern "C" __attribute__((visibility("default")))

namespace {

using namespace cnnext;

constexpr int kMemory = 2, kLaunch = 9, kLost = 700;  // CUDA's numbers
constexpr int kDevices = 2;
constexpr size_t kPage = 4096;

struct Block {
  size_t bytes, mapped;
  int device;
};
std::map<char*, Block> blocks;
const HostServices* services = nullptr;
thread_local int current = 0;
size_t in_use = 0, kept = 0, limit = size_t{1} << 30;
int pending = 0;  // what the next launch meets
bool is_lost = false;
std::string log_text;

void note(const char* format, ...) {
  char line[200];
  va_list args;
  va_start(args, format);
  std::vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  log_text += line;
  log_text += '\n';
}

[[noreturn]] void stop(const char* why, const void* pointer) {
  std::fprintf(stderr, "fake_cuda: %s: %p\n", why, pointer);
  std::abort();
}

const Block* block_of(const void* pointer) {
  char* const at = const_cast<char*>(static_cast<const char*>(pointer));
  auto after = blocks.upper_bound(at);
  if (after == blocks.begin()) return nullptr;
  --after;
  return at < after->first + after->second.bytes ? &after->second : nullptr;
}

void check_own(const void* pointer) {
  const Block* block = block_of(pointer);
  if (!block) stop("not device memory", pointer);
  if (block->device != current) stop("memory of another device", pointer);
}

// Every block is open as long as one lives.
struct Open {
  Open() { protect(PROT_READ | PROT_WRITE); }
  ~Open() { protect(PROT_NONE); }
  static void protect(int how) {
    for (const auto& [at, block] : blocks) mprotect(at, block.mapped, how);
  }
};

// ---- the device table ----

int count(int32_t* n) {
  *n = kDevices;
  return 0;
}
int describe(int32_t id, char* text, size_t bytes) {
  std::snprintf(text, bytes, "Fake %d, sm_00, 1 GiB", static_cast<int>(id));
  return is_lost ? kLost : 0;
}
int get_current(int32_t* id) {
  *id = current;
  return 0;
}
int set_current(int32_t id) {
  if (id < 0 || id >= kDevices) return 101;
  current = id;
  return 0;
}
int memory(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = limit - in_use;
  *total_bytes = limit;
  return 0;
}
int owner(const void* pointer, int32_t* id) {
  const Block* block = block_of(pointer);
  *id = block ? block->device : -1;
  return 0;
}
int alloc(size_t bytes, void* stream, void** out) {
  if (is_lost) return kLost;
  if (bytes == 0) stop("an allocation of no bytes", out);
  if (bytes > limit || in_use + kept + bytes > limit) return kMemory;
  const size_t mapped = (bytes + kPage - 1) / kPage * kPage;
  *out = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  blocks[static_cast<char*>(*out)] = {bytes, mapped, current};
  in_use += bytes;
  note("alloc %zu device %d stream %zu", bytes, current, reinterpret_cast<size_t>(stream));
  return 0;
}
int free_block(void* at, void* stream) {
  check_own(at);
  const auto found = blocks.find(static_cast<char*>(at));
  if (found == blocks.end()) stop("freed inside a block", at);
  note("free %zu device %d stream %zu", found->second.bytes, current, reinterpret_cast<size_t>(stream));
  in_use -= found->second.bytes;
  kept += found->second.bytes;
  munmap(at, found->second.mapped);
  blocks.erase(found);
  return is_lost ? kLost : 0;
}
void trim() {
  note("trim %zu", kept);
  kept = 0;
}
int copy(void* to, const void* from, size_t bytes, void* stream) {
  if (is_lost) return kLost;
  const Open open;
  note("memcpy %zu device %d stream %zu", bytes, current, reinterpret_cast<size_t>(stream));
  std::memcpy(to, from, bytes);
  return 0;
}
int wait(void* stream, void* producer) {
  note("wait device %d stream %zu for %zu", current, reinterpret_cast<size_t>(stream),
       reinterpret_cast<size_t>(producer));
  return is_lost ? kLost : 0;
}
int synchronize(void* stream) {
  note("synchronize device %d stream %zu", current, reinterpret_cast<size_t>(stream));
  return is_lost ? kLost : 0;
}
int take_error() {
  const int error = pending;
  if (!is_lost) pending = 0;
  return error;
}
DeviceFault explain(int error, char* text, size_t bytes) {
  const bool memory_error = error == kMemory;
  std::snprintf(text, bytes, "%s",
                memory_error       ? "out of memory (fakeErrorMemory)"
                : error == kLaunch ? "invalid configuration (fakeErrorConfiguration)"
                : error == kLost   ? "an illegal access (fakeErrorIllegalAddress)"
                                   : "invalid device (fakeErrorDevice)");
  if (memory_error) return DeviceFault::kMemory;
  return error == kLaunch ? DeviceFault::kLaunch : error == kLost ? DeviceFault::kLost : DeviceFault::kOther;
}

const DeviceTable device = {
    sizeof(DeviceTable), count, describe, get_current, set_current, memory,     owner,  alloc,
    free_block,          trim,  copy,     wait,        synchronize, take_error, explain};

// ---- a few operations ----

void launch(const char* name, Exec& exec) {
  note("%s device %d stream %zu", name, current, reinterpret_cast<size_t>(services->stream(exec)));
  services->ran(exec, "cuda/fake");
}

// Byte offset of element i in row-major order.
int64_t offset(const Tensor& t, int64_t i, int64_t size) {
  int64_t at = 0;
  for (int axis = t.ndim - 1; axis >= 0; --axis) {
    at += i % t.shape[axis] * t.strides[axis];
    i /= t.shape[axis];
  }
  return at * size;
}

int64_t count_of(const Tensor& t) {
  int64_t n = 1;
  for (int axis = 0; axis < t.ndim; ++axis) n *= t.shape[axis];
  return n;
}

int64_t size_of(int32_t dtype) {
  constexpr int64_t kSizes[] = {4, 8, 2, 2, 1, 1, 2, 2, 4, 8};
  return kSizes[dtype];
}

Ran copy_op(const CopyDesc& desc, Exec& exec) {
  check_own(desc.src.data);
  check_own(desc.dst.data);
  launch("copy", exec);
  const Open open;
  const int64_t size = size_of(desc.src.dtype);
  for (int64_t i = 0; i < count_of(desc.src); ++i) {
    std::memcpy(static_cast<char*>(desc.dst.data) + offset(desc.dst, i, size),
                static_cast<const char*>(desc.src.data) + offset(desc.src, i, size),
                static_cast<size_t>(size));
  }
  return Ran::kDone;
}

Ran add(const ElementwiseDesc& desc, Exec& exec) {
  if (desc.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  for (const Tensor* t : {&desc.x, &desc.grad, &desc.y}) check_own(t->data);
  void* const scratch = services->scratch(exec, static_cast<size_t>(desc.numel) * sizeof(float));
  check_own(scratch);
  if (reinterpret_cast<size_t>(scratch) % 256) stop("scratch is not aligned", scratch);
  launch("add", exec);
  const Open open;
  for (int64_t i = 0; i < desc.numel; ++i) {
    static_cast<float*>(scratch)[i] =
        static_cast<const float*>(desc.x.data)[i] + static_cast<const float*>(desc.grad.data)[i];
  }
  std::memcpy(desc.y.data, scratch, static_cast<size_t>(desc.numel) * sizeof(float));
  return Ran::kDone;
}

// relu alone, of whichever float: where the sign is set, zero.
Ran activation(const ElementwiseDesc& desc, Exec& exec) {
  if (desc.kind != CNNEXT_ACT_RELU) return Ran::kUnsupported;
  check_own(desc.x.data);
  check_own(desc.y.data);
  launch("activation_forward", exec);
  const Open open;
  const auto size = static_cast<size_t>(size_of(desc.dtype));
  const auto* from = static_cast<const unsigned char*>(desc.x.data);
  auto* to = static_cast<unsigned char*>(desc.y.data);
  for (int64_t i = 0; i < desc.numel; ++i, from += size, to += size) {
    if (from[size - 1] & 0x80) {
      std::memset(to, 0, size);
    } else {
      std::memmove(to, from, size);
    }
  }
  return Ran::kDone;
}

Ran bias_grad(const ChannelDesc& desc, Exec& exec) {
  if (desc.dtype != CNNEXT_FLOAT32) return Ran::kUnsupported;
  check_own(desc.bias.data);
  launch("bias_grad", exec);
  const Open open;
  for (int64_t c = 0; c < desc.C; ++c) {
    float sum = 0;
    for (int64_t i = 0; i < desc.N * desc.inner; ++i) {
      const int64_t n = i / desc.inner, at = i % desc.inner;
      const bool rows = desc.format == Format::kNCHW;
      sum += static_cast<const float*>(
          desc.x.data)[rows ? (n * desc.C + c) * desc.inner + at : (n * desc.inner + at) * desc.C + c];
    }
    static_cast<float*>(desc.bias.data)[c] = sum;
  }
  return Ran::kDone;
}

Ran sgd_step(const SgdDesc& desc, Exec& exec) {
  launch("sgd_step", exec);
  for (int64_t i = 0; i < desc.count; ++i) {
    check_own(desc.param[i].data);
    check_own(desc.grad[i].data);
    const Open open;
    for (int64_t k = 0; k < count_of(desc.param[i]); ++k) {
      static_cast<float*>(desc.param[i].data)[k] -=
          static_cast<float>(desc.params.lr) * static_cast<const float*>(desc.grad[i].data)[k];
    }
  }
  return Ran::kDone;
}

bool takes_dtype(const char*, int32_t dtype) { return dtype == CNNEXT_FLOAT32; }

OpTable make_table() {
  OpTable t{};
  t.backend = "cuda";
  t.takes_dtype = takes_dtype;
  t.device = &device;
  t.copy = copy_op;
  t.add = add;
  t.activation_forward = activation;
  t.bias_grad = bias_grad;
  t.sgd_step = sgd_step;
  return t;
}

}  // namespace

FAKE_API const OpTable* cnnext_cuda_backend(const HostServices* given, const char** reason) {
  if (std::getenv("FAKE_CUDA_OFF")) {
    *reason = "no fake device";
    return nullptr;
  }
  services = given;
  static const OpTable table = make_table();
  return &table;
}

// ---- what tests do ----

// What a kernel would be told.
FAKE_API int32_t fake_float32_precision() { return services->float32_matmul_precision(); }

FAKE_API void* fake_alloc(int id, size_t bytes) {
  const int before = current;
  current = id;
  void* at = nullptr;
  if (alloc(bytes, nullptr, &at) != 0) at = nullptr;
  current = before;
  return at;
}
FAKE_API void fake_free(void* at) {
  const int before = current;
  current = block_of(at)->device;
  free_block(at, nullptr);
  current = before;
}
FAKE_API void fake_write(void* to, const void* from, size_t bytes) {
  const Open open;
  std::memcpy(to, from, bytes);
}
FAKE_API void fake_read(void* to, const void* from, size_t bytes) { fake_write(to, from, bytes); }
FAKE_API void fake_limit(size_t bytes) { limit = bytes; }
FAKE_API size_t fake_in_use() { return in_use; }
FAKE_API int fake_current() { return current; }
FAKE_API void fake_fail(int error) {
  pending = error;
  is_lost = error == kLost;
}
// What has happened since the last time.
FAKE_API const char* fake_log() {
  static std::string taken;
  taken = log_text;
  log_text.clear();
  return taken.c_str();
}
