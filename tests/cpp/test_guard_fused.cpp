// Convolutions with what follows them in one, of the forced instruction set against ref, on arrays that end
// exactly where reading or writing on is a fault: strips read images and write results in parts.
#include <cmath>

#include "guarded.h"

namespace {

struct Case {
  int64_t N, C, H, W, K, kernel, stride, padding;
  int64_t pool, pool_stride, pool_padding;
};

cnnext_context context_for(int32_t backend) {
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.backend = backend;
  return context;
}
const cnnext_context kOnCpu = context_for(CNNEXT_BACKEND_CPU), kOnRef = context_for(CNNEXT_BACKEND_REF);

bool close(const GuardedTensor& a, const GuardedTensor& b) {
  float most = 1;
  for (int64_t i = 0; i < b.count; ++i) most = std::max(most, std::fabs(b.floats()[i]));
  for (int64_t i = 0; i < a.count; ++i) {
    if (!(std::fabs(a.floats()[i] - b.floats()[i]) <= 1e-4f * most)) return false;
  }
  return true;
}

void check_case(const Case& c, Order order, Side side) {
  say_when_faulting("fused case of K " + std::to_string(c.K) + ", W " + std::to_string(c.W));
  if (!takes_next_case()) return;
  std::mt19937 random(static_cast<unsigned>(c.W * 31 + c.K));
  cnnext_conv2d_params conv = CNNEXT_CONV2D_PARAMS_INIT;
  cnnext_pool2d_params pool = CNNEXT_POOL2D_PARAMS_INIT;
  for (int i = 0; i < 4; ++i) conv.padding[i] = c.padding, pool.padding[i] = c.pool_padding;
  for (int i = 0; i < 2; ++i) {
    conv.stride[i] = c.stride, pool.kernel[i] = c.pool, pool.stride[i] = c.pool_stride;
  }
  pool.index_kind = CNNEXT_INDEX_WINDOW;
  const GuardedTensor x({c.N, c.C, c.H, c.W}, side, order), w({c.K, c.C, c.kernel, c.kernel}, side);
  const GuardedTensor bias({c.K}, side);
  for (const GuardedTensor* t : {&x, &w, &bias}) {
    t->randomize(random);
    t->memory->freeze();
  }
  cnnext_tensor shape{}, code_shape{};
  CHECK_EQ(cnnext_conv2d_relu_max_pool2d(&kOnCpu, &conv, &pool, &x.t, &w.t, &bias.t, &shape, &code_shape),
           CNNEXT_OK);
  const auto pooled = [&](Side at) {
    return GuardedTensor({shape.shape[0], shape.shape[1], shape.shape[2], shape.shape[3]}, at, order);
  };
  GuardedTensor y = pooled(side), ref_y = pooled(Side::kEnd), grad_y = pooled(side);
  GuardedTensor codes({shape.shape[0], shape.shape[1], shape.shape[2], shape.shape[3]}, side, order,
                      CNNEXT_UINT8, 1);
  CHECK_EQ(cnnext_conv2d_relu_max_pool2d(&kOnRef, &conv, &pool, &x.t, &w.t, &bias.t, &ref_y.t, nullptr),
           CNNEXT_OK);
  CHECK_EQ(cnnext_conv2d_relu_max_pool2d(&kOnCpu, &conv, &pool, &x.t, &w.t, &bias.t, &y.t, &codes.t),
           CNNEXT_OK);
  CHECK(close(y, ref_y));
  CHECK(y.memory->intact());
  CHECK(codes.memory->intact());

  grad_y.randomize(random);
  grad_y.memory->freeze();
  codes.memory->freeze();
  const auto gradients = [&](const cnnext_context& on, GuardedTensor& gx, GuardedTensor& gw,
                             GuardedTensor& gb) {
    CHECK_EQ(cnnext_conv2d_relu_max_pool2d_backward(&on, &conv, &pool, &grad_y.t, &codes.t, &x.t, &w.t, &gx.t,
                                                    &gw.t, &gb.t),
             CNNEXT_OK);
  };
  GuardedTensor gx({c.N, c.C, c.H, c.W}, side, order), gw({c.K, c.C, c.kernel, c.kernel}, side);
  GuardedTensor ref_gx({c.N, c.C, c.H, c.W}, Side::kEnd, order), gb({c.K}, side), ref_gb({c.K}, side);
  GuardedTensor ref_gw({c.K, c.C, c.kernel, c.kernel}, Side::kEnd);
  gradients(kOnCpu, gx, gw, gb);
  gradients(kOnRef, ref_gx, ref_gw, ref_gb);
  CHECK(close(gx, ref_gx) && close(gw, ref_gw) && close(gb, ref_gb));
  CHECK(gx.memory->intact() && gw.memory->intact() && gb.memory->intact());
}

void strips_of_rows_and_of_images() {
  const Case cases[] = {
      {1, 3, 67, 101, 70, 3, 1, 1, 2, 2, 0},  {1, 3, 150, 97, 64, 7, 2, 3, 3, 2, 1},
      {9, 1, 28, 26, 6, 5, 1, 2, 2, 2, 0},    {8, 32, 20, 18, 48, 3, 1, 1, 2, 2, 0},
      {1, 32, 90, 90, 64, 3, 1, 1, 3, 2, 1},  {17, 5, 9, 7, 33, 3, 1, 0, 3, 1, 1},
      {1, 16, 80, 80, 100, 1, 1, 0, 2, 2, 0}, {2, 3, 5, 6, 4, 3, 1, 1, 2, 3, 0},
  };
  for (const Case& c : cases) {
    for (Order order : {Order::kNCHW, Order::kNHWC}) {
      for (Side side : {Side::kEnd, Side::kBegin}) check_case(c, order, side);
    }
  }
}

// Results of at least 8 MB: smaller ones are computed as a whole.
struct NormCase {
  int64_t N, C, H, W, K, kernel, stride, padding;
};

void check_norm_case(const NormCase& c, Order order, Side side) {
  say_when_faulting("norm case of K " + std::to_string(c.K) + ", W " + std::to_string(c.W));
  if (!takes_next_case()) return;
  std::mt19937 random(static_cast<unsigned>(c.W * 31 + c.K));
  cnnext_conv2d_params conv = CNNEXT_CONV2D_PARAMS_INIT;
  cnnext_batch_norm_params norm = CNNEXT_BATCH_NORM_PARAMS_INIT;
  norm.training = 1;
  norm.activation = CNNEXT_ACT_RELU6;
  for (int i = 0; i < 4; ++i) conv.padding[i] = c.padding;
  for (int i = 0; i < 2; ++i) conv.stride[i] = c.stride;
  const GuardedTensor x({c.N, c.C, c.H, c.W}, side, order), w({c.K, c.C, c.kernel, c.kernel}, side);
  const GuardedTensor bias({c.K}, side), norm_weight({c.K}, side), norm_bias({c.K}, side);
  for (const GuardedTensor* t : {&x, &w, &bias, &norm_weight, &norm_bias}) {
    t->randomize(random);
    t->memory->freeze();
  }
  const int64_t P = (c.H + 2 * c.padding - c.kernel) / c.stride + 1;
  const int64_t Q = (c.W + 2 * c.padding - c.kernel) / c.stride + 1;
  struct Results {
    GuardedTensor y, conv_y, mean, invstd, running_mean, running_var;
  };
  const auto results = [&](Side at) {
    return Results{{{c.N, c.K, P, Q}, at, order},
                   {{c.N, c.K, P, Q}, at, order},
                   {{c.K}, at},
                   {{c.K}, at},
                   {{c.K}, at},
                   {{c.K}, at}};
  };
  Results got = results(side), want = results(Side::kEnd);
  for (auto& [on, r] : {std::pair{&kOnCpu, &got}, std::pair{&kOnRef, &want}}) {
    for (GuardedTensor* t : {&r->running_mean, &r->running_var}) std::fill_n(t->floats(), c.K, 1.f);
    CHECK_EQ(cnnext_conv2d_batch_norm(on, &conv, &norm, &x.t, &w.t, &bias.t, &norm_weight.t, &norm_bias.t,
                                      &r->running_mean.t, &r->running_var.t, &r->y.t, &r->conv_y.t,
                                      &r->mean.t, &r->invstd.t),
             CNNEXT_OK);
  }
  CHECK(close(got.y, want.y) && close(got.conv_y, want.conv_y) && close(got.mean, want.mean));
  CHECK(close(got.running_mean, want.running_mean) && close(got.running_var, want.running_var));
  for (const GuardedTensor* t :
       {&got.y, &got.conv_y, &got.mean, &got.invstd, &got.running_mean, &got.running_var}) {
    CHECK(t->memory->intact());
  }
}

void norm_of_strips() {
  const NormCase cases[] = {
      {17, 3, 65, 67, 33, 3, 1, 1},  {70, 2, 24, 27, 65, 3, 1, 1}, {9, 7, 63, 66, 70, 1, 1, 0},
      {3, 2, 230, 146, 65, 3, 1, 1}, {9, 32, 66, 62, 65, 3, 1, 1}, {2, 3, 9, 8, 5, 3, 2, 1},
  };
  for (const NormCase& c : cases) {
    for (Order order : {Order::kNCHW, Order::kNHWC}) {
      for (Side side : {Side::kEnd, Side::kBegin}) check_norm_case(c, order, side);
    }
  }
}

}  // namespace

int main() {
  const char* forced = std::getenv("CNNEXT_CPU_ISA");
  if (cnnext_init() != CNNEXT_OK) {
    std::printf("skipped: %s\n", cnnext_last_error());
    return 77;
  }
  if (forced && *forced) CHECK_EQ(std::string(cnnext_isa()), forced);
  cnnext_set_num_threads(2);
  RUN(strips_of_rows_and_of_images);
  RUN(norm_of_strips);
  return check::result();
}
