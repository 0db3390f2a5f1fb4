// What every ABI function does around its op: check the context, find the one device of all its tensors,
// bring inputs into the form that desc.h promises, stage outputs that are strided or overlap an input, pick
// the backend, record what ran.
#pragma once

#include <initializer_list>

#include "core/device.h"
#include "core/error.h"
#include "core/op_table.h"

namespace cnnext {

// ---- checking tensors (all throw Error) ----
void check_tensor(const Tensor* t, const char* name);  // not null, ndim, device, dtype, data of non-empty
void check_float(const Tensor& t, const char* name);  // float32 or float64 (on CUDA any; others: see message)
void check_any_float(const Tensor& t, const char* name);  // and float16, bfloat16
void check_same_dtype(const Tensor& a, const char* a_name, const Tensor& b, const char* b_name);
void check_ndim(const Tensor& t, const char* name, int low, int high);
void check_shape(const Tensor& t, const char* name, std::initializer_list<int64_t> shape, const char* rule);
// The params struct is there and at least as long as this library's.
void check_params(const void* params, size_t expected, const char* name);

// Fills out's metadata for the result; its device is already there (Call). Dry (data null and not empty):
// writes dtype, shape, strides in `format`. Otherwise checks that the caller's tensor has that dtype and
// shape (any strides without overlap of its own). Returns whether it was dry.
bool describe_output(Tensor* out, const char* name, int32_t dtype, int ndim, const int64_t* shape,
                     Format format);

// Arguments by the names that messages give them; nullptr: not given.
struct Operand {
  const Tensor* tensor;
  const char* name;
};
struct Result {
  Tensor* tensor;
  const char* name;
};

class Call {
 public:
  // All tensors of the call, before they are judged. A dry result (data is null) gets the operands' device;
  // every other tensor must be there. Where that is a CUDA device it is current until the Call ends.
  Call(const cnnext_context* context, std::initializer_list<Operand> operands,
       std::initializer_list<Result> results)
      : Call(context) {
    for (const Operand& operand : operands) {
      if (operand.tensor) place(*operand.tensor, operand.name);
    }
    for (const Result& result : results) {
      if (!result.tensor) continue;
      if (result.tensor->data) {
        place(*result.tensor, result.name);
      } else {
        result.tensor->device_type = device_type_;
        result.tensor->device_id = device_id_;
      }
    }
    settle();
  }
  // The same step by step: place() each operand, then settle().
  explicit Call(const cnnext_context* context) : exec_(context) {
    if (context) check_context(*context);
  }
  void place(const Tensor& t, const char* name) {
    if (!can_join(t)) fail_apart(t, name);
    if (device_type_ == CNNEXT_CUDA) note(t, name);
    if (!first_) first_ = name;
  }
  // Whether t is where the others are.
  bool can_join(const Tensor& t) {
    if (!first_) {
      device_type_ = t.device_type;
      device_id_ = t.device_id;
    }
    return t.device_type == device_type_ && (t.device_id == device_id_ || device_type_ != CNNEXT_CUDA);
  }
  void settle() {
    if (device_type_ == CNNEXT_CUDA || exec_.backend() == CNNEXT_BACKEND_CUDA) settle_elsewhere();
  }

  Exec& exec() { return exec_; }
  bool on_device() const { return exec_.device() != nullptr; }

  // A view of t that is dense in `format` (4-D) / row-major: t itself, or a copy in scratch.
  Tensor dense(const Tensor& t, Format format);
  Tensor contiguous(const Tensor& t);
  // Dense in the same order as `like` (same shape).
  Tensor dense_like(const Tensor& t, const Tensor& like);
  // Weights: dense in KCRS or KRSC, whichever t is; else a KCRS copy. Writes which.
  Tensor dense_weight(const Tensor& t, Format* w_format);

  // An output the op may write: out itself when it is dense in `format` and overlaps none of the inputs named
  // by avoid(); else scratch that finish() copies back. In-place ops pass allow_same: a view identical to an
  // input is not an overlap.
  Tensor output(const Tensor& out, Format format);
  Tensor output_like(const Tensor& out, const Tensor& like);
  void avoid(const Tensor& input);
  void allow_same(bool on) { allow_same_ = on; }
  // Same shape and dtype, any strides, on the call's device.
  void copy(const Tensor& src, const Tensor& dst);

  // Runs the op on the backend that context and device ask for, then writes staged outputs back.
  template <class Desc>
  void run(Ran (*OpTable::*op)(const Desc&, Exec&), const char* op_name, const Desc& desc) {
    if (exec_.planning()) check_can_plan(op_name);
    try {
      for (const OpTable* table : candidates()) {
        if (!table || !(table->*op)) continue;
        if ((table->*op)(desc, exec_) == Ran::kDone) {
          finish(table, op_name);
          return;
        }
      }
    } catch (const DeviceMemoryError& error) {
      fail_memory(op_name, error);
    }
    fail_unsupported(op_name);
  }

 private:
  struct Candidates {
    const OpTable* tables[2];
    const OpTable* const* begin() const { return tables; }
    const OpTable* const* end() const { return tables + 2; }
  };
  Candidates candidates() const;
  void finish(const OpTable* table, const char* op_name);
  void check_context(const cnnext_context& context) const;
  void settle_elsewhere();
  void check_can_plan(const char* op_name) const;
  void check_launches(const char* op_name) const;
  [[noreturn]] void fail_unsupported(const char* op_name) const;
  [[noreturn]] void fail_memory(const char* op_name, const DeviceMemoryError& error) const;
  [[noreturn]] void fail_apart(const Tensor& t, const char* name) const;
  void note(const Tensor& t, const char* name);
  std::string described(const char* op_name) const;
  Tensor scratch_tensor(const Tensor& like);
  Tensor stage(const Tensor& out, const Tensor& shape_like);

  static constexpr int kMaxStaged = 4, kMaxInputs = 8, kMaxNoted = 8;
  DeviceScope scope_;  // before exec_, which frees memory on that device
  Exec exec_;
  const char* first_ = nullptr;  // whose device it is
  int32_t device_type_ = CNNEXT_CPU, device_id_ = 0;
  int noted_ = 0;
  Operand notes_[kMaxNoted];  // what messages on device errors show
  Tensor staged_from_[kMaxStaged], staged_to_[kMaxStaged];
  int staged_ = 0;
  Tensor inputs_[kMaxInputs];
  int num_inputs_ = 0;
  bool allow_same_ = false;
};

#define CNNEXT_RUN(call, op, desc) (call).run(&::cnnext::OpTable::op, #op, desc)

}  // namespace cnnext
