// Runs operations of libcnnext_cuda_host.so beside ref. Every argument exists twice: on the host in float32
// for ref (integers as they are), and in fake device memory in the dtype under test. A run that a kernel's
// report ends, that differs from ref, or whose bits depend on the order of blocks and threads, is a failure.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/op_table.h"
#include "exports.h"

enum class Side { kRef, kDevice };

// How far a result may be from ref's: so many units in the last place of the dtype, and an absolute part.
struct Tolerance {
  double ulps = 0, absolute = 0;
};
constexpr Tolerance kExact{};

class Arg {
 public:
  cnnext::Tensor on(Side side) const { return side == Side::kRef ? ref_ : device_; }
  float* values() const { return static_cast<float*>(ref_.data); }  // of ref's side
  int64_t count() const { return count_; }
  void upload() const;  // ref's values to the device, rounded; ref's become the rounded ones

 private:
  friend class Suite;
  Arg() = default;
  std::vector<unsigned char> download() const;

  cnnext::Tensor ref_{}, device_{};
  std::vector<int64_t> memory_;  // ref's; aligned for any element
  void* block_ = nullptr;        // the device's, which begins `shift` elements before the data
  int64_t count_ = 0;
};
using ArgPtr = std::shared_ptr<Arg>;

class Suite {
 public:
  explicit Suite(const char* library);

  // A tensor, dense in row-major order or (4-D) NHWC, filled with uniform values from -2 to 2; integers with
  // zeros. shift: how many elements it begins behind a 16-byte border.
  ArgPtr arg(std::vector<int64_t> shape, int32_t dtype, cnnext::Format format = cnnext::Format::kNCHW,
             int64_t shift = 0);
  ArgPtr none() const { return nullptr; }

  // Runs (table->*op)(describe(side)) on both sides and compares `outputs`.
  template <class Desc>
  void check(const std::string& name, cnnext::Ran (*cnnext::OpTable::*op)(const Desc&, cnnext::Exec&),
             const std::function<Desc(Side)>& describe, const std::vector<ArgPtr>& outputs,
             Tolerance tolerance) {
    compare(
        name,
        [&](const cnnext::OpTable& table, Side side, cnnext::Exec& exec) {
          if (!(table.*op)) throw std::runtime_error("the table has no such operation");
          return (table.*op)(describe(side), exec);
        },
        outputs, tolerance);
  }

  // Runs it on the device with so many multiprocessors, and then others: the bits must be the same.
  template <class Desc>
  void check_bits(const std::string& name, cnnext::Ran (*cnnext::OpTable::*op)(const Desc&, cnnext::Exec&),
                  const std::function<Desc(Side)>& describe, const ArgPtr& output, int multiprocessors) {
    compare_bits(
        name,
        [&](const cnnext::OpTable& table, Side side, cnnext::Exec& exec) {
          return (table.*op)(describe(side), exec);
        },
        output, multiprocessors);
  }

  std::mt19937& random() { return random_; }
  cuda_host::Control& control() const { return *control_; }
  int failures() const { return failures_; }
  int runs() const { return runs_; }
  const std::string& first_failure() const { return first_failure_; }
  void restart();  // forget failures and random state
  // Once something has failed, nothing more runs: for mutants, which need one failure.
  void stop_at_first_failure() { stops_ = true; }
  void fail(const std::string& text);
  void permit_tf32(bool permitted);
  void expect_ran(const std::string& kernel, int cases = 1);  // in so many at least, before

 private:
  using Runner = std::function<cnnext::Ran(const cnnext::OpTable&, Side, cnnext::Exec&)>;
  void compare(const std::string& name, const Runner& run, const std::vector<ArgPtr>& outputs,
               Tolerance tolerance);
  void compare_bits(const std::string& name, const Runner& run, const ArgPtr& output, int multiprocessors);
  bool run_on_device(const std::string& name, const Runner& run, uint64_t order);
  void compare_values(const std::string& name, const Arg& arg, size_t number, Tolerance tolerance);

  const cnnext::OpTable* table_ = nullptr;
  cuda_host::Control* control_ = nullptr;
  void* (*alloc_)(size_t) = nullptr;
  void (*free_)(void*) = nullptr;
  std::mt19937 random_{1};
  int failures_ = 0, runs_ = 0;
  bool stops_ = false;
  std::string first_failure_;
  std::map<std::string, int> ran_;
};

// The families of kernels, by name.
struct Family {
  const char* name;
  void (*run)(Suite& suite);
};
extern const Family kFamilies[];
extern const int kNumFamilies;

const char* name_of_dtype(int32_t dtype);
constexpr int32_t kFloatTypes[] = {CNNEXT_FLOAT32, CNNEXT_FLOAT16, CNNEXT_BFLOAT16};
