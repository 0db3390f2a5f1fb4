// Runs Winograd's steps over all tasks.
#include "cpu/winograd_driver.h"

#include <algorithm>
#include <atomic>

#include "cpu/scratch_parts.h"

namespace cnnext {
namespace {

// parallel_strands for several runs that share the strands' scratch.
class Strands {
 public:
  Strands(Exec& exec, int64_t max_tasks, int64_t floats)
      : exec_(exec),
        count_(std::min<int64_t>(max_tasks, std::max(exec.num_threads(), 1))),
        step_((floats + 15) / 16 * 16),
        scratch_(exec.scratch_array<float>(count_ * step_)) {}

  template <class Task>
  void run(int64_t tasks, const Task& task) {
    std::atomic<int64_t> next{0};
    exec_.shares(tasks);
    exec_.parallel_for(std::min(count_, tasks), [&](int64_t strand) {
      float* const mine = scratch_ + strand * step_;
      for (int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < tasks;
           i = next.fetch_add(1, std::memory_order_relaxed)) {
        task(i, mine);
      }
    });
  }

 private:
  Exec& exec_;
  const int64_t count_, step_;
  float* const scratch_;
};

// A task's scratch.
struct Parts {
  float *elements, *products, *filters, *rest;
};

class Driver {
 public:
  // kept: filters from a handle, or nullptr.
  Driver(const ConvProblem& problem, const WinogradBlocks& blocks, const WinogradPlan& plan,
         const float* kept)
      : p_(problem), blocks_(blocks), plan_(plan), kept_(kept), steps_(problem, blocks, plan) {}

  bool all_filters(float* dst, Exec& exec) const {
    Strands strands(exec, p_.groups * blocks_.count() * plan_.parts, steps_.filter_scratch());
    return all_filters(dst, strands);
  }
  bool by_group(Exec& exec) const;
  bool by_panel(Exec& exec) const;

 private:
  int64_t group_filters() const { return WinogradFilters::floats(blocks_, p_.in_channels); }
  int64_t part_begin(int64_t part) const { return part * plan_.part; }
  int64_t part_end(int64_t part) const { return std::min(part_begin(part + 1), p_.in_channels); }
  int64_t panel_end(int64_t block0) const { return std::min(block0 + plan_.panel_blocks, blocks_.count()); }
  // Cuts a task's scratch up, or with a null base only adds up.
  int64_t cut(float* base, Parts* parts) const;
  bool all_filters(float* dst, Strands& strands) const;
  void run_group(int64_t group, const TileGroup& tiles, const float* filters, const Parts& parts) const;
  void multiply(const TileGroup& tiles, int64_t block0, const float* elements, const float* filters,
                float* products) const;
  bool transform_and_multiply(int64_t group, const TileGroup& tiles, int64_t block0, const float* elements,
                              const Parts& parts) const;

