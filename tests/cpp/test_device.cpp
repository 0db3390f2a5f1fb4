// Calls on CUDA tensors through the C ABI, on tests/fake_cuda: workspace, streams, dry runs, the current
// device, and memory for programs without the CUDA runtime. What Python adds is in
// tests/test_device_arrays.py.
#include <dlfcn.h>

#include <cstring>
#include <string>

#include "check.h"
#include "cnnext/cnnext.h"

namespace {

template <class Function>
Function* control(const char* name) {
  static void* const library = dlopen(std::getenv("CNNEXT_CUDA_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<Function*>(library ? dlsym(library, name) : nullptr);
}
const auto fake_alloc = control<void*(int, size_t)>("fake_alloc");
const auto fake_free = control<void(void*)>("fake_free");
const auto fake_write = control<void(void*, const void*, size_t)>("fake_write");
const auto fake_read = control<void(void*, const void*, size_t)>("fake_read");
const auto fake_limit = control<void(size_t)>("fake_limit");
const auto fake_in_use = control<size_t()>("fake_in_use");
const auto fake_current = control<int()>("fake_current");
const auto fake_log = control<const char*()>("fake_log");

constexpr int kCount = 40;

// A vector of kCount floats, first, first + 1, ...
cnnext_tensor vector_on(int device, float first) {
  float values[kCount];
  for (int i = 0; i < kCount; ++i) values[i] = first + static_cast<float>(i);
  void* const data = fake_alloc(device, sizeof(values));
  fake_write(data, values, sizeof(values));
  return {data, CNNEXT_FLOAT32, 1, CNNEXT_CUDA, device, {kCount}, {1}};
}

bool holds(const cnnext_tensor& t, float first, float step) {
  float values[kCount];
  fake_read(values, t.data, sizeof(values));
  for (int i = 0; i < kCount; ++i) {
    if (values[i] != first + step * static_cast<float>(i)) return false;
  }
  return true;
}

bool says(const char* text) { return std::strstr(cnnext_last_error(), text) != nullptr; }

void test_a_dry_run_gives_the_device() {
  const cnnext_tensor a = vector_on(1, 1), b = vector_on(1, 2);
  cnnext_tensor y;
  std::memset(&y, 0x5a, sizeof(y));  // what a caller need not set
  y.data = nullptr;
  CHECK(cnnext_add(nullptr, &a, &b, &y) == CNNEXT_OK);
  CHECK(y.device_type == CNNEXT_CUDA && y.device_id == 1 && y.ndim == 1 && y.shape[0] == kCount);
  CHECK(fake_current() == 0);
  fake_free(a.data);
  fake_free(b.data);
}

void test_the_caller_s_workspace_and_stream() {
  const cnnext_tensor a = vector_on(0, 1), b = vector_on(0, 2);
  cnnext_tensor y = vector_on(0, 0);
  char* const memory = static_cast<char*>(fake_alloc(0, 4096));
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.stream = reinterpret_cast<void*>(5);
  context.workspace = memory + 8;
  context.workspace_bytes = 4000;
  fake_log();
  CHECK(cnnext_add(&context, &a, &b, &y) == CNNEXT_OK);
  CHECK(std::string(fake_log()) == "add device 0 stream 5\n");  // no memory of the pool's
  CHECK(holds(y, 3, 2));
  CHECK(std::string(cnnext_last_kernel()) == "cuda/fake");
  CHECK(cnnext_last_scratch_bytes() == 256);

  context.workspace_bytes = 300;  // 52 bytes behind the next aligned address
  CHECK(cnnext_add(&context, &a, &b, &y) == CNNEXT_OK);
  CHECK(std::string(fake_log()) ==
        "alloc 256 device 0 stream 5\nadd device 0 stream 5\nfree 256 device 0 stream 5\n");
  context.workspace_bytes = 8;
  CHECK(cnnext_add(&context, &a, &b, &y) == CNNEXT_OK);
  for (void* data : {a.data, b.data, y.data, static_cast<void*>(memory)}) fake_free(data);
}

void test_the_current_device_comes_back_after_an_error() {
  const cnnext_tensor a = vector_on(1, 1);
  cnnext_tensor y = vector_on(1, 0);
  const size_t before = fake_in_use();
  fake_limit(before + 10);
  CHECK(cnnext_add(nullptr, &a, &a, &y) == CNNEXT_OUT_OF_MEMORY);
  CHECK(says("scratch of 256 bytes") && says("out of memory"));
  fake_limit(size_t{1} << 30);
  CHECK(cnnext_softmax(nullptr, 0, 0, &a, &y) == CNNEXT_NOT_IMPLEMENTED);
  CHECK(says(
      "softmax_forward is not supported by the cuda backend: softmax_forward on cuda:1 (x float32 (40,)"));
  CHECK(fake_current() == 0 && fake_in_use() == before);
  fake_free(a.data);
  fake_free(y.data);
}

void test_what_is_refused() {
  const cnnext_tensor a = vector_on(0, 1);
  cnnext_tensor y = vector_on(0, 0), elsewhere = vector_on(1, 0), host = y;
  host.device_type = CNNEXT_CPU;
  CHECK(cnnext_add(nullptr, &a, &host, &y) == CNNEXT_INVALID_VALUE &&
        says("add: b is on the CPU, but a is on cuda:0") && says("(b is float32 ("));
  CHECK(cnnext_add(nullptr, &a, &a, &elsewhere) == CNNEXT_INVALID_VALUE && says("y is on cuda:1"));
  cnnext_tensor nowhere = a;
  nowhere.device_id = 7;
  CHECK(cnnext_add(nullptr, &nowhere, &nowhere, &nowhere) == CNNEXT_INVALID_VALUE);
  CHECK(says("cuda:7 does not exist; there are 2 CUDA devices"));
  cnnext_plan plan = CNNEXT_PLAN_INIT;
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.plan = &plan;
  CHECK(cnnext_add(&context, &a, &a, &y) == CNNEXT_NOT_IMPLEMENTED && says("makes no plans"));
  for (void* data : {a.data, y.data, elsewhere.data}) fake_free(data);
}

void test_memory_and_streams() {
  CHECK(cnnext_cuda_available() && cnnext_cuda_device_count() == 2);
  char name[64];
  CHECK(cnnext_cuda_device_name(1, name, sizeof(name)) == CNNEXT_OK && std::strstr(name, "Fake 1"));
  void* const stream = reinterpret_cast<void*>(9);
  void* block = nullptr;
  CHECK(cnnext_cuda_alloc(1, 12, stream, &block) == CNNEXT_OK && block);
  int32_t device = 5;
  CHECK(cnnext_cuda_pointer_device(static_cast<char*>(block) + 4, &device) == CNNEXT_OK && device == 1);
  CHECK(cnnext_cuda_pointer_device(&device, &device) == CNNEXT_OK && device == -1);
  const char text[12] = "hello there";
  char back[12] = "";
  CHECK(cnnext_cuda_copy(1, block, text, sizeof(text), stream) == CNNEXT_OK);
  CHECK(cnnext_cuda_copy(1, back, block, sizeof(text), stream) == CNNEXT_OK);
  CHECK(cnnext_cuda_synchronize(1, stream) == CNNEXT_OK && !std::strcmp(text, back));
  fake_log();
  CHECK(cnnext_cuda_wait(1, stream, stream) == CNNEXT_OK && !*fake_log());
  CHECK(cnnext_cuda_wait(1, stream, nullptr) == CNNEXT_OK);
  CHECK(std::string(fake_log()) == "wait device 1 stream 9 for 0\n");
  CHECK(cnnext_cuda_free(1, block, stream) == CNNEXT_OK &&
        cnnext_cuda_free(0, nullptr, nullptr) == CNNEXT_OK);
  CHECK(cnnext_cuda_alloc(0, 0, nullptr, &block) == CNNEXT_OK && !block);
  CHECK(cnnext_cuda_alloc(2, 8, nullptr, &block) == CNNEXT_INVALID_VALUE && says("cuda:2 does not exist"));
  CHECK(fake_in_use() == 0 && fake_current() == 0);
}

}  // namespace

int main() {
  CHECK(fake_alloc && fake_log);
  if (check::result()) return 1;
  RUN(test_a_dry_run_gives_the_device);
  RUN(test_the_caller_s_workspace_and_stream);
  RUN(test_the_current_device_comes_back_after_an_error);
  RUN(test_what_is_refused);
  RUN(test_memory_and_streams);
  return check::result();
}
