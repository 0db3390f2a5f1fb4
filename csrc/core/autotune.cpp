#include "core/autotune.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>

#include "core/error.h"

namespace cnnext {
namespace {

constexpr size_t kMaxEntries = 2048;
constexpr const char* kModes[] = {"off", "same_bits", "any"};

const char* mode_setting() {
  const char* text = std::getenv("CNNEXT_AUTOTUNE");
  return text && *text ? text : "off";
}

int mode_of(const char* text) {
  for (int i = 0; i < 3; ++i) {
    if (!std::strcmp(text, kModes[i])) return i;
  }
  return -1;
}

std::atomic<int>& mode() {
  static std::atomic<int> value{std::max(mode_of(mode_setting()), 0)};
  return value;
}

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(std::min(line.size(), line.find(':') + 1));
  }
  return " unknown processor";
}

// The first line of a file: whose it is.
std::string make_header() {
  return std::string("cnnext ") + CNNEXT_VERSION_STRING + " autotune, " + cnnext_isa() + "," + processor();
}

// "" where there is no place for files.
std::string directory() {
  const auto setting = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string(text ? text : "");
  };
  const std::string own = setting("CNNEXT_CACHE_DIR"), caches = setting("XDG_CACHE_HOME"),
                    home = setting("HOME");
  if (!own.empty()) return own;
  if (!caches.empty()) return caches + "/cnnext";
  return home.empty() ? "" : home + "/.cache/cnnext";
}

void make_directories(const std::string& path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    mkdir(path.substr(0, at).c_str(), 0777);
  }
  mkdir(path.c_str(), 0777);
}

// A name of its own for each header (FNV-1a).
std::string file_name(const std::string& header) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : header) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  char name[40];
  std::snprintf(name, sizeof(name), "autotune-%016llx.txt", static_cast<unsigned long long>(hash));
  return name;
}

// Decisions; where there are too many the oldest go.
class Decisions {
 public:
  int32_t find(const TuneKey& key) const {
    const auto at = variants_.find(key);
    return at == variants_.end() ? -1 : at->second;
  }

  void put(const TuneKey& key, int32_t variant) {
    if (variants_.insert_or_assign(key, variant).second) order_.push_back(key);
    if (order_.size() <= kMaxEntries) return;
    variants_.erase(order_.front());
    order_.pop_front();
  }

  // A file's entries, up to the first line that is none; nothing where its header is another.
  void read(const std::string& path, const std::string& header) {
    std::ifstream in(path);
    std::string line;
    if (!std::getline(in, line) || line != header) return;
    for (size_t entries = 0; entries < kMaxEntries && std::getline(in, line); ++entries) {
      std::istringstream numbers(line);
      TuneKey key;
      int32_t variant = -1;
      for (int64_t& number : key) numbers >> number;
      if (!(numbers >> variant) || variant < 0 || numbers.peek() != EOF) return;
      put(key, variant);
    }
  }

  // Replaces the file at once, so that nobody sees a part of it. Where that fails the file stays as it was.
  void write(const std::string& path, const std::string& header) const {
    const std::string part = path + "." + std::to_string(getpid());
    std::ofstream out(part, std::ios::trunc);
    out << header << '\n';
    for (const TuneKey& key : order_) {
      for (const int64_t number : key) out << number << ' ';
      out << variants_.at(key) << '\n';
    }
    out.close();
    if (!out || std::rename(part.c_str(), path.c_str()) != 0) std::remove(part.c_str());
  }

 private:
  std::map<TuneKey, int32_t> variants_;
  std::deque<TuneKey> order_;
};

// Held over reading and replacing a file, against other processes; waits for them. A record lock: a child of
// fork does not inherit it. Without a place for it there is no file either.
class FileLock {
 public:
  explicit FileLock(const std::string& path) : file_(open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666)) {
    struct flock whole{};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    while (file_ >= 0 && fcntl(file_, F_SETLKW, &whole) != 0 && errno == EINTR) {
    }
  }
  ~FileLock() {
    if (file_ >= 0) close(file_);
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  const int file_;
};

struct Cache {
  std::mutex mutex;       // of decisions; held for moments only, never over a file
  std::mutex file_mutex;  // record locks do not keep a process's own threads apart
  Decisions decisions;
  std::string header = make_header(), folder = directory(), path = folder + "/" + file_name(header);

  Cache() {
    if (!folder.empty()) decisions.read(path, header);
    // A child of fork must not find them locked.
    pthread_atfork([] { cache().file_mutex.lock(), cache().mutex.lock(); }, unlock, unlock);
  }

  static void unlock() { cache().mutex.unlock(), cache().file_mutex.unlock(); }

  static Cache& cache() {
    static Cache* const made = new Cache;  // never destroyed: calls may still come while the process ends
    return *made;
  }
};

Cache& cache() { return Cache::cache(); }

}  // namespace

cnnext_autotune autotune_mode() {
  return static_cast<cnnext_autotune>(mode().load(std::memory_order_relaxed));
}

void check_autotune_setting() {
  if (mode_of(mode_setting()) >= 0) return;
  fail_value("CNNEXT_AUTOTUNE is \"", mode_setting(), "\"; it must be off, same_bits or any");
}

int32_t find_tuned(const TuneKey& key) {
  Cache& c = cache();
  const std::lock_guard<std::mutex> lock(c.mutex);
  return c.decisions.find(key);
}

void keep_tuned(const TuneKey& key, int32_t variant) {
  Cache& c = cache();
  {
    const std::lock_guard<std::mutex> lock(c.mutex);
    c.decisions.put(key, variant);
  }
  if (c.folder.empty()) return;
  // What others have found since stays.
  const std::lock_guard<std::mutex> alone(c.file_mutex);
  make_directories(c.folder);
  const FileLock lock(c.path + ".lock");
  Decisions all;
  all.read(c.path, c.header);
  all.put(key, variant);
  all.write(c.path, c.header);
}

}  // namespace cnnext

using namespace cnnext;

extern "C" {

cnnext_status cnnext_set_autotune(int32_t value) {
  return guard([&] {
    if (value < CNNEXT_AUTOTUNE_OFF || value > CNNEXT_AUTOTUNE_ANY) {
      fail_value("mode is ", value, "; it must be 0 (off), 1 (same_bits) or 2 (any)");
    }
    mode().store(value);
  });
}
int32_t cnnext_get_autotune(void) { return autotune_mode(); }

}  // extern "C"
