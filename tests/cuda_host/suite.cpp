#include "suite.h"

#include <dlfcn.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "bed.h"
#include "core/half.h"
#include "core/host_services.h"
#include "cpu/ref/ref.h"

using namespace cnnext;

namespace {

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Scratch {
  void* (*alloc)(size_t);
  void (*free)(void*);
  std::vector<void*> blocks;
} scratch;
std::string kernel_ran;
int32_t float32_precision = CNNEXT_FLOAT32_HIGHEST;

const HostServices kServices = {
    sizeof(HostServices),
    "test",
    [](cnnext_status, const char* message) { throw DeviceError(message); },
    [](Exec&, size_t bytes) {
      scratch.blocks.push_back(scratch.alloc(bytes));
      return scratch.blocks.back();
    },
    [](const Exec&) -> void* { return nullptr; },
    [](Exec&, const char* kernel) { kernel_ran = kernel; },
    sizeof(OpTable),
    [] { return float32_precision; },
    [](const Exec&) { return false; },
    [](Exec&, int64_t) {},
    [](Exec&, const char*) {},
    [] { return CNNEXT_AUTOTUNE_OFF; },
    [](const TuneKey&) { return -1; },
    [](const TuneKey&, int32_t) {},
};

double unit_of(int32_t dtype) {
  return dtype == CNNEXT_FLOAT16 ? 0x1p-10 : dtype == CNNEXT_BFLOAT16 ? 0x1p-7 : 0x1p-23;
}
double least_of(int32_t dtype) { return dtype == CNNEXT_FLOAT16 ? 0x1p-24 : 0x1p-126; }

float round_to(int32_t dtype, float value) {
  if (dtype == CNNEXT_FLOAT16) return Float16(value);
  if (dtype == CNNEXT_BFLOAT16) return BFloat16(value);
  return value;
}
void put(int32_t dtype, void* data, int64_t at, float value) {
  if (dtype == CNNEXT_FLOAT16) {
    static_cast<Float16*>(data)[at] = Float16(value);
  } else if (dtype == CNNEXT_BFLOAT16) {
    static_cast<BFloat16*>(data)[at] = BFloat16(value);
  } else {
    static_cast<float*>(data)[at] = value;
  }
}
float get(int32_t dtype, const void* data, int64_t at) {
  if (dtype == CNNEXT_FLOAT16) return static_cast<const Float16*>(data)[at];
  if (dtype == CNNEXT_BFLOAT16) return static_cast<const BFloat16*>(data)[at];
  return static_cast<const float*>(data)[at];
}

}  // namespace

const char* name_of_dtype(int32_t dtype) { return dtype_name(dtype); }

void Arg::upload() const {
  if (is_float(device_.dtype) || is_half(device_.dtype)) {
    for (int64_t i = 0; i < count_; ++i) {
      values()[i] = round_to(device_.dtype, values()[i]);
      put(device_.dtype, device_.data, i, values()[i]);
    }
  } else if (count_ > 0) {
    std::memcpy(device_.data, ref_.data, static_cast<size_t>(count_ * dtype_size(device_.dtype)));
  }
}

std::vector<unsigned char> Arg::download() const {
  const auto* bytes = static_cast<const unsigned char*>(device_.data);
  return std::vector<unsigned char>(bytes, bytes + count_ * dtype_size(device_.dtype));
}

Suite::Suite(const char* library) {
  void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(2);
  }
  const auto find = [&](const char* name) { return dlsym(handle, name); };
  const auto entry = reinterpret_cast<BackendEntry>(find("cnnext_cuda_backend"));
  control_ = reinterpret_cast<cuda_host::Control* (*)()>(find("cnnext_cuda_host_control"))();
  alloc_ = reinterpret_cast<void* (*)(size_t)>(find("cnnext_cuda_host_alloc"));
  free_ = reinterpret_cast<void (*)(void*)>(find("cnnext_cuda_host_free"));
  scratch.alloc = alloc_;
  scratch.free = free_;
  const char* reason = "";
  table_ = entry(&kServices, &reason);
  if (!table_) {
    std::fprintf(stderr, "no table: %s\n", reason);
    std::exit(2);
  }
}

void Suite::restart() {
  failures_ = runs_ = 0;
  first_failure_.clear();
  random_.seed(1);
}

void Suite::fail(const std::string& text) {
  if (failures_++ == 0) first_failure_ = text;
  if (!stops_) std::fprintf(stderr, "%s\n", text.c_str());
}

void Suite::permit_tf32(bool permitted) {
  float32_precision = permitted ? CNNEXT_FLOAT32_HIGH : CNNEXT_FLOAT32_HIGHEST;
}

void Suite::expect_ran(const std::string& kernel, int cases) {
  const int times = ran_[kernel] / 2;  // each runs twice
  if (failures_ == 0 && times < cases) {
    fail(kernel + " ran in " + std::to_string(times) + " cases, not " + std::to_string(cases));
  }
}

