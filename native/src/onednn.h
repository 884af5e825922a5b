// oneDNN on one thread per call: engine, stream, scratch memory and a bounded cache of primitives.
#pragma once

#include <omp.h>

#include <cstdint>
#include <cstdlib>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

namespace jaxdl {

inline dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// The stream of this thread. oneDNN runs on the calling thread alone: OpenMP's threads would fight
// those of XLA's pool. The setting is one of the calling thread.
inline dnnl::stream& stream() {
  static thread_local dnnl::stream own = [] {
    omp_set_num_threads(1);
    return dnnl::stream(engine());
  }();
  return own;
}

// Memory of this thread that grows and is used again, aligned to a cache line.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  void* at_least(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = (bytes + 4095) / 4096 * 4096;
      data_ = std::aligned_alloc(4096, size_);
      if (data_ == nullptr) {
        size_ = 0;
        throw std::bad_alloc();
      }
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Least recently used values by key, at most `capacity`, for many threads.
template <typename Value>
class Cache {
 public:
  explicit Cache(size_t capacity) : capacity_(capacity) {}

  template <typename Make>
  std::shared_ptr<const Value> get(const std::string& key, Make make) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      auto entry = entries_.find(key);
      if (entry != entries_.end()) {
        order_.splice(order_.begin(), order_, entry->second.second);
        return entry->second.first;
      }
    }
    // Two threads may make the same value; making it under the lock would block all others.
    std::shared_ptr<const Value> value = std::make_shared<const Value>(make());
    std::lock_guard<std::mutex> lock(mutex_);
    auto entry = entries_.find(key);
    if (entry != entries_.end()) return entry->second.first;
    order_.push_front(key);
    entries_.emplace(key, std::make_pair(value, order_.begin()));
    if (entries_.size() > capacity_) {
      entries_.erase(order_.back());
      order_.pop_back();
    }
    return value;
  }

 private:
  using Order = std::list<std::string>;
  size_t capacity_;
  std::mutex mutex_;
  Order order_;
  std::unordered_map<std::string, std::pair<std::shared_ptr<const Value>, Order::iterator>>
      entries_;
};

inline void add_to_key(std::string& key, int64_t value) {
  key.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename Values>
void add_all_to_key(std::string& key, const Values& values) {
  add_to_key(key, static_cast<int64_t>(values.size()));
  for (int64_t value : values) add_to_key(key, value);
}

inline xla::ffi::Error invalid(const std::string& message) {
  return xla::ffi::Error::InvalidArgument("jaxdl_cpu: " + message);
}

// Runs a handler's body; an exception becomes an error of XLA.
template <typename Body>
xla::ffi::Error guard(Body body) {
  try {
    stream();
    return body();
  } catch (const dnnl::error& error) {
    return xla::ffi::Error::Internal(std::string("jaxdl_cpu: oneDNN: ") + error.what());
  } catch (const std::exception& error) {
    return xla::ffi::Error::Internal(std::string("jaxdl_cpu: ") + error.what());
  }
}

}  // namespace jaxdl
