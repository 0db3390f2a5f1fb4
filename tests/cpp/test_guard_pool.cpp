// The pools of the forced instruction set against ref, on arrays that end exactly where reading or writing on
// is a fault. Values and indices of max-pool must be equal bit for bit.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "guarded.h"

namespace {

struct Case {
  int64_t N, C, H, W;
  int64_t kernel[2], stride[2], padding[4], dilation[2];
  Order order;
  int32_t ceil_mode, index_kind;
};

cnnext_pool2d_params params_of(const Case& c) {
  cnnext_pool2d_params p = CNNEXT_POOL2D_PARAMS_INIT;
  std::copy(c.kernel, c.kernel + 2, p.kernel);
  std::copy(c.stride, c.stride + 2, p.stride);
  std::copy(c.padding, c.padding + 4, p.padding);
  std::copy(c.dilation, c.dilation + 2, p.dilation);
  p.ceil_mode = c.ceil_mode;
  p.index_kind = c.index_kind;
  p.four_sided = 1;
  return p;
}

std::string describe(const Case& c) {
  std::ostringstream out;
  out << "N" << c.N << " C" << c.C << " H" << c.H << " W" << c.W << " kernel " << c.kernel[0] << ","
      << c.kernel[1] << " stride " << c.stride[0] << "," << c.stride[1] << " padding " << c.padding[0] << ","
      << c.padding[1] << "," << c.padding[2] << "," << c.padding[3] << " dilation " << c.dilation[0] << ","
      << c.dilation[1] << (c.order == Order::kNHWC ? " NHWC" : " NCHW") << (c.ceil_mode ? " ceil" : "")
      << " indices " << c.index_kind;
  return out.str();
}

cnnext_context context_for(int32_t backend) {
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.backend = backend;
  return context;
}
const cnnext_context kOnCpu = context_for(CNNEXT_BACKEND_CPU), kOnRef = context_for(CNNEXT_BACKEND_REF);

size_t element_size(int32_t dtype) {
  switch (dtype) {
    case CNNEXT_UINT8:
    case CNNEXT_INT8:
      return 1;
    case CNNEXT_UINT16:
      return 2;
    case CNNEXT_INT64:
      return 8;
    default:
      return 4;
  }
}

GuardedTensor like(const cnnext_tensor& t, Side side, Order order) {
  return GuardedTensor({t.shape[0], t.shape[1], t.shape[2], t.shape[3]}, side, order, t.dtype,
                       element_size(t.dtype));
}

size_t bytes_of(const GuardedTensor& t) { return static_cast<size_t>(t.count) * element_size(t.t.dtype); }
bool same_bytes(const GuardedTensor& a, const GuardedTensor& b) {
  return a.count == b.count && std::memcmp(a.t.data, b.t.data, bytes_of(a)) == 0;
}
bool nearly_equal(const GuardedTensor& a, const GuardedTensor& b) {
  for (int64_t i = 0; i < a.count; ++i) {
    if (!(std::fabs(a.floats()[i] - b.floats()[i]) <= 1e-5)) return false;
  }
  return true;
}

// Few distinct values, so that ties are common; now and then NaN and infinities.
void fill(const GuardedTensor& t, std::mt19937& random) {
  if (t.t.dtype != CNNEXT_FLOAT32) {
    for (int64_t i = 0; i < t.count; ++i) {
      static_cast<unsigned char*>(t.t.data)[i] = static_cast<unsigned char>(random() % 7 + 250);
    }
    return;
  }
  for (int64_t i = 0; i < t.count; ++i) {
    t.floats()[i] = static_cast<float>(random() % 9) - 4;
    if (random() % 40 == 0) t.floats()[i] = std::numeric_limits<float>::quiet_NaN();
    if (random() % 30 == 0) t.floats()[i] = -std::numeric_limits<float>::infinity();
  }
}

#define REQUIRE(condition)                                                 \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      return false;                                                        \
    }                                                                      \
  } while (0)

