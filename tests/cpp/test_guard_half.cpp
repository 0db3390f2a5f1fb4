// The 16-bit convolutions on arrays that touch unreadable pages, against the reference: no value outside is
// read or written, every output is, and three threads with a guarded workspace give the same bits.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "guarded.h"

namespace {

struct Case {
  int64_t N, C, H, W, K, R, S, stride, pad, groups;
  Order order, weight_order;
  bool epilogue;
  int32_t dtype;

  int64_t rows() const { return (H + 2 * pad - R) / stride + 1; }
  int64_t columns() const { return (W + 2 * pad - S) / stride + 1; }
};

std::string describe(const Case& c) {
  std::ostringstream out;
  out << (c.dtype == CNNEXT_FLOAT16 ? "float16" : "bfloat16") << " N" << c.N << " C" << c.C << " H" << c.H
      << " W" << c.W << " K" << c.K << " R" << c.R << " S" << c.S << " stride " << c.stride << " pad "
      << c.pad << " groups " << c.groups << (c.order == Order::kNHWC ? " NHWC" : " NCHW")
      << (c.weight_order == Order::kNHWC ? " KRSC" : " KCRS") << (c.epilogue ? " epilogue" : "");
  return out.str();
}

uint16_t* halves(const GuardedTensor& t) { return static_cast<uint16_t*>(t.t.data); }

int mantissa_bits(int32_t dtype) { return dtype == CNNEXT_FLOAT16 ? 10 : 7; }

// Finite values and zeros are all that these tests make.
double value(uint16_t bits, int32_t dtype) {
  const int m = mantissa_bits(dtype), bias = dtype == CNNEXT_FLOAT16 ? 15 : 127;
  const int exponent = (bits & 0x7fff) >> m, fraction = bits & ((1 << m) - 1);
  const double size =
      exponent ? std::ldexp((1 << m) + fraction, exponent - bias - m) : std::ldexp(fraction, 1 - bias - m);
  return bits & 0x8000 ? -size : size;
}

// Magnitudes from 2^-5 to 1.
void randomize(const GuardedTensor& t, int32_t dtype, std::mt19937& random) {
  const int m = mantissa_bits(dtype), top = (dtype == CNNEXT_FLOAT16 ? 15 : 127) - 1;
  for (int64_t i = 0; i < t.count; ++i) {
    const unsigned exponent = static_cast<unsigned>(top) - random() % 5, sign = (random() & 1u) << 15;
    halves(t)[i] = static_cast<uint16_t>(sign | exponent << m | (random() & ((1u << m) - 1)));
  }
}

enum class Pass { kForward, kBackwardData, kBackwardWeights };
constexpr Pass kPasses[] = {Pass::kForward, Pass::kBackwardData, Pass::kBackwardWeights};

struct Operands {
  GuardedTensor x, w, y, bias, residual;
  Operands(const Case& c, Side side)
      : x({c.N, c.C, c.H, c.W}, side, c.order, c.dtype, 2),
        w({c.K, c.C / c.groups, c.R, c.S}, side, c.weight_order, c.dtype, 2),
        y({c.N, c.K, c.rows(), c.columns()}, side, c.order, c.dtype, 2),
        bias({c.K}, side, Order::kNCHW, c.dtype, 2),
        residual({c.N, c.K, c.rows(), c.columns()}, side, c.order, c.dtype, 2) {}
  GuardedTensor& output(Pass pass) {
    return pass == Pass::kForward ? y : pass == Pass::kBackwardData ? x : w;
  }
  bool intact() const {
    for (const GuardedTensor* t : {&x, &w, &y, &bias, &residual}) {
      if (!t->memory->intact()) return false;
    }
    return true;
  }
};

cnnext_status run(Pass pass, const Case& c, const cnnext_context& context, Operands& o) {
  cnnext_conv2d_params p = CNNEXT_CONV2D_PARAMS_INIT;
  p.stride[0] = p.stride[1] = c.stride;
  std::fill(p.padding, p.padding + 4, c.pad);
  p.groups = c.groups;
  if (pass == Pass::kBackwardData) return cnnext_conv2d_backward_data(&context, &p, &o.y.t, &o.w.t, &o.x.t);
  if (pass == Pass::kBackwardWeights)
    return cnnext_conv2d_backward_weights(&context, &p, &o.y.t, &o.x.t, &o.w.t);
  if (c.epilogue) p.activation = CNNEXT_ACT_RELU;
  return cnnext_conv2d(&context, &p, &o.x.t, &o.w.t, c.epilogue ? &o.bias.t : nullptr,
                       c.epilogue ? &o.residual.t : nullptr, &o.y.t);
}

cnnext_context context_for(int32_t backend) {
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.backend = backend;
  return context;
}

int own_kernels = 0;  // calls of bfloat16's forward and backward-data that the forced level itself ran

bool same_bits_elsewhere(Pass pass, const Case& c, Operands& mine) {
  const GuardedTensor& output = mine.output(pass);
  const std::vector<uint16_t> first(halves(output), halves(output) + output.count);
  const size_t scratch = cnnext_last_scratch_bytes(), bytes = first.size() * sizeof(uint16_t);
  const Guarded workspace(scratch, Side::kEnd);
  cnnext_context context = context_for(CNNEXT_BACKEND_CPU);
  context.workspace = workspace.data();
  context.workspace_bytes = scratch;
  std::memset(output.t.data, 0xff, bytes);
  cnnext_set_num_threads(3);
  const cnnext_status status = run(pass, c, context, mine);
  cnnext_set_num_threads(2);
  return status == CNNEXT_OK && workspace.intact() && std::memcmp(first.data(), output.t.data, bytes) == 0;
}

bool check_pass(Pass pass, const Case& c, Side side, unsigned seed) {
  std::mt19937 random(seed);
  Operands ref(c, Side::kEnd), mine(c, side);
  for (auto member : {&Operands::x, &Operands::w, &Operands::y, &Operands::bias, &Operands::residual}) {
    const GuardedTensor &from = ref.*member, &to = mine.*member;
    if (&from == &ref.output(pass)) continue;  // stays NaN: every element must be written
    randomize(from, c.dtype, random);
    std::memcpy(to.t.data, from.t.data, static_cast<size_t>(from.count) * sizeof(uint16_t));
    to.memory->freeze();
  }
  if (run(pass, c, context_for(CNNEXT_BACKEND_CPU), mine) != CNNEXT_OK) return false;
  static const std::string own = std::string("cpu/") + cnnext_isa() + "/";
  own_kernels += std::string(cnnext_last_kernel()).compare(0, own.size(), own) == 0;
  if (!same_bits_elsewhere(pass, c, mine)) return false;
  if (run(pass, c, context_for(CNNEXT_BACKEND_REF), ref) != CNNEXT_OK) return false;
  const GuardedTensor &want = ref.output(pass), &got = mine.output(pass);
  // Terms are below 1, and so many are summed; two results next to each other differ by one last place.
  const double terms = pass == Pass::kForward        ? static_cast<double>(c.C / c.groups * c.R * c.S + 2)
                       : pass == Pass::kBackwardData ? static_cast<double>(c.K / c.groups * c.R * c.S)
                                                     : static_cast<double>(c.N * c.rows() * c.columns());
  const double sum_error = 4 * std::sqrt(terms) * std::ldexp(terms, -23),
               last = std::ldexp(1, -mantissa_bits(c.dtype));
  for (int64_t i = 0; i < got.count; ++i) {
    const double a = value(halves(got)[i], c.dtype), b = value(halves(want)[i], c.dtype);
    if (std::fabs(a - b) <= sum_error + last * std::fabs(b)) continue;
    std::fprintf(stderr, "element %lld is %g, ref has %g\n", static_cast<long long>(i), a, b);
    return false;
  }
  return mine.intact();
}

void check_case(Case c) {
  static unsigned seed = 1;
  if (c.H + 2 * c.pad < c.R || c.W + 2 * c.pad < c.S) return;
  for (int32_t dtype : {CNNEXT_FLOAT16, CNNEXT_BFLOAT16}) {
    c.dtype = dtype;
    for (Pass pass : kPasses) {
      for (Side side : {Side::kEnd, Side::kBegin}) {
        const std::string name = describe(c) + ", pass " + std::to_string(static_cast<int>(pass));
        say_when_faulting(name);
        if (check_pass(pass, c, side, seed++)) continue;
        ++check::failures();
        std::fprintf(stderr, "FAILED: %s (kernel %s, error \"%s\")\n", name.c_str(), cnnext_last_kernel(),
                     cnnext_last_error());
      }
    }
  }
}

constexpr Order kOrders[] = {Order::kNCHW, Order::kNHWC};

void channel_tails() {
  for (Order order : kOrders) {
    for (int64_t C : {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 65}) {
      check_case({1, C, 4, 7, 18, 3, 3, 1, 1, 1, order, Order::kNCHW, false, 0});
      check_case({1, C, 3, 5, 6, 1, 1, 1, 0, 1, order, order, true, 0});
      check_case({1, 5, 4, 6, C, 3, 3, 1, 1, 1, order, order, false, 0});
      check_case({2, C, 9, 11, C, 3, 3, 2, 1, C, order, order, true, 0});
    }
  }
}

void pixel_tails() {
  for (Order order : kOrders) {
    for (int64_t W : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 255, 257}) {
      check_case({1, 18, 2, W, 17, 3, 3, 1, 1, 1, order, Order::kNCHW, false, 0});
      check_case({1, 4, 3, W, 33, 1, 1, 2, 0, 1, order, Order::kNCHW, true, 0});
    }
  }
}

