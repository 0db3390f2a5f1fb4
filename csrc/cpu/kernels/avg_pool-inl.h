// See avg_pool.h. The including file has chosen Vec.
#pragma once

#include "cpu/kernels/avg_pool.h"
#include "cpu/kernels/elementwise-inl.h"

namespace cnnext {
namespace {

// Long sums go in runs: rounding errors stay small.
template <int U, bool kScales, class Load>
inline void sum_terms_vectors(const SumTerms& a, int64_t i, const Load& load, Vec (&sum)[U]) {
  constexpr int64_t kRun = 32;
  for (Vec& s : sum) s = Vec::zero();
  for (int64_t t = 0; t < a.num_terms;) {
    const int64_t end = a.num_terms - t < kRun ? a.num_terms : t + kRun;
    Vec run[U];
    for (Vec& s : run) s = Vec::zero();
    for (; t < end; ++t) {
      const float* term = a.terms[t] + i;
      for (int u = 0; u < U; ++u) {
        const Vec v = load(term + u * Vec::kLanes);
        run[u] = run[u] + (kScales ? v / Vec::set1(a.scales[t]) : v);
      }
    }
    for (int u = 0; u < U; ++u) sum[u] = sum[u] + run[u];
  }
}

// As many whole vectors from i on as there are, U at a time: terms that lie far apart are read some lines at
// a time.
template <int U, bool kScales>
int64_t sum_whole_vectors(const SumTerms& a, int64_t i, Vec divisor) {
  constexpr int L = Vec::kLanes;
  for (; i + U * L <= a.count; i += U * L) {
    Vec sum[U];
    sum_terms_vectors<U, kScales>(a, i, LoadVector{}, sum);
    for (int u = 0; u < U; ++u) {
      (sum[u] / (a.divisors ? Vec::load(a.divisors + i + u * L) : divisor)).store(a.y + i + u * L);
    }
  }
  return i;
}

template <bool kScales>
void sum_terms_as(const SumTerms& a) {
  constexpr int L = Vec::kLanes;
  const Vec divisor = Vec::set1(a.divisor);
  int64_t i = sum_whole_vectors<L == 16 ? 8 : 4, kScales>(a, 0, divisor);
  i = sum_whole_vectors<2, kScales>(a, i, divisor);
  for (; i < a.count; i += L) {
    const int n = a.count - i < L ? static_cast<int>(a.count - i) : L;
    const LoadTail load{n};
    Vec sum[1];
    sum_terms_vectors<1, kScales>(a, i, load, sum);
    (sum[0] / (a.divisors ? load(a.divisors + i) : divisor)).store_tail(a.y + i, n);
  }
}

void sum_terms(const SumTerms& a) { a.scales ? sum_terms_as<true>(a) : sum_terms_as<false>(a); }

void plane_means(const PlaneMeans& a) {
  constexpr int L = Vec::kLanes;
  const float* x = a.x;
  for (int64_t plane = 0; plane < a.planes; ++plane, x += a.size) {
    Vec sum[2] = {Vec::zero(), Vec::zero()};
    int64_t i = 0;
    for (; i + 2 * L <= a.size; i += 2 * L) {
      for (int u = 0; u < 2; ++u) sum[u] = sum[u] + Vec::load(x + i + u * L);
    }
    for (; i + L <= a.size; i += L) sum[0] = sum[0] + Vec::load(x + i);
    if (i < a.size) sum[1] = sum[1] + Vec::load_tail(x + i, static_cast<int>(a.size - i));
    a.y[plane] = reduce_add(sum[0] + sum[1]) / a.divisor;
  }
}

void plane_spread(const PlaneSpread& a) {
  for (int64_t plane = 0; plane < a.planes; ++plane) {
    const Vec share = Vec::set1(a.y[plane] / a.divisor);
    run_flat(a.x + plane * a.size, a.size, false, [=](int64_t, auto) { return share; });
  }
}

constexpr AvgPoolUkernels kAvgPoolUkernels = {sum_terms, plane_means, plane_spread};

}  // namespace
}  // namespace cnnext
