#include "core/conv_key.h"
#include "cuda/mma_tuned.cuh"

namespace cnnext::cuda {
namespace {

constexpr int kRounds = 5;
constexpr float kGain = 0.95f;  // of the table's time: less is noise

constexpr const char* kChoices[1 + kShapeCount] = {"autotune: as the table",  "autotune: 128x128",
                                                   "autotune: 128x64",        "autotune: 64x64",
                                                   "autotune: wgmma 128x128", "autotune: wgmma 128x256"};

int64_t attribute(const Op& op, int device, cudaDeviceAttr which) {
  int value = 0;
  check(op, "asking for a device attribute", cudaDeviceGetAttribute(&value, which, device));
  return value;
}

// Devices for which the same tile is the fastest.
int64_t device_kind(const Op& op) {
  int device = 0;
  check(op, "asking for the current device", cudaGetDevice(&device));
  const int64_t capability = attribute(op, device, cudaDevAttrComputeCapabilityMajor) * 100 +
                             attribute(op, device, cudaDevAttrComputeCapabilityMinor);
  return (capability << 40) + (attribute(op, device, cudaDevAttrMultiProcessorCount) << 20) +
         (attribute(op, device, cudaDevAttrL2CacheSize) >> 20);
}

class Event {
 public:
  explicit Event(const Op& op) : op_(op) { check(op, "making an event", cudaEventCreate(&event_)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record() { check(op_, "recording an event", cudaEventRecord(event_, op_.stream())); }
  float milliseconds_since(const Event& start) {
    float value = 0;
    check(op_, "waiting for an event", cudaEventSynchronize(event_));
    check(op_, "reading a time", cudaEventElapsedTime(&value, start.event_, event_));
    return value;
  }

 private:
  const Op& op_;
  cudaEvent_t event_ = nullptr;
};

// Alternated, after a round that is not counted.
int fastest(const Op& op, int first, int last, const std::function<void(int)>& launches) {
  Event start(op), end(op);
  float least[1 + kShapeCount];
  for (int round = 0; round <= kRounds; ++round) {
    for (int shape = kAsTable; shape <= last; ++shape) {
      if (shape != kAsTable && shape < first) continue;
      start.record();
      launches(shape);
      end.record();
      float& best = least[1 + shape];
      const float taken = end.milliseconds_since(start);
      best = round <= 1 || taken < best ? taken : best;
    }
  }
  int best = kAsTable;
  for (int shape = first; shape <= last; ++shape) {
    if (least[1 + shape] < least[1 + best] * (best == kAsTable ? kGain : 1)) best = shape;
  }
  return best;
}

bool may_time(const Op& op) {
  if (op.planning()) return false;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(op, "asking whether the stream is being captured", cudaStreamIsCapturing(op.stream(), &status));
  return status == cudaStreamCaptureStatusNone;
}

}  // namespace

int tuned_shape(const Op& op, MmaPass pass, const Conv2dDesc& d, int first, int last,
                const std::function<void(int)>& launches) {
  const cnnext_autotune mode = services->autotune_mode();
  if (mode == CNNEXT_AUTOTUNE_OFF || first == last) return kAsTable;
  const TuneKey key = conv_key(mode, static_cast<int64_t>(pass), device_kind(op), d, CNNEXT_BACKEND_CUDA);
  int32_t variant = services->find_tuned(key);  // 0 is the table's, then the shapes
  const bool kept = variant == 0 || (variant > first && variant <= 1 + last);
  if (!kept) {
    if (!may_time(op)) return kAsTable;
    variant = 1 + fastest(op, first, last, launches);
    services->keep_tuned(key, variant);
  }
  services->chose(op.exec, kChoices[variant]);
  return variant - 1;
}

}  // namespace cnnext::cuda