// Images of at least 8 channels on both sides: bfloat16's backward-weights pairs them.
void several_images() {
  for (Order order : kOrders) {
    const Order other = order == Order::kNHWC ? Order::kNCHW : Order::kNHWC;
    for (int64_t C : {16, 17, 31, 33, 65}) {
      check_case({3, C, 5, 9, 19, 3, 2, 1, 1, 1, order, order, false, 0});
      check_case({2, 18, 4, 7, C, 1, 1, 1, 0, 1, order, other, false, 0});
    }
    for (int64_t W : {1, 2, 15, 16, 17, 33, 200}) {
      check_case({3, 2 * 16, 3, W, 2 * 17, 3, 3, 2, 1, 2, order, other, false, 0});
      check_case({2, 20, 5, W, 70, 1, 1, 3, 0, 1, order, order, false, 0});
    }
  }
}

// So large an output is streamed from a strip.
void large_depthwise() {
  check_case({2, 32, 187, 183, 32, 3, 3, 1, 1, 32, Order::kNHWC, Order::kNCHW, false, 0});
}

void random_cases() {
  std::mt19937 random(7);
  const auto pick = [&](std::initializer_list<int64_t> values) {
    return values.begin()[random() % values.size()];
  };
  for (int i = 0; i < 120; ++i) {
    Case c{};
    c.N = pick({1, 1, 2, 3});
    c.groups = pick({1, 1, 2, 3});
    c.C = c.groups * pick({1, 2, 3, 8, 9, 16, 33});
    c.K = c.groups * pick({1, 3, 8, 15, 17, 64, 65});
    c.R = pick({1, 2, 3, 5});
    c.S = pick({1, 2, 3, 7});
    c.H = pick({1, 5, 8, 13});
    c.W = pick({1, 6, 9, 17, 31});
    c.stride = pick({1, 1, 2, 3});
    c.pad = pick({0, 1, 2});
    c.order = random() % 2 ? Order::kNHWC : Order::kNCHW;
    c.weight_order = random() % 2 ? Order::kNHWC : Order::kNCHW;
    c.epilogue = random() % 2;
    check_case(c);
  }
}

void the_forced_level_ran() { CHECK(own_kernels > 0); }

}  // namespace

int main() {
  if (cnnext_init() != CNNEXT_OK) {
    std::printf("skipped: %s\n", cnnext_last_error());
    return 77;
  }
  cnnext_set_num_threads(2);
  RUN(channel_tails);
  RUN(pixel_tails);
  RUN(several_images);
  RUN(large_depthwise);
  RUN(random_cases);
  RUN(the_forced_level_ran);
  return check::result();
}
