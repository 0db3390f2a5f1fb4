#include "core/views.h"

using namespace cnnext;

// Any dtype and any strides on both sides.
extern "C" cnnext_status cnnext_copy(const cnnext_context* context, int32_t channels_last,
                                     const cnnext_tensor* x, cnnext_tensor* y) {
  return guard([&] {
    Call call(context, {{x, "x"}}, {{y, "y"}});
    check_input(x, "x");
    const Format format = channels_last ? Format::kNHWC : Format::kNCHW;
    if (describe_output(y, "y", x->dtype, x->ndim, x->shape, format) || numel(*y) == 0) return;
    if (same_view(*x, *y)) return;
    CopyDesc d{*x, *y};
    if (overlap(*x, *y)) {  // through scratch, or elements would be read after they were overwritten
      Tensor scratch = *x;
      set_contiguous(&scratch);
      scratch.data = call.exec().scratch(static_cast<size_t>(numel(*x) * dtype_size(x->dtype)));
      const CopyDesc aside{*x, scratch};
      CNNEXT_RUN(call, copy, aside);
      d.src = scratch;
    }
    CNNEXT_RUN(call, copy, d);
  });
}
