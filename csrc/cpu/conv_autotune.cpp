#include "cpu/conv_autotune.h"

#include <algorithm>
#include <chrono>
#include <new>

#include "core/conv_key.h"

namespace cnnext {
namespace {

constexpr int kMinRounds = 3, kMaxRounds = 5;
constexpr double kBudget = 0.1;  // seconds, after which no further round begins
constexpr double kHopeless = 3;  // times the table's: not tried again
constexpr double kGain = 0.95;   // of the table's time: less is noise

constexpr const char* kChoices[kNumConvVariants] = {
    "autotune: as the table", "autotune: small regions", "autotune: large regions",
    "autotune: plain stores", "autotune: direct",        "autotune: winograd",
    "autotune: other side",   "autotune: transposed",    "autotune: planes"};

bool may_take(int32_t variant, cnnext_autotune mode) {
  if (variant < 0 || variant >= kNumConvVariants) return false;
  return mode == CNNEXT_AUTOTUNE_ANY || keeps_bits(static_cast<ConvVariant>(variant));
}

// A run in scratch of its own: the caller's workspace holds this call's copies.
Ran run_apart(const Conv2dDesc& desc, const Exec& exec, ConvRun run, cnnext_plan* plan, uint32_t* offered) {
  cnnext_context context = exec.context();
  context.workspace = nullptr;
  context.workspace_bytes = 0;
  context.plan = plan;
  Exec apart(&context);
  const Ran ran = run(desc, apart);
  *offered = apart.offered();
  return ran;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The fastest of the variants, alternated; the table's unless another is clearly faster.
int32_t fastest(Conv2dDesc desc, const Exec& exec, ConvRun run, uint32_t variants) {
  double least[kNumConvVariants];
  std::fill(least, least + kNumConvVariants, 1e300);
  uint32_t offered;
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < kMaxRounds && (round < kMinRounds || seconds_since(start) < kBudget); ++round) {
    for (int v = 0; v < kNumConvVariants; ++v) {
      if (!(variants >> v & 1)) continue;
      desc.variant = static_cast<ConvVariant>(v);
      const auto begin = std::chrono::steady_clock::now();
      try {
        run_apart(desc, exec, run, nullptr, &offered);
      } catch (const std::bad_alloc&) {
        if (v == 0) throw;
        variants &= ~(1u << v);  // the call itself does without it
        continue;
      }
      least[v] = std::min(least[v], seconds_since(begin));
      if (least[v] > kHopeless * least[0]) variants &= ~(1u << v);
    }
  }
  const double* best = std::min_element(least, least + kNumConvVariants);
  return *best < kGain * least[0] ? static_cast<int32_t>(best - least) : 0;
}

}  // namespace

Ran run_tuned(ConvPass pass, const Conv2dDesc& desc, Exec& exec, ConvRun run) {
  const cnnext_autotune mode = autotune_mode();
  if (mode == CNNEXT_AUTOTUNE_OFF) return run(desc, exec);
  const TuneKey key = conv_key(mode, static_cast<int64_t>(pass), exec.num_threads(), desc, exec.backend());
  int32_t variant = find_tuned(key);
  if (!may_take(variant, mode)) {
    if (exec.planning()) return run(desc, exec);
    cnnext_plan plan = CNNEXT_PLAN_INIT;
    uint32_t offered = 0, variants = 1;
    if (run_apart(desc, exec, run, &plan, &offered) != Ran::kDone) return Ran::kUnsupported;
    for (int32_t v = 1; v < kNumConvVariants; ++v) {
      if (may_take(v, mode)) variants |= offered & 1u << v;
    }
    variant = variants == 1 ? 0 : fastest(desc, exec, run, variants);
    keep_tuned(key, variant);
  }
  Conv2dDesc chosen = desc;
  chosen.variant = static_cast<ConvVariant>(variant);
  exec.chose(kChoices[variant]);
  return run(chosen, exec);
}

}  // namespace cnnext