ArgPtr Suite::arg(std::vector<int64_t> shape, int32_t dtype, Format format, int64_t shift) {
  Arg made;
  Tensor& t = made.device_;
  t.dtype = dtype;
  t.device_type = CNNEXT_CUDA;
  for (const int64_t dim : shape) t.shape[t.ndim++] = dim;
  set_format(&t, format);
  made.count_ = numel(t);
  const size_t size = static_cast<size_t>(dtype_size(dtype));
  if (made.count_ > 0) {
    made.block_ = alloc_(static_cast<size_t>(made.count_ + shift) * size);
    t.data = static_cast<char*>(made.block_) + static_cast<size_t>(shift) * size;
  }
  made.ref_ = t;
  made.ref_.device_type = CNNEXT_CPU;
  const bool real = is_float(dtype) || is_half(dtype);
  if (real) made.ref_.dtype = CNNEXT_FLOAT32;
  made.memory_.resize(static_cast<size_t>(made.count_) + 1);
  const auto release = free_;
  ArgPtr result(new Arg(std::move(made)), [release](Arg* arg) {
    release(arg->block_);
    delete arg;
  });
  result->ref_.data = result->memory_.data();
  std::uniform_real_distribution<float> values(-2, 2);
  for (int64_t i = 0; i < result->count_ && real; ++i) result->values()[i] = values(random_);
  result->upload();
  return result;
}

bool Suite::run_on_device(const std::string& name, const Runner& run, uint64_t order) {
  control_->order = order;
  bool good = true;
  kernel_ran.clear();
  const cnnext_context context = CNNEXT_CONTEXT_INIT;
  Exec exec(&context);
  try {
    if (run(*table_, Side::kDevice, exec) != Ran::kDone) {
      fail(name + ": unsupported");
      good = false;
    }
  } catch (const std::exception& error) {
    fail(name + ": " + error.what());
    good = false;
  }
  if (good && kernel_ran.compare(0, 5, "cuda/") != 0) fail(name + ": does not say what ran");
  ++ran_[kernel_ran];
  for (void* block : scratch.blocks) scratch.free(block);
  scratch.blocks.clear();
  return good;
}

void Suite::compare(const std::string& name, const Runner& run, const std::vector<ArgPtr>& outputs,
                    Tolerance tolerance) {
  if (stops_ && failures_ > 0) return;
  ++runs_;
  // What is updated in place begins alike in both runs.
  std::vector<std::vector<unsigned char>> before, first;
  for (const ArgPtr& out : outputs) before.push_back(out->download());
  if (!run_on_device(name, run, 0)) return;
  for (size_t i = 0; i < outputs.size(); ++i) {
    first.push_back(outputs[i]->download());
    if (!before[i].empty()) std::memcpy(outputs[i]->device_.data, before[i].data(), before[i].size());
  }
  if (!run_on_device(name, run, 977 + static_cast<uint64_t>(runs_))) return;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i]->download() != first[i])
      return fail(name + ": the bits depend on the order of blocks and threads");
  }
  const cnnext_context context = CNNEXT_CONTEXT_INIT;
  Exec exec(&context);
  run(*ref_table(), Side::kRef, exec);
  for (size_t i = 0; i < outputs.size(); ++i) compare_values(name, *outputs[i], i, tolerance);
}

void Suite::compare_bits(const std::string& name, const Runner& run, const ArgPtr& output,
                         int multiprocessors) {
  if ((stops_ && failures_ > 0) || !run_on_device(name, run, 0)) return;
  const std::vector<unsigned char> bits = output->download();
  const std::string ran = kernel_ran;
  std::swap(control_->multiprocessors, multiprocessors);
  const bool good = run_on_device(name, run, 0);
  std::swap(control_->multiprocessors, multiprocessors);
  if (!good) return;
  if (kernel_ran == ran) fail(name + ": both times by " + ran);
  if (output->download() != bits) fail(name + ": " + ran + " and " + kernel_ran + " differ in their bits");
}

void Suite::compare_values(const std::string& name, const Arg& arg, size_t number, Tolerance tolerance) {
  const int32_t dtype = arg.device_.dtype;
  char text[256];
  if (!is_float(dtype) && !is_half(dtype)) {
    const size_t size = static_cast<size_t>(dtype_size(dtype));
    const auto *a = static_cast<const char*>(arg.device_.data), *b = static_cast<const char*>(arg.ref_.data);
    for (size_t i = 0; i < static_cast<size_t>(arg.count_); ++i) {
      if (std::memcmp(a + i * size, b + i * size, size) == 0) continue;
      snprintf(text, sizeof(text), ": output %zu element %zu differs", number, i);
      return fail(name + text);
    }
    return;
  }
  for (int64_t i = 0; i < arg.count_; ++i) {
    const float got = get(dtype, arg.device_.data, i), want = round_to(dtype, arg.values()[i]);
    if (got == want || (std::isnan(got) && std::isnan(want))) continue;
    const double unit = unit_of(dtype) * std::fabs(static_cast<double>(want)) + least_of(dtype);
    const double allowed = tolerance.ulps * unit + tolerance.absolute;
    if (std::fabs(static_cast<double>(got) - static_cast<double>(want)) <= allowed) continue;
    snprintf(text, sizeof(text), ": output %zu element %lld is %.9g instead of %.9g", number,
             static_cast<long long>(i), static_cast<double>(got), static_cast<double>(want));
    return fail(name + text);
  }
}
