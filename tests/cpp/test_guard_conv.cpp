// The convolutions of the instruction set that CNNEXT_CPU_ISA forces, against ref, on arrays that end exactly
// where reading or writing on is a fault. Sizes lie around the vectors' and the tiles' lengths, because the
// masked tails are where a kernel goes too far.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "guarded.h"

namespace {

struct Case {
  int64_t N, C, H, W, K, R, S;
  int64_t stride[2], padding[4], dilation[2];
  int64_t groups;
  Order order, weight_order;
  int32_t activation, algorithm;
  bool bias, residual;
};

int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t before, int64_t after,
                 int64_t dilation) {
  const int64_t reach = in + before + after - dilation * (kernel - 1) - 1;
  return reach < 0 ? 0 : reach / stride + 1;
}
int64_t rows_of(const Case& c) {
  return out_size(c.H, c.R, c.stride[0], c.padding[0], c.padding[1], c.dilation[0]);
}
int64_t columns_of(const Case& c) {
  return out_size(c.W, c.S, c.stride[1], c.padding[2], c.padding[3], c.dilation[1]);
}

cnnext_conv2d_params params_of(const Case& c) {
  cnnext_conv2d_params p = CNNEXT_CONV2D_PARAMS_INIT;
  std::copy(c.stride, c.stride + 2, p.stride);
  std::copy(c.padding, c.padding + 4, p.padding);
  std::copy(c.dilation, c.dilation + 2, p.dilation);
  p.groups = c.groups;
  p.activation = c.activation;
  p.algorithm = c.algorithm;
  return p;
}

std::string describe(const Case& c) {
  std::ostringstream out;
  out << "N" << c.N << " C" << c.C << " H" << c.H << " W" << c.W << " K" << c.K << " R" << c.R << " S" << c.S
      << " stride " << c.stride[0] << "," << c.stride[1] << " padding " << c.padding[0] << "," << c.padding[1]
      << "," << c.padding[2] << "," << c.padding[3] << " dilation " << c.dilation[0] << "," << c.dilation[1]
      << " groups " << c.groups << (c.order == Order::kNHWC ? " NHWC" : " NCHW")
      << (c.weight_order == Order::kNHWC ? " KRSC" : " KCRS") << " activation " << c.activation
      << " algorithm " << c.algorithm << (c.bias ? " bias" : "") << (c.residual ? " residual" : "");
  return out.str();
}

cnnext_context context_for(int32_t backend) {
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.backend = backend;
  return context;
}

int own_kernels = 0;  // calls that the forced instruction set's kernels ran, not ref

void count_kernel() {
  // An extension for bfloat16 leaves float32 its base's kernels.
  static const std::string isa = cnnext_isa(), own = "cpu/" + isa.substr(0, isa.find("_bf16")) + "/";
  own_kernels += std::string(cnnext_last_kernel()).compare(0, own.size(), own) == 0;
}

// ---- one pass: output from two operands (and an epilogue) ----
enum class Pass { kForward, kBackwardData, kBackwardWeights };
const char* const kPassNames[] = {"forward", "backward_data", "backward_weights"};

struct Operands {
  GuardedTensor x, w, y, bias, residual;
  Operands(const Case& c, Side side)
      : x({c.N, c.C, c.H, c.W}, side, c.order),
        w({c.K, c.C / c.groups, c.R, c.S}, side, c.weight_order),
        y({c.N, c.K, rows_of(c), columns_of(c)}, side, c.order),
        bias({c.K}, side),
        residual({c.N, c.K, rows_of(c), columns_of(c)}, side, c.order) {}
  GuardedTensor& output(Pass pass) {
    return pass == Pass::kForward ? y : pass == Pass::kBackwardData ? x : w;
  }
  bool intact() const {
    return x.memory->intact() && w.memory->intact() && y.memory->intact() && bias.memory->intact() &&
           residual.memory->intact();
  }
};

cnnext_status run_pass(Pass pass, const Case& c, const cnnext_context& context, Operands& o, bool epilogue) {
  cnnext_conv2d_params p = params_of(c);
  if (pass != Pass::kForward || !epilogue) p.activation = CNNEXT_ACT_NONE;
  switch (pass) {
    case Pass::kForward:
      return cnnext_conv2d(&context, &p, &o.x.t, &o.w.t, epilogue && c.bias ? &o.bias.t : nullptr,
                           epilogue && c.residual ? &o.residual.t : nullptr, &o.y.t);
    case Pass::kBackwardData:
      return cnnext_conv2d_backward_data(&context, &p, &o.y.t, &o.w.t, &o.x.t);
    default:
      return cnnext_conv2d_backward_weights(&context, &p, &o.y.t, &o.x.t, &o.w.t);
  }
}

