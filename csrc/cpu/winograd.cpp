// Winograd's convolution as an entry of the lists of algorithms: when it is taken, and what a handle keeps.
#include "cpu/winograd.h"

#include <algorithm>
#include <new>

#include "core/memory.h"
#include "cpu/cpuid.h"
#include "cpu/winograd_driver.h"

namespace cnnext {
namespace {

// A packed handle's blob is the transformed filters and nothing else.
constexpr int32_t kBlobOfWinograd = 2;

const float* kept_filters(const Conv2dDesc& desc) {
  if (!desc.packed) return nullptr;
  const PackedBlob& blob = static_cast<const cnnext_packed_weight*>(desc.packed)->packed;
  const bool ours =
      blob.blob && blob.kind == kBlobOfWinograd && blob.isa == static_cast<int32_t>(active_isa());
  return ours ? static_cast<const float*>(blob.blob) : nullptr;
}

struct Shape {
  int64_t in_channels, out_channels;  // of a group
  int64_t N, rows, cols;              // of the output
  int64_t filter;                     // high and wide
};

// The work of both ways, in vector operations times lanes; the factors were fitted to measured times. A
// handle changes nothing, so that results do not depend on it: half of the direct algorithm's packing is
// counted.
bool is_faster(const Shape& s) {
  constexpr double kInput = 350, kMargin = 1.1;
  const bool large = s.filter == 5;
  const double taps = static_cast<double>(s.filter * s.filter), packing = 5 * taps;
  const double filter = large ? 360 : 240, output = large ? 180 : 250;
  const int64_t out = large ? 2 : 4;
  const auto whole = [](int64_t channels) { return static_cast<double>((channels + 15) / 16 * 16); };
  const double pairs = static_cast<double>(s.in_channels) * whole(s.out_channels);
  const double tiles = static_cast<double>(s.N) * static_cast<double>((s.rows + out - 1) / out) *
                       static_cast<double>((s.cols + out - 1) / out);
  const double pixels = static_cast<double>(s.N) * static_cast<double>(s.rows * s.cols);
  const double direct = pairs * (taps * pixels + packing);
  const double winograd = pairs * (36 * tiles + filter) +
                          tiles * (kInput * whole(s.in_channels) + output * whole(s.out_channels));
  return winograd * kMargin <= direct;
}

// Images of one or two rows leave most taps in the padding, and below 32 input channels the transforms'
// rounding errors do not vanish beside the sums': more than 3 times the direct algorithms' error.
bool is_eligible(const Conv2dDesc& d, const Shape& s) {
  return winograd_ukernels() && d.dtype == CNNEXT_FLOAT32 && d.algorithm == CNNEXT_ALGO_AUTO &&
         d.variant != ConvVariant::kDirect && (d.R == 3 || d.R == 5) && d.S == d.R && d.stride_h == 1 &&
         d.stride_w == 1 && d.dilation_h == 1 && d.dilation_w == 1 && std::min({d.H, d.W, d.P, d.Q}) >= d.R &&
         s.in_channels >= 32 && s.out_channels >= 16;
}

Shape forward_shape(const Conv2dDesc& d) { return {d.C / d.groups, d.K / d.groups, d.N, d.P, d.Q, d.R}; }
Shape backward_data_shape(const Conv2dDesc& d) {
  return {d.K / d.groups, d.C / d.groups, d.N, d.H, d.W, d.R};
}

bool takes(const Conv2dDesc& desc, const Shape& shape) {
  return is_eligible(desc, shape) && (desc.variant == ConvVariant::kWinograd || is_faster(shape));
}

}  // namespace

bool winograd_supports_forward(const Conv2dDesc& desc) { return takes(desc, forward_shape(desc)); }
bool winograd_supports_backward_data(const Conv2dDesc& desc) {
  return takes(desc, backward_data_shape(desc));
}

bool winograd_may_forward(const Conv2dDesc& desc) { return is_eligible(desc, forward_shape(desc)); }
bool winograd_may_backward_data(const Conv2dDesc& desc) {
  return is_eligible(desc, backward_data_shape(desc));
}

bool winograd_may_backward_weights(const Conv2dDesc& desc) {
  // Sums of few pixels have small errors, beside which the transforms' do not vanish; nor do those of 5x5 at
  // all (2.5 to 3.7 times the direct algorithm's error).
  constexpr int64_t kMinPixels = 768;
  return desc.R == 3 && desc.N * std::min(desc.H, desc.P) * std::min(desc.W, desc.Q) >= kMinPixels &&
         is_eligible(desc, forward_shape(desc));
}

bool winograd_supports_backward_weights(const Conv2dDesc& desc) {
  return winograd_may_backward_weights(desc) && takes(desc, forward_shape(desc));
}

bool winograd_forward(const Conv2dDesc& desc, Exec& exec) {
  exec.offers(ConvVariant::kDirect);
  return run_winograd(forward_problem(desc, exec), kept_filters(desc), exec);
}

bool winograd_backward_data(const Conv2dDesc& desc, Exec& exec) {
  exec.offers(ConvVariant::kDirect);
  return run_winograd(backward_data_problem(desc, exec), nullptr, exec);
}

bool winograd_pack(const Conv2dDesc& desc, Exec& exec, PackedBlob* blob) {
  if (desc.N == 0 || !winograd_supports_forward(desc)) return false;
  const ConvProblem problem = forward_problem(desc, exec);
  const size_t bytes = static_cast<size_t>(winograd_filter_floats(problem)) * sizeof(float);
  auto* const filters = static_cast<float*>(pool_alloc(bytes));
  if (!filters) throw std::bad_alloc();
  if (!transform_winograd_filters(problem, filters, exec)) {
    pool_free(filters);
    return false;
  }
  blob->blob = filters;
  blob->free_blob = pool_free;
  blob->blob_bytes = bytes;
  blob->isa = static_cast<int32_t>(active_isa());
  blob->kind = kBlobOfWinograd;
  blob->format = desc.format;
  return true;
}

}  // namespace cnnext
