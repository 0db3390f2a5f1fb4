#include "core/packed_weight.h"

#include <memory>

#include "core/make_desc.h"
#include "core/memory.h"

namespace cnnext {
namespace {

struct FreePacked {
  void operator()(cnnext_packed_weight* packed) const { cnnext_packed_weight_free(packed); }
};
using PackedOwner = std::unique_ptr<cnnext_packed_weight, FreePacked>;

size_t weight_bytes(const Tensor& w) { return static_cast<size_t>(numel(w) * dtype_size(w.dtype)); }

// The backend whose kernels will read the blob; the reference backend reads the dense copy.
const OpTable* packing_table(const Call& call, int32_t backend) {
  if (call.on_device()) {
    fail_not_implemented(
        "pack_weight is not supported by the cuda backend, whose kernels read weights as they lie: a "
        "packed copy would gain nothing; pass the array itself");
  }
  return backend == CNNEXT_BACKEND_REF ? nullptr : cpu_table();
}

void check_equal(int64_t now, int64_t packed, const char* name) {
  if (now != packed) {
    fail_value(name, " is ", now, ", but weight was packed for ", packed, "; they must be equal");
  }
}

}  // namespace

void check_packed_geometry(const cnnext_conv2d_params& params, const cnnext_packed_weight& w) {
  const cnnext_conv2d_params& packed = w.params;
  check_equal(params.groups, packed.groups, "groups");
  check_equal(params.padding_mode, packed.padding_mode, "padding_mode");
  static const char* const sides[] = {"padding (top)", "padding (bottom)", "padding (left)",
                                      "padding (right)"};
  static const char* const strides[] = {"stride[0]", "stride[1]"};
  static const char* const dilations[] = {"dilation[0]", "dilation[1]"};
  static const char* const output_paddings[] = {"output_padding[0]", "output_padding[1]"};
  for (int i = 0; i < 4 && params.padding_mode == CNNEXT_PAD_EXPLICIT; ++i) {
    check_equal(params.padding[i], packed.padding[i], sides[i]);
  }
  for (int i = 0; i < 2; ++i) {
    check_equal(params.stride[i], packed.stride[i], strides[i]);
    check_equal(params.dilation[i], packed.dilation[i], dilations[i]);
    check_equal(params.output_padding[i], packed.output_padding[i], output_paddings[i]);
  }
}

}  // namespace cnnext

using namespace cnnext;

extern "C" {

cnnext_status cnnext_pack_weight(const cnnext_context* context, const cnnext_conv2d_params* params,
                                 const cnnext_tensor* w, int32_t channels_last, const int64_t* input_shape,
                                 cnnext_packed_weight** packed) {
  return guard([&] {
    Call call(context, {{w, "weight"}}, {});
    if (!packed) fail_value("packed is NULL; a place for the handle is required");
    *packed = nullptr;
    check_params(params, sizeof(*params), "params");
    check_tensor(w, "weight");
    Conv2dDesc desc = make_pack_weight_desc(*params, *w, input_shape);
    desc.format = channels_last ? Format::kNHWC : Format::kNCHW;
    const OpTable* table = packing_table(call, call.exec().backend());
    check_has_data(*w, "weight");

    PackedOwner owner(new cnnext_packed_weight{});
    owner->params = *params;
    owner->params.size = sizeof(*params);
    owner->w = *w;
    set_contiguous(&owner->w);
    owner->w.data = pool_alloc(weight_bytes(owner->w));
    if (!owner->w.data) throw std::bad_alloc();
    CopyDesc copy{*w, owner->w};
    CNNEXT_RUN(call, copy, copy);
    desc.w = owner->w;
    desc.w_format = Format::kNCHW;
    if (table && table->pack_weight) table->pack_weight(desc, call.exec(), &owner->packed);
    *packed = owner.release();
  });
}

void cnnext_packed_weight_free(cnnext_packed_weight* packed) {
  if (!packed) return;
  if (packed->packed.blob && packed->packed.free_blob) packed->packed.free_blob(packed->packed.blob);
  pool_free(packed->w.data);
  delete packed;
}

uint64_t cnnext_packed_weight_bytes(const cnnext_packed_weight* packed) {
  if (!packed) return 0;
  return weight_bytes(packed->w) + packed->packed.blob_bytes;
}

}  // extern "C"