void copy_floats(const GuardedTensor& from, const GuardedTensor& to) {
  std::memcpy(to.floats(), from.floats(), static_cast<size_t>(from.count) * 4);
}

// The number of terms in a sum, and the sums of the terms' magnitudes: the design's error bound is
// 4 sqrt(n) eps sum|x w| for direct algorithms.
double terms(Pass pass, const Case& c) {
  if (pass == Pass::kForward) return static_cast<double>(c.C / c.groups * c.R * c.S);
  if (pass == Pass::kBackwardData) return static_cast<double>(c.K / c.groups * c.R * c.S);
  return static_cast<double>(c.N * rows_of(c) * columns_of(c));
}

void make_absolute(Operands& o, const GuardedTensor& output) {
  for (const GuardedTensor* t : {&o.x, &o.w, &o.y}) {
    if (t == &output) continue;
    for (int64_t i = 0; i < t->count; ++i) t->floats()[i] = std::fabs(t->floats()[i]);
  }
}

// Once more on three threads, with the scratch in a guarded workspace of exactly the size that the call
// needs.
bool same_bits_elsewhere(Pass pass, const Case& c, Operands& mine) {
  const GuardedTensor& output = mine.output(pass);
  const size_t bytes = static_cast<size_t>(output.count) * 4;
  const std::vector<float> first(output.floats(), output.floats() + output.count);
  const size_t scratch = cnnext_last_scratch_bytes();
  const Guarded workspace(scratch, Side::kEnd);
  cnnext_context context = context_for(CNNEXT_BACKEND_CPU);
  context.workspace = workspace.data();
  context.workspace_bytes = scratch;
  std::memset(output.t.data, 0xff, bytes);
  cnnext_set_num_threads(3);
  const cnnext_status status = run_pass(pass, c, context, mine, true);
  cnnext_set_num_threads(2);
  if (status != CNNEXT_OK || !workspace.intact()) return false;
  const bool same = std::memcmp(first.data(), output.t.data, bytes) == 0;
  if (!same) std::fprintf(stderr, "other bits on three threads\n");
  return same;
}

bool check_pass(Pass pass, const Case& c, Side side, unsigned seed) {
  std::mt19937 random(seed);
  Operands ref(c, Side::kEnd), mine(c, side);
  for (auto member : {&Operands::x, &Operands::w, &Operands::y, &Operands::bias, &Operands::residual}) {
    const GuardedTensor &from = ref.*member, &to = mine.*member;
    const bool is_output = &from == &ref.output(pass);
    if (is_output) continue;  // stays NaN: every element must be written
    from.randomize(random);
    copy_floats(from, to);
    to.memory->freeze();
  }
  const cnnext_context on_cpu = context_for(CNNEXT_BACKEND_CPU), on_ref = context_for(CNNEXT_BACKEND_REF);
  if (run_pass(pass, c, on_cpu, mine, true) != CNNEXT_OK) return false;
  count_kernel();
  if (!same_bits_elsewhere(pass, c, mine)) return false;
  if (run_pass(pass, c, on_ref, ref, true) != CNNEXT_OK) return false;

  GuardedTensor& expected = ref.output(pass);
  const GuardedTensor& got = mine.output(pass);
  std::vector<float> want(expected.floats(), expected.floats() + expected.count);
  make_absolute(ref, expected);
  if (run_pass(pass, c, on_ref, ref, false) != CNNEXT_OK) return false;

  const double eps = std::numeric_limits<float>::epsilon();
  // "auto" may take Winograd, whose errors spread within a tile: to where the sum itself is small, or empty.
  const float largest = *std::max_element(expected.floats(), expected.floats() + expected.count);
  for (int64_t i = 0; i < got.count; ++i) {
    // The bias, the residual and the activation add some roundings of their own.
    const double sum = c.algorithm == CNNEXT_ALGO_DIRECT ? expected.floats()[i] : largest;
    const double bound = 4 * std::sqrt(terms(pass, c)) * eps * sum * 1.2 +
                         16 * eps * (std::fabs(want[static_cast<size_t>(i)]) + 2);
    if (!(std::fabs(got.floats()[i] - want[static_cast<size_t>(i)]) <= bound)) {
      std::fprintf(stderr, "element %lld is %g, ref has %g\n", static_cast<long long>(i), got.floats()[i],
                   want[static_cast<size_t>(i)]);
      return false;
    }
  }
  return mine.intact();
}

unsigned next_seed = 1;

void check_case(const Case& c) {
  if (rows_of(c) < 1 || columns_of(c) < 1 || !takes_next_case()) return;
  for (Pass pass : {Pass::kForward, Pass::kBackwardData, Pass::kBackwardWeights}) {
    for (Side side : {Side::kEnd, Side::kBegin}) {
      const unsigned seed = next_seed++;
      const std::string name = std::string(kPassNames[static_cast<int>(pass)]) + " " + describe(c) +
                               (side == Side::kEnd ? ", guard behind" : ", guard in front");
      say_when_faulting(name);
      if (check_pass(pass, c, side, seed)) continue;
      ++check::failures();
      std::fprintf(stderr, "FAILED: %s (kernel %s, error \"%s\")\n", name.c_str(), cnnext_last_kernel(),
                   cnnext_last_error());
    }
  }
}

