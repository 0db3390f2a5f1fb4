// The float32 tensors of a safetensors file: 8 bytes with the length of a JSON header, the header, the data.
// What does not hold together is refused: nothing outside the file's bytes is ever read.
#pragma once

#include <cnnext/cnnext.hpp>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

class SafeTensors {
 public:
  /// Reads the whole file. std::runtime_error where there is none, or it is no whole safetensors file.
  explicit SafeTensors(const std::string& path) : path_(path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) fail("it cannot be read");
    file_.assign(std::istreambuf_iterator<char>(file), {});
    if (file_.size() < 8) fail("it has no header");
    uint64_t length = 0;
    for (size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file_[i]);
    if (length > file_.size() - 8) fail("its header is cut off");
    at_ = 8;
    end_ = 8 + static_cast<size_t>(length);
    read_header();
    for (const auto& [name, entry] : entries_) {
      if (entry.begin > entry.end || entry.end > file_.size() - end_) fail(name + " lies outside of it");
    }
  }

  /// A view of the tensor of that name; this object has to outlive it.
  cnnext::Tensor operator[](const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) fail("it holds no tensor '" + name + "'");
    const Entry& entry = found->second;
    uint64_t bytes = 4;
    for (const uint64_t size : entry.shape) {
      if (size != 0 && bytes > UINT64_MAX / size) fail(name + " is too large");
      bytes *= size;
    }
    if (entry.dtype != "F32") fail(name + " has dtype " + entry.dtype + ", not F32");
    if (bytes != entry.end - entry.begin) fail(name + "'s shape and size do not fit");
    const char* data = file_.data() + end_ + entry.begin;
    if (reinterpret_cast<uintptr_t>(data) % alignof(float)) fail(name + " is not aligned");
    return cnnext::Tensor::view(reinterpret_cast<const float*>(data),
                                {entry.shape.begin(), entry.shape.end()});
  }

 private:
  struct Entry {
    std::string dtype;
    std::vector<uint64_t> shape;
    uint64_t begin = 1, end = 0;
  };

  [[noreturn]] void fail(const std::string& why) const { throw std::runtime_error(path_ + ": " + why); }

  // ---- the JSON of the header: objects of strings, and of dtype, shape and data_offsets ----

  char peek() {
    while (at_ < end_ &&
           (file_[at_] == ' ' || file_[at_] == '\n' || file_[at_] == '\t' || file_[at_] == '\r'))
      ++at_;
    return at_ < end_ ? file_[at_] : '\0';
  }
  bool accept(char wanted) { return peek() == wanted && wanted && ++at_; }
  void expect(char wanted) {
    if (!accept(wanted)) fail(std::string("its header lacks a '") + wanted + "'");
  }

  // Escapes stay as they are written: no name that is asked for has one.
  std::string string() {
    expect('"');
    const size_t first = at_;
    while (at_ < end_ && file_[at_] != '"') at_ += file_[at_] == '\\' ? 2 : 1;
    if (at_ >= end_) fail("its header is cut off");
    return {file_.data() + first, at_++ - first};
  }

  uint64_t number() {
    peek();
    const size_t first = at_;
    uint64_t value = 0;
    for (; at_ < end_ && file_[at_] >= '0' && file_[at_] <= '9'; ++at_) {
      if (value > (UINT64_MAX - 9) / 10) fail("a number of its header is too large");
      value = 10 * value + static_cast<uint64_t>(file_[at_] - '0');
    }
    if (at_ == first) fail("its header lacks a number");
    return value;
  }

  std::vector<uint64_t> numbers() {
    std::vector<uint64_t> values;
    expect('[');
    if (accept(']')) return values;
    do values.push_back(number());
    while (accept(','));
    expect(']');
    return values;
  }

  template <class Member>
  void object(Member&& member) {
    expect('{');
    if (accept('}')) return;
    do {
      const std::string key = string();
      expect(':');
      member(key);
    } while (accept(','));
    expect('}');
  }

  void read_header() {
    object([&](const std::string& name) {
      if (name == "__metadata__") return object([&](const std::string&) { string(); });
      if (entries_.count(name)) fail(name + " stands in it twice");
      Entry& entry = entries_[name];
      object([&](const std::string& key) {
        if (key == "dtype") {
          entry.dtype = string();
        } else if (key == "shape") {
          entry.shape = numbers();
        } else if (key == "data_offsets") {
          const std::vector<uint64_t> offsets = numbers();
          if (offsets.size() != 2) fail(name + " needs two offsets");
          entry.begin = offsets[0];
          entry.end = offsets[1];
        } else {
          fail("its header has the unknown key '" + key + "'");
        }
      });
    });
    if (peek()) fail("its header does not end where it should");
  }

  std::string path_;
  std::vector<char> file_;
  size_t at_ = 0, end_ = 0;
  std::map<std::string, Entry> entries_;
};