bool check_max_pool(const Case& c, int32_t dtype, Side side, unsigned seed) {
  std::mt19937 random(seed);
  const cnnext_pool2d_params p = params_of(c);
  const GuardedTensor x({c.N, c.C, c.H, c.W}, side, c.order, dtype, element_size(dtype));
  fill(x, random);
  x.memory->freeze();
  cnnext_tensor y_shape{}, indices_shape{};
  REQUIRE(cnnext_max_pool2d(&kOnCpu, &p, &x.t, &y_shape, &indices_shape) == CNNEXT_OK);
  GuardedTensor y = like(y_shape, side, c.order), ref_y = like(y_shape, Side::kEnd, c.order);
  GuardedTensor only_y = like(y_shape, side, c.order);
  GuardedTensor indices = like(indices_shape, side, c.order),
                ref_indices = like(indices_shape, Side::kEnd, c.order);
  REQUIRE(cnnext_max_pool2d(&kOnCpu, &p, &x.t, &y.t, &indices.t) == CNNEXT_OK);
  REQUIRE(cnnext_max_pool2d(&kOnCpu, &p, &x.t, &only_y.t, nullptr) == CNNEXT_OK);
  REQUIRE(cnnext_max_pool2d(&kOnRef, &p, &x.t, &ref_y.t, &ref_indices.t) == CNNEXT_OK);
  REQUIRE(same_bytes(y, ref_y) && same_bytes(only_y, ref_y) && same_bytes(indices, ref_indices));
  REQUIRE(x.memory->intact() && y.memory->intact() && only_y.memory->intact() && indices.memory->intact());
  if (dtype != CNNEXT_FLOAT32) return true;

  y.randomize(random);  // now the gradient
  y.memory->freeze();
  indices.memory->freeze();
  GuardedTensor grad = like(x.t, side, c.order), ref_grad = like(x.t, Side::kEnd, c.order);
  REQUIRE(cnnext_max_pool2d_backward(&kOnCpu, &p, &y.t, &indices.t, &grad.t) == CNNEXT_OK);
  REQUIRE(cnnext_max_pool2d_backward(&kOnRef, &p, &y.t, &indices.t, &ref_grad.t) == CNNEXT_OK);
  REQUIRE(nearly_equal(grad, ref_grad) && grad.memory->intact());
  GuardedTensor gathered = like(y.t, side, c.order), ref_gathered = like(y.t, Side::kEnd, c.order);
  ref_grad.memory->freeze();
  REQUIRE(cnnext_max_pool2d_gather(&kOnCpu, &p, &ref_grad.t, &indices.t, &gathered.t) == CNNEXT_OK);
  REQUIRE(cnnext_max_pool2d_gather(&kOnRef, &p, &ref_grad.t, &indices.t, &ref_gathered.t) == CNNEXT_OK);
  REQUIRE(same_bytes(gathered, ref_gathered) && gathered.memory->intact());
  return true;
}

bool check_average_pool(const Case& c, Side side, unsigned seed) {
  std::mt19937 random(seed);
  const cnnext_pool2d_params p = params_of(c);
  const GuardedTensor x({c.N, c.C, c.H, c.W}, side, c.order);
  x.randomize(random);
  x.memory->freeze();
  cnnext_tensor y_shape{};
  REQUIRE(cnnext_avg_pool2d(&kOnCpu, &p, &x.t, &y_shape) == CNNEXT_OK);
  const auto compare =
      [&](cnnext_status (*run)(const cnnext_context&, const Case&, const cnnext_tensor&, cnnext_tensor*),
          const cnnext_tensor& in, const cnnext_tensor& out_shape) {
        GuardedTensor out = like(out_shape, side, c.order), ref_out = like(out_shape, Side::kEnd, c.order);
        REQUIRE(run(kOnCpu, c, in, &out.t) == CNNEXT_OK);
        REQUIRE(run(kOnRef, c, in, &ref_out.t) == CNNEXT_OK);
        REQUIRE(nearly_equal(out, ref_out) && out.memory->intact());
        return true;
      };
  using Context = const cnnext_context&;
  using In = const cnnext_tensor&;
  const auto forward = [](Context context, const Case& k, In in, cnnext_tensor* out) {
    const cnnext_pool2d_params q = params_of(k);
    return cnnext_avg_pool2d(&context, &q, &in, out);
  };
  const auto backward = [](Context context, const Case& k, In in, cnnext_tensor* out) {
    const cnnext_pool2d_params q = params_of(k);
    return cnnext_avg_pool2d_backward(&context, &q, &in, out);
  };
  const auto adaptive = [](Context context, const Case&, In in, cnnext_tensor* out) {
    const int64_t size[2] = {out->shape[2], out->shape[3]};
    return cnnext_adaptive_avg_pool2d(&context, size, &in, out);
  };
  const auto adaptive_backward = [](Context context, const Case&, In in, cnnext_tensor* out) {
    return cnnext_adaptive_avg_pool2d_backward(&context, &in, out);
  };
  GuardedTensor grad = like(y_shape, side, c.order);
  grad.randomize(random);
  grad.memory->freeze();
  return compare(forward, x.t, y_shape) && compare(backward, grad.t, x.t) &&
         compare(adaptive, x.t, y_shape) && compare(adaptive_backward, grad.t, x.t);
}