Case plain(int64_t C, int64_t H, int64_t W, int64_t K, int64_t R, int64_t S, Order order) {
  return {1,
          C,
          H,
          W,
          K,
          R,
          S,
          {1, 1},
          {R / 2, R / 2, S / 2, S / 2},
          {1, 1},
          1,
          order,
          Order::kNCHW,
          CNNEXT_ACT_NONE,
          CNNEXT_ALGO_DIRECT,
          true,
          false};
}

Case wide(int64_t R, int64_t C, int64_t H, int64_t W, int64_t K, Order order) {
  Case c = plain(C, H, W, K, R, R, order);
  c.N = 2;
  c.algorithm = CNNEXT_ALGO_AUTO;
  return c;
}

// ---- the sizes ----
constexpr Order kOrders[] = {Order::kNCHW, Order::kNHWC};

void output_channel_tails() {
  for (Order order : kOrders) {
    for (int64_t K : {1,  3,  4,  5,  7,  8,  9,  15, 16, 17, 23,  24,  25,
                      31, 32, 33, 47, 48, 49, 63, 64, 65, 79, 127, 128, 129}) {
      check_case(plain(5, 4, 7, K, 3, 3, order));
      check_case(plain(6, 3, 5, K, 1, 1, order));
    }
  }
}

void input_channel_tails() {
  for (Order order : kOrders) {
    for (int64_t C : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129}) {
      check_case(plain(C, 4, 7, 6, 3, 3, order));
      check_case(plain(C, 3, 5, 18, 1, 1, order));
    }
  }
}

void pixel_tails() {
  for (Order order : kOrders) {
    for (int64_t W = 1; W <= 19; ++W) check_case(plain(5, 2, W, 17, 3, 3, order));
    for (int64_t W :
         {23, 24, 25, 27, 28, 29, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129}) {
      check_case(plain(4, 3, W, 9, 3, 3, order));
      check_case(plain(4, 1, W, 33, 1, 1, order));
    }
    for (int64_t H = 1; H <= 9; ++H) check_case(plain(3, H, 5, 8, 5, 3, order));
  }
}

void depthwise_tails() {
  for (Order order : kOrders) {
    for (int64_t C : {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65}) {
      for (int64_t kernel : {3, 5, 7}) {
        Case c = plain(C, 9, 11, C, kernel, kernel, order);
        c.groups = C;
        check_case(c);
        c.stride[0] = c.stride[1] = 2;
        check_case(c);
      }
    }
    for (int64_t W : {1, 2, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 34, 64, 65, 66}) {
      Case c = plain(6, 3, W, 6, 3, 3, order);
      c.groups = 6;
      check_case(c);
    }
    Case multiplied = plain(5, 6, 7, 15, 3, 3, order);  // three outputs a channel
    multiplied.groups = 5;
    check_case(multiplied);
  }
}

// 3x3 filters under "auto", with channels enough for Winograd: tails of its vectors, blocks and tiles.
void winograd_tails() {
  for (Order order : kOrders) {
    for (int64_t K : {32, 33, 47, 64, 65, 72, 97}) check_case(wide(3, 33, 9, 14, K, order));
    for (int64_t C : {34, 40, 47, 64, 65, 97}) check_case(wide(3, C, 8, 11, 40, order));
    for (int64_t W : {3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 18, 19}) check_case(wide(3, 32, 8, W, 36, order));
    for (int64_t H : {3, 4, 5, 6, 7, 9, 13}) check_case(wide(3, 36, H, 12, 32, order));
    check_case(wide(3, 200, 7, 9, 193, order));
    Case grouped = wide(3, 66, 8, 9, 70, order);
    grouped.groups = 2;
    check_case(grouped);
    for (int64_t pad = 0; pad < 4; ++pad) {
      Case c = wide(3, 35, 10, 9, 34, order);
      for (int64_t side = 0; side < 4; ++side) c.padding[side] = (pad + side) % 4;
      c.weight_order = order;
      c.residual = true;
      c.activation = pad % 2 ? CNNEXT_ACT_GELU : CNNEXT_ACT_RELU;
      check_case(c);
    }
  }
}

