// The choice of instruction set, cgroup limits read from made-up trees, and the floating-point modes of
// tasks.
#include <cfenv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "check.h"
#include "core/exec.h"
#include "core/host_limits.h"
#include "core/threads.h"
#include "cpu/cpuid.h"

using namespace cnnext;
namespace fs = std::filesystem;

namespace {

// ---- instruction sets ----
void supported_isas_are_listed_in_order() {
  std::string expected;
  for (int i = 0; i < kNumIsas; ++i) {
    const Isa isa = static_cast<Isa>(i);
    CHECK(isa_name(isa)[0] != '\0' && isa_description(isa)[0] != '\0');
    if (isa_supported(isa)) expected += (expected.empty() ? "" : ",") + std::string(isa_name(isa));
  }
  CHECK_EQ(expected, isa_available());
  CHECK(isa_supported(Isa::kScalar));
}

#if defined(__x86_64__) && defined(__linux__)
// The kernel's own list leaves out what it does not save the registers of.
void support_agrees_with_the_kernel() {
  std::ifstream in("/proc/cpuinfo");
  std::string flags;
  for (std::string line; std::getline(in, line) && flags.empty();) {
    if (line.rfind("flags", 0) == 0) flags = line + " ";
  }
  const auto has = [&flags](const char* flag) {
    return flags.find(" " + std::string(flag) + " ") != std::string::npos;
  };
  const bool avx2 = has("avx2") && has("fma") && has("f16c") && has("bmi1") && has("bmi2");
  const bool avx512 = avx2 && has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl");
  CHECK_EQ(isa_supported(Isa::kAvx2), avx2);
  CHECK_EQ(isa_supported(Isa::kAvx512), avx512);
  CHECK_EQ(isa_supported(Isa::kAvx512Bf16), avx512 && has("avx512_bf16"));
}
#endif

void forcing_an_isa() {
  std::string error = "old";
  Isa best = choose_isa(nullptr, &error);
  CHECK_EQ(error, "");
  CHECK(isa_supported(best));
  CHECK(choose_isa("", &error) == best);
  for (int i = 0; i < kNumIsas; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const Isa chosen = choose_isa(isa_name(isa), &error);
    if (isa_supported(isa)) {
      CHECK(chosen == isa && error.empty());
    } else {
      CHECK(chosen == best && error.find("does not support") != std::string::npos);
    }
  }
  for (const char* wrong : {"AVX2", "sse", "avx2 ", "avx"}) {
    CHECK(choose_isa(wrong, &error) == best);
    CHECK(error.find(wrong) != std::string::npos && error.find(isa_available()) != std::string::npos);
  }
}

// ---- limits ----
struct Tree {
  fs::path root;
  Tree() {
    char name[] = "/tmp/cnnext-test-XXXXXX";
    root = mkdtemp(name);
  }
  ~Tree() { fs::remove_all(root); }
  void put(const std::string& path, const std::string& text) const {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
  std::string at() const { return root.string() + "/"; }
};

void no_cgroup_means_no_limit() {
  Tree tree;
  CHECK_EQ(cgroup_cpu_quota(tree.at()), 0.0);
  CHECK_EQ(cgroup_memory_limit(tree.at()), 0u);
}

void version_2_takes_the_tightest_of_the_path() {
  Tree tree;
  tree.put("proc/self/cgroup", "0::/user/job\n");
  tree.put("sys/fs/cgroup/cpu.max", "max 100000\n");
  tree.put("sys/fs/cgroup/user/cpu.max", "150000 100000\n");
  tree.put("sys/fs/cgroup/user/job/cpu.max", "400000 100000\n");
  tree.put("sys/fs/cgroup/user/memory.max", "1073741824\n");
  tree.put("sys/fs/cgroup/user/job/memory.max", "max\n");
  CHECK_EQ(cgroup_cpu_quota(tree.at()), 1.5);
  CHECK_EQ(cgroup_memory_limit(tree.at()), 1073741824u);
}

void version_1_even_where_the_path_is_the_hosts() {
  Tree tree;
  tree.put("proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n");
  tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
  tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  tree.put("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
  CHECK_EQ(cgroup_cpu_quota(tree.at()), 0.5);
  CHECK_EQ(cgroup_memory_limit(tree.at()), 536870912u);
  tree.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  tree.put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // v1's "none"
  CHECK_EQ(cgroup_cpu_quota(tree.at()), 0.0);
  CHECK_EQ(cgroup_memory_limit(tree.at()), 0u);
}

void nonsense_is_no_limit() {
  Tree tree;
  tree.put("proc/self/cgroup", "garbage\n0::no-slash\n");
  tree.put("sys/fs/cgroup/cpu.max", "what ever\n");
  tree.put("sys/fs/cgroup/memory.max", "-5\n");
  CHECK_EQ(cgroup_cpu_quota(tree.at()), 0.0);
  CHECK_EQ(cgroup_memory_limit(tree.at()), 0u);
  CHECK(usable_cpus() >= 1);
  CHECK(memory_limit_bytes() > 0);
}

void whole_numbers() {
  CHECK_EQ(parse_int("42", 0, 100).value_or(-1), 42);
  CHECK_EQ(parse_int(" 7 \t", 0, 100).value_or(-1), 7);
  for (const char* text : {"", " ", "x", "4x", "4 2", "101", "-1", "1.0", "0x10", "99999999999999999999"}) {
    CHECK(!parse_int(text, 0, 100));
  }
  CHECK(!parse_int(nullptr, 0, 100));
}

// ---- floating-point modes ----
volatile double one = 1, three = 3;
volatile float smallest_normal = std::numeric_limits<float>::min(), half = 0.5f;

double third_rounded() { return one / three; }
bool denormals_are_kept() { return smallest_normal * half != 0; }

void modes_inside_and_after_a_scope() {
  const double nearest = third_rounded();
  CHECK_EQ(std::fesetround(FE_UPWARD), 0);
  const double upward = third_rounded();
  CHECK(upward != nearest);
  {
    FloatModeScope scope;
    CHECK(third_rounded() == nearest);
    CHECK(denormals_are_kept());
  }
  CHECK(third_rounded() == upward);
  std::fesetround(FE_TONEAREST);

  set_flush_denormal(true);
  CHECK(get_flush_denormal());
  CHECK(denormals_are_kept());  // outside of tasks the program's own mode rules
#if defined(__x86_64__) || defined(__aarch64__)
  {
    FloatModeScope scope;
    CHECK(!denormals_are_kept());
  }
#endif
  CHECK(denormals_are_kept());
  set_flush_denormal(false);
}

#if defined(__x86_64__)
void a_callers_flush_mode_does_not_reach_tasks() {
  const unsigned before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before | 0x8040);
  CHECK(!denormals_are_kept());
  {
    FloatModeScope scope;
    CHECK(denormals_are_kept());
  }
  CHECK_EQ(__builtin_ia32_stmxcsr() | 0x3f, before | 0x8040 | 0x3f);
  __builtin_ia32_ldmxcsr(before);
}

void traps_of_the_caller_do_not_reach_tasks() {
  volatile double zero = 0;
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() & ~(1u << 9));  // division by zero traps
  {
    FloatModeScope scope;
    CHECK(std::isinf(one / zero));
  }
  CHECK_EQ(__builtin_ia32_stmxcsr() & (1u << 9), 0u);
  __builtin_ia32_ldmxcsr(0x1f80);
}
#endif

// Reverses the order and changes the modes, as a foreign thread pool may.
void odd_parallel_for(void* user, int64_t count, cnnext_task task, void* arg) {
  std::fesetround(FE_DOWNWARD);
  for (int64_t i = count - 1; i >= 0; --i) {
    task(arg, i);
    if (std::fegetround() != FE_DOWNWARD) *static_cast<bool*>(user) = true;
  }
  std::fesetround(FE_TONEAREST);
}

void modes_under_a_callers_parallel_for() {
  const double nearest = third_rounded();
  bool not_restored = false;
  cnnext_context context = CNNEXT_CONTEXT_INIT;
  context.parallel_for = odd_parallel_for;
  context.parallel_for_user = &not_restored;
  Exec exec(&context);
  int ran = 0, wrong = 0;
  exec.parallel_for(10, [&](int64_t) {
    ++ran;
    wrong += third_rounded() != nearest;
  });
  CHECK_EQ(ran, 10);
  CHECK_EQ(wrong, 0);
  CHECK(!not_restored);
}

void modes_on_the_pool() {
  const double nearest = third_rounded();
  pool_set_num_threads(3);
  std::fesetround(FE_UPWARD);  // new workers inherit it
  Exec exec(nullptr);
  double results[64];
  exec.parallel_for(64, [&](int64_t i) { results[i] = third_rounded(); });
  exec.parallel_for(1, [&](int64_t) { results[0] = third_rounded(); });
  CHECK_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  for (double result : results) CHECK(result == nearest);
}

}  // namespace

int main() {
  RUN(supported_isas_are_listed_in_order);
#if defined(__x86_64__) && defined(__linux__)
  RUN(support_agrees_with_the_kernel);
#endif
  RUN(forcing_an_isa);
  RUN(no_cgroup_means_no_limit);
  RUN(version_2_takes_the_tightest_of_the_path);
  RUN(version_1_even_where_the_path_is_the_hosts);
  RUN(nonsense_is_no_limit);
  RUN(whole_numbers);
  RUN(modes_inside_and_after_a_scope);
#if defined(__x86_64__)
  RUN(a_callers_flush_mode_does_not_reach_tasks);
  RUN(traps_of_the_caller_do_not_reach_tasks);
#endif
  RUN(modes_under_a_callers_parallel_for);
  RUN(modes_on_the_pool);
  return check::result();
}