unsigned next_seed = 1;

void check_case(const Case& c) {
  if (!takes_next_case()) return;
  for (Side side : {Side::kEnd, Side::kBegin}) {
    const unsigned seed = next_seed++;
    const std::string name = describe(c) + (side == Side::kEnd ? ", guard behind" : ", guard in front");
    say_when_faulting(name);
    bool ok = check_average_pool(c, side, seed);
    for (int32_t dtype : {CNNEXT_FLOAT32, CNNEXT_UINT8, CNNEXT_INT8})
      ok = check_max_pool(c, dtype, side, seed) && ok;
    if (ok) continue;
    ++check::failures();
    std::fprintf(stderr, "FAILED: %s (kernel %s, error \"%s\")\n", name.c_str(), cnnext_last_kernel(),
                 cnnext_last_error());
  }
}

Case plain(int64_t C, int64_t H, int64_t W, int64_t kernel, int64_t stride, Order order) {
  const int64_t pad = kernel / 2;
  return {1,
          C,
          H,
          W,
          {kernel, kernel},
          {stride, stride},
          {pad, pad, pad, pad},
          {1, 1},
          order,
          0,
          CNNEXT_INDEX_PLANE};
}

constexpr Order kOrders[] = {Order::kNCHW, Order::kNHWC};

void channel_and_column_tails() {
  for (Order order : kOrders) {
    for (int64_t length :
         {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 34, 47, 48, 49, 63, 64, 65, 127, 128, 129}) {
      for (int32_t kind : {CNNEXT_INDEX_PLANE, CNNEXT_INDEX_WINDOW}) {
        for (int64_t stride : {1, 2}) {
          for (int64_t kernel : {2, 3}) {
            Case c = order == Order::kNHWC ? plain(length, 5, 6, kernel, stride, order)
                                           : plain(2, 4, length, kernel, stride, order);
            c.index_kind = kind;
            check_case(c);
          }
        }
      }
    }
  }
}

int64_t pick(std::mt19937& random, std::initializer_list<int64_t> values) {
  return values.begin()[random() % values.size()];
}

void many_random_cases() {
  std::mt19937 random(4242);
  for (int i = 0; i < 500; ++i) {
    Case c{};
    c.N = pick(random, {1, 2, 3});
    c.C = pick(random, {1, 2, 3, 7, 8, 9, 16, 17, 33, 65});
    c.H = pick(random, {3, 5, 8, 13});
    c.W = pick(random, {3, 6, 7, 9, 16, 17, 33});
    for (int axis = 0; axis < 2; ++axis) {
      c.kernel[axis] = pick(random, {1, 2, 3, 3, 5});
      c.stride[axis] = pick(random, {1, 2, 3});
      c.dilation[axis] = pick(random, {1, 1, 2});
      const int64_t reach = c.dilation[axis] * (c.kernel[axis] - 1);
      for (int end = 0; end < 2; ++end) {
        c.padding[2 * axis + end] = std::min<int64_t>(reach, pick(random, {0, 0, 1, 2}));
      }
      const int64_t padded = (axis ? c.W : c.H) + c.padding[2 * axis] + c.padding[2 * axis + 1];
      if (padded <= reach)
        c.kernel[axis] = c.dilation[axis] = 1, c.padding[2 * axis] = c.padding[2 * axis + 1] = 0;
    }
    c.order = random() % 2 ? Order::kNHWC : Order::kNCHW;
    c.ceil_mode = random() % 2;
    c.index_kind = random() % 2 ? CNNEXT_INDEX_WINDOW : CNNEXT_INDEX_PLANE;
    check_case(c);
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
  RUN(channel_and_column_tails);
  RUN(many_random_cases);
  return check::result();
}