// The same of 5x5 filters.
void winograd_tails_5x5() {
  for (Order order : kOrders) {
    for (int64_t K : {32, 33, 47, 65, 97}) check_case(wide(5, 33, 9, 14, K, order));
    for (int64_t C : {34, 47, 64, 97}) check_case(wide(5, C, 8, 11, 40, order));
    for (int64_t W : {5, 6, 7, 8, 9, 15, 16, 17}) check_case(wide(5, 32, 8, W, 36, order));
    for (int64_t H : {5, 6, 7, 13}) check_case(wide(5, 36, H, 12, 32, order));
    check_case(wide(5, 200, 7, 9, 193, order));
    for (int64_t pad = 0; pad < 6; ++pad) {
      Case c = wide(5, 35, 10, 9, 34, order);
      for (int64_t side = 0; side < 4; ++side) c.padding[side] = (pad + side) % 6;
      c.weight_order = order;
      c.residual = true;
      c.activation = pad % 2 ? CNNEXT_ACT_GELU : CNNEXT_ACT_RELU;
      check_case(c);
    }
  }
}

// The same of backward-weights, which takes it for more pixels.
void winograd_weights_tails() {
  for (Order order : kOrders) {
    const auto check = [&](int64_t C, int64_t H, int64_t W, int64_t K) {
      Case c = wide(3, C, H, W, K, order);
      c.N = 768 / (H * W) + 3;
      c.weight_order = K % 2 ? Order::kNHWC : Order::kNCHW;
      check_case(c);
    };
    for (int64_t K : {32, 33, 47, 65, 97}) check(33, 9, 14, K);
    for (int64_t C : {34, 47, 64, 65, 97}) check(C, 8, 11, 41);
    for (int64_t W : {3, 4, 5, 7, 8, 9, 17, 67}) check(32, 7, W, 36);
    for (int64_t H : {3, 4, 5, 7, 8, 13}) check(36, H, 12, 33);
  }
}

// Long enough for non-temporal stores and for several blocks of everything.
void large_outputs() {
  for (Order order : kOrders) {
    check_case(plain(16, 97, 101, 256, 1, 1, order));
    check_case(plain(8, 120, 121, 144, 3, 3, order));
    check_case(plain(260, 7, 9, 130, 3, 3, order));
  }
}

int64_t pick(std::mt19937& random, std::initializer_list<int64_t> values) {
  return values.begin()[random() % values.size()];
}

// Everything asymmetric and mixed.
void random_cases(int count) {
  std::mt19937 random(20260);
  for (int i = 0; i < count; ++i) {
    Case c{};
    c.N = pick(random, {1, 1, 2, 3});
    c.groups = pick(random, {1, 1, 1, 2, 3, 5});
    c.C = c.groups * pick(random, {1, 2, 3, 4, 8, 9, 16, 17, 33});
    c.K = c.groups * pick(random, {1, 3, 4, 7, 8, 15, 16, 17, 33, 64, 65});
    c.R = pick(random, {1, 1, 2, 3, 3, 4, 5, 7});
    c.S = pick(random, {1, 1, 2, 3, 3, 4, 5, 7});
    c.H = pick(random, {1, 4, 5, 7, 8, 13});
    c.W = pick(random, {1, 5, 6, 7, 9, 14, 17, 31});
    c.stride[0] = pick(random, {1, 1, 2, 3});
    c.stride[1] = pick(random, {1, 1, 2, 3});
    c.dilation[0] = pick(random, {1, 1, 2, 3});
    c.dilation[1] = pick(random, {1, 1, 2, 3});
    for (int64_t& pad : c.padding) pad = pick(random, {0, 0, 1, 2, 3, 5});
    c.order = random() % 2 ? Order::kNHWC : Order::kNCHW;
    c.weight_order = random() % 2 ? Order::kNHWC : Order::kNCHW;
    c.activation = static_cast<int32_t>(random() % 9);
    c.algorithm = random() % 2 ? CNNEXT_ALGO_DIRECT : CNNEXT_ALGO_AUTO;
    c.bias = random() % 2;
    c.residual = random() % 3 == 0;
    check_case(c);
  }
}

void many_random_cases() { random_cases(400); }

void the_forced_kernels_ran() { CHECK(own_kernels > 0); }

}  // namespace

int main() {
  const char* forced = std::getenv("CNNEXT_CPU_ISA");
  if (cnnext_init() != CNNEXT_OK) {
    std::printf("skipped: %s\n", cnnext_last_error());
    return 77;
  }
  if (forced && *forced) CHECK_EQ(std::string(cnnext_isa()), forced);
  cnnext_set_num_threads(2);
  RUN(output_channel_tails);
  RUN(input_channel_tails);
  RUN(pixel_tails);
  RUN(depthwise_tails);
  RUN(winograd_tails);
  RUN(winograd_tails_5x5);
  RUN(winograd_weights_tails);
  RUN(large_outputs);
  RUN(many_random_cases);
  RUN(the_forced_kernels_ran);
  std::printf("%u passes, %d by cpu/%s\n", next_seed - 1, own_kernels, cnnext_isa());
  return check::result();
}