  const ConvProblem& p_;
  const WinogradBlocks& blocks_;
  const WinogradPlan& plan_;
  const float* const kept_;
  const WinogradSteps steps_;
};

int64_t Driver::cut(float* base, Parts* parts) const {
  ScratchParts all(base);
  parts->elements = all.take<float>(plan_.by_panel ? 0 : plan_.input_floats());
  parts->products = all.take<float>(plan_.product_floats());
  const int64_t slab = kWinogradElements * (plan_.part * plan_.panel_lanes + 16 * plan_.panel_blocks);
  parts->filters = all.take<float>(plan_.by_panel && !kept_ ? slab : 0);
  parts->rest =
      all.take<float>(std::max({steps_.input_scratch(), steps_.output_scratch(), steps_.filter_scratch()}));
  return all.floats();
}

bool Driver::all_filters(float* dst, Strands& strands) const {
  std::atomic<bool> finite{true};
  strands.run(p_.groups * blocks_.count() * plan_.parts, [&](int64_t task, float* scratch) {
    const int64_t part = task % plan_.parts, block = task / plan_.parts % blocks_.count();
    const int64_t group = task / plan_.parts / blocks_.count();
    const int64_t nr = blocks_.nr(block);
    float* const at = dst + group * group_filters() + WinogradFilters::block(blocks_, p_.in_channels, block) +
                      part_begin(part) * nr;
    if (!steps_.transform_filters(group, block, part_begin(part), part_end(part), at,
                                  WinogradFilters::plane(p_.in_channels, nr), scratch)) {
      finite.store(false, std::memory_order_relaxed);
    }
  });
  return finite.load();
}

bool Driver::by_group(Exec& exec) const {
  const int64_t tasks = p_.groups * plan_.groups();
  Parts none;
  Strands strands(exec, std::max(tasks, p_.groups * blocks_.count()), cut(nullptr, &none));
  const float* filters = kept_;
  if (!filters) {
    float* const made = exec.scratch_array<float>(p_.groups * group_filters());
    exec.packs(p_.groups * group_filters());
    if (!all_filters(made, strands)) return false;
    filters = made;
  }
  strands.run(tasks, [&](int64_t task, float* scratch) {
    Parts parts;
    cut(scratch, &parts);
    const int64_t group = task / plan_.groups();
    run_group(group, steps_.group(task % plan_.groups()), filters + group * group_filters(), parts);
  });
  return true;
}

// The products of all input channels, of filters that are ready.
void Driver::multiply(const TileGroup& tiles, int64_t block0, const float* elements, const float* filters,
                      float* products) const {
  const float* of_block[kMaxPanelBlocks];
  for (int64_t b = block0; b < panel_end(block0); ++b) {
    of_block[b - block0] = filters + WinogradFilters::block(blocks_, p_.in_channels, b);
  }
  steps_.multiply(tiles, elements, block0, panel_end(block0), 0, plan_.parts, of_block, p_.in_channels,
                  products);
}

// The same of filters that are transformed part by part.
bool Driver::transform_and_multiply(int64_t group, const TileGroup& tiles, int64_t block0,
                                    const float* elements, const Parts& parts) const {
  for (int64_t part = 0; part < plan_.parts; ++part) {
    const float* of_block[kMaxPanelBlocks];
    float* dst = parts.filters;
    for (int64_t b = block0; b < panel_end(block0); ++b) {
      const int64_t plane = WinogradFilters::plane(plan_.part, blocks_.nr(b));
      if (!steps_.transform_filters(group, b, part_begin(part), part_end(part), dst, plane, parts.rest)) {
        return false;
      }
      of_block[b - block0] = dst;
      dst += kWinogradElements * plane;
    }
    steps_.multiply(tiles, elements, block0, panel_end(block0), part, part + 1, of_block, plan_.part,
                    parts.products);
  }
  return true;
}

void Driver::run_group(int64_t group, const TileGroup& tiles, const float* filters,
                       const Parts& parts) const {
  for (int64_t part = 0; part < plan_.parts; ++part) {
    steps_.transform_input(tiles, group, part_begin(part), part_end(part),
                           parts.elements + part * plan_.part_floats(), parts.rest);
  }
  for (int64_t block0 = 0; block0 < blocks_.count(); block0 += plan_.panel_blocks) {
    multiply(tiles, block0, parts.elements, filters, parts.products);
    steps_.transform_output(tiles, group, block0, panel_end(block0), parts.products, parts.rest);
  }
}

bool Driver::by_panel(Exec& exec) const {
  Parts none;
  Strands strands(exec, plan_.wave * std::max(plan_.parts, plan_.panels), cut(nullptr, &none));
  float* const elements = exec.scratch_array<float>(plan_.wave * plan_.input_floats());
  std::atomic<bool> finite{true};
  for (int64_t group = 0; group < p_.groups; ++group) {
    for (int64_t first = 0; first < plan_.groups() && finite.load(); first += plan_.wave) {
      const int64_t count = std::min(plan_.wave, plan_.groups() - first);
      strands.run(count * plan_.parts, [&](int64_t task, float* scratch) {
        Parts parts;
        cut(scratch, &parts);
        const int64_t part = task % plan_.parts;
        steps_.transform_input(steps_.group(first + task / plan_.parts), group, part_begin(part),
                               part_end(part), elements + task * plan_.part_floats(), parts.rest);
      });
      strands.run(count * plan_.panels, [&](int64_t task, float* scratch) {
        Parts parts;
        cut(scratch, &parts);
        const int64_t at = task % count, block0 = task / count * plan_.panel_blocks;
        const TileGroup tiles = steps_.group(first + at);
        const float* const mine = elements + at * plan_.input_floats();
        if (kept_) {
          multiply(tiles, block0, mine, kept_ + group * group_filters(), parts.products);
        } else if (!transform_and_multiply(group, tiles, block0, mine, parts)) {
          finite.store(false, std::memory_order_relaxed);
          return;
        }
        steps_.transform_output(tiles, group, block0, panel_end(block0), parts.products, parts.rest);
      });
    }
  }
  return finite.load();
}

// The blocks of a handle's filters.
WinogradBlocks kept_blocks(const ConvProblem& p) {
  return WinogradBlocks(p.out_channels, winograd_block_vectors(p, false, true));
}

}  // namespace

int64_t winograd_filter_floats(const ConvProblem& p) {
  return p.groups * WinogradFilters::floats(kept_blocks(p), p.in_channels);
}

bool transform_winograd_filters(const ConvProblem& p, float* dst, Exec& exec) {
  const WinogradBlocks blocks = kept_blocks(p);
  const WinogradPlan plan = plan_winograd(p, blocks, false);
  return Driver(p, blocks, plan, nullptr).all_filters(dst, exec);
}

bool run_winograd(const ConvProblem& p, const float* kept, Exec& exec) {
  const bool by_panel = winograd_by_panel(p);
  const WinogradBlocks blocks(p.out_channels, winograd_block_vectors(p, by_panel, kept));
  const WinogradPlan plan = plan_winograd(p, blocks, by_panel);
  const Driver driver(p, blocks, plan, kept);
  exec.ran(winograd_form(p).name);
  if (plan.group_tiles() > 1) exec.offers(ConvVariant::kSmallRegions);
  if (plan.groups() > 1) exec.offers(ConvVariant::kLargeRegions);
  return by_panel ? driver.by_panel(exec) : driver.by_group(exec);
}

}  // namespace cnnext
