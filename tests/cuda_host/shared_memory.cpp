#include "shared_memory.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <vector>

#include "bed.h"

namespace cuda_host {
namespace {

constexpr size_t kMostBytes = 256 * 1024;
constexpr size_t kDynamicBegin = 16;  // aligned to no more than CUDA says

struct Access {
  uint64_t block = 0;  // 0: never
  uint32_t barriers = 0, warp_barriers = 0;
  int16_t thread = 0;
};

// What one byte has seen. The last write; the last read, and whether since the last barrier others read too.
struct Shadow {
  Access write, read;
  bool read_by_lanes = false, read_by_warps = false;
  bool expected = false;
  Phase phase;          // whose end says that TMA's write is there; of a thread's write, none
  uint64_t fences = 0;  // of the asynchronous proxy, that the writing thread had passed
};

struct Memory {
  alignas(256) unsigned char bytes[kMostBytes];
  Shadow shadow[kMostBytes];
  size_t used = 0, dynamic_bytes = 0;
  std::map<const void*, Region> arrays;
  std::list<AsyncRead> async_reads;
};
Memory& memory() {
  static Memory* const the_memory = new Memory;
  return *the_memory;
}

Access access(const Moment& m) {
  return {m.block, m.barriers, m.warp_barriers, static_cast<int16_t>(m.thread)};
}
// A word is judged by its first byte; what is written counts for all of its bytes, as others may read it in
// parts.
size_t granule(size_t size) { return size < 4 ? size : 4; }
int warp_of(int thread) { return thread / kWarp; }

// Whether nothing orders an earlier access before now.
bool unordered(const Access& earlier, const Moment& m) {
  if (earlier.block != m.block || earlier.barriers != m.barriers || earlier.thread == m.thread) return false;
  return warp_of(earlier.thread) != warp_of(m.thread) || earlier.warp_barriers == m.warp_barriers;
}
// The same for all reads that a shadow stands for.
bool unordered_reads(const Shadow& s, const Moment& m) {
  if (s.read.block != m.block || s.read.barriers != m.barriers) return false;
  if (s.read_by_warps || warp_of(s.read.thread) != warp_of(m.thread)) return true;
  return s.read.warp_barriers == m.warp_barriers && (s.read_by_lanes || s.read.thread != m.thread);
}

size_t check_bounds(const Region& r, int64_t at, size_t size, size_t count, const char* verb) {
  const size_t elements = r.bytes / size;
  if (at < 0 || static_cast<size_t>(at) + count > elements) {
    report("%s elements %lld to %lld of shared %s, which has %zu", verb, static_cast<long long>(at),
           static_cast<long long>(at) + static_cast<long long>(count) - 1, r.name, elements);
  }
  const size_t begin = r.begin + static_cast<size_t>(at) * size;
  if (begin % std::min<size_t>(size * count, 16) != 0) {
    report("%s %zu bytes of shared %s at element %lld, which is not aligned to them", verb, size * count,
           r.name, static_cast<long long>(at));
  }
  return begin;
}

// Whether wgmma may still be reading some of these bytes.
void check_async_reads(size_t begin, size_t bytes) {
  std::list<AsyncRead>& reads = memory().async_reads;
  reads.remove_if([](const AsyncRead& read) { return read.warps == 0; });
  for (const AsyncRead& read : reads) {
    if (begin < read.end && read.begin < begin + bytes) {
      report(
          "race: writes bytes %zu and on of shared memory, which a wgmma reads that not all warps waited for",
          begin);
    }
  }
}

void note_write(const Region& r, size_t byte, const Moment& m, int64_t at) {
  Shadow& s = memory().shadow[byte];
  if (unordered(s.write, m)) {
    report("race: writes element %lld of shared %s, which thread %d wrote since the last barrier",
           static_cast<long long>(at), r.name, s.write.thread);
  }
  if (unordered_reads(s, m)) {
    report("race: writes element %lld of shared %s, which thread %d read since the last barrier",
           static_cast<long long>(at), r.name, s.read.thread);
  }
  s.write = access(m);
  s.phase = {};
  s.fences = proxy_fences();
}
void mark_written(size_t byte, size_t bytes, bool expected) {
  Shadow* const s = &memory().shadow[byte];
  for (size_t i = 0; i < bytes; ++i) {
    s[i].write = s[0].write;
    s[i].expected = expected;
    s[i].phase = s[0].phase;
    s[i].fences = s[0].fences;
  }
}

void note_read(const Region& r, size_t byte, const Moment& m, int64_t at) {
  Shadow& s = memory().shadow[byte];
  if (s.write.block != m.block) {
    report("reads element %lld of shared %s, which nobody has written", static_cast<long long>(at), r.name);
  }
  if (s.expected) {
    report("reads element %lld of shared %s before cp.async's or TMA's data has arrived",
           static_cast<long long>(at), r.name);
  }
  if (s.phase.barrier >= 0 && !has_waited_for(m.thread, s.phase)) {
    report("reads element %lld of shared %s before its mbarrier said that it is there",
           static_cast<long long>(at), r.name);
  }
  if (s.phase.barrier < 0 && unordered(s.write, m)) {
    report("race: reads element %lld of shared %s, which thread %d wrote since the last barrier",
           static_cast<long long>(at), r.name, s.write.thread);
  }
  const bool fresh = s.read.block != m.block || s.read.barriers != m.barriers;
  if (fresh) s.read_by_lanes = s.read_by_warps = false;
  if (!fresh && warp_of(s.read.thread) != warp_of(m.thread)) s.read_by_warps = true;
  if (!fresh && s.read.warp_barriers == m.warp_barriers) {
    s.read_by_lanes = s.read_by_lanes || s.read.thread != m.thread;
  } else {
    s.read_by_lanes = false;
  }
  s.read = access(m);
}

}  // namespace

void start_shared_memory(size_t dynamic_bytes) {
  Memory& m = memory();
  m.arrays.clear();
  m.dynamic_bytes = dynamic_bytes;
  m.used = kDynamicBegin + (dynamic_bytes + 15) / 16 * 16;
  m.async_reads.clear();
}

Region static_region(const void* declaration, const char* name, size_t bytes) {
  Memory& m = memory();
  const auto found = m.arrays.find(declaration);
  if (found != m.arrays.end()) return found->second;
  if (m.used + bytes > kMostBytes) report("shared %s does not fit", name);
  const Region region = {name, m.used, bytes};
  m.used += (bytes + 15) / 16 * 16;
  m.arrays.emplace(declaration, region);
  return region;
}

Region dynamic_region(size_t offset, size_t bytes) {
  if (offset + bytes > memory().dynamic_bytes) {
    report("takes bytes %zu to %zu of dynamic shared memory; the launch gave %zu", offset, offset + bytes,
           memory().dynamic_bytes);
  }
  return {"dynamic memory", kDynamicBegin + offset, bytes};
}

void read_shared(const Region& r, int64_t at, size_t size, size_t count, void* to) {
  const size_t begin = check_bounds(r, at, size, count, "reads");
  const Moment m = now();
  for (size_t i = 0; i < size * count; i += granule(size)) {
    note_read(r, begin + i, m, at + static_cast<int64_t>(i / size));
  }
  std::memcpy(to, memory().bytes + begin, size * count);
}

void write_shared(const Region& r, int64_t at, size_t size, size_t count, const void* from) {
  const size_t begin = check_bounds(r, at, size, count, "writes");
  check_async_reads(begin, size * count);
  const Moment m = now();
  for (size_t i = 0; i < size * count; i += granule(size)) {
    note_write(r, begin + i, m, at + static_cast<int64_t>(i / size));
    mark_written(begin + i, granule(size), false);
  }
  std::memcpy(memory().bytes + begin, from, size * count);
}

void expect_shared(const Region& r, int64_t at, size_t size, size_t count) {
  const size_t begin = check_bounds(r, at, size, count, "copies to");
  const Moment m = now();
  for (size_t i = 0; i < size * count; i += granule(size)) {
    note_write(r, begin + i, m, at + static_cast<int64_t>(i / size));
    mark_written(begin + i, granule(size), true);
  }
}

void expect_async(size_t begin, size_t bytes, const Phase& phase) {
  if (begin + bytes > memory().used) report("TMA writes past the end of shared memory");
  check_async_reads(begin, bytes);
  const Moment m = now();
  for (size_t i = 0; i < bytes; ++i) {
    Shadow& s = memory().shadow[begin + i];
    if (s.write.block == m.block && s.expected) report("TMA writes where bytes are already on their way");
    s.write = access(m);
    s.expected = true;
    s.phase = phase;
  }
}

void write_async(size_t begin, const void* from, size_t bytes) {
  std::memcpy(memory().bytes + begin, from, bytes);
  for (size_t i = 0; i < bytes; ++i) memory().shadow[begin + i].expected = false;
}

void read_async(size_t begin, int first_thread, void* to) {
  if (begin % 16 != 0 || begin + 16 > memory().used) report("wgmma reads 16 bytes at address %zu", begin);
  const Moment m = now();
  for (size_t byte = begin; byte < begin + 16; byte += 4) {
    const Shadow& s = memory().shadow[byte];
    if (s.write.block != m.block)
      report("wgmma reads byte %zu of shared memory, which nobody has written", byte);
    if (s.expected) report("wgmma reads byte %zu of shared memory before TMA has written it", byte);
    if (s.phase.barrier >= 0) {
      for (int i = 0; i < kGroup; ++i) {
        if (has_waited_for(first_thread + i, s.phase)) continue;
        report("wgmma reads byte %zu of shared memory; thread %d has not waited for its mbarrier", byte,
               first_thread + i);
      }
    } else if (s.fences >= proxy_fences_of(s.write.thread)) {
      report("wgmma reads byte %zu of shared memory, which thread %d wrote without async_proxy_fence()", byte,
             s.write.thread);
    } else if (s.write.barriers == m.barriers) {
      report("race: wgmma reads byte %zu of shared memory, which thread %d wrote since the last barrier",
             byte, s.write.thread);
    }
  }
  std::memcpy(to, memory().bytes + begin, 16);
}

AsyncRead* begin_async_read(size_t begin, size_t end, uint32_t warps) {
  memory().async_reads.push_back({begin, end, warps});
  return &memory().async_reads.back();
}

}  // namespace cuda_host
