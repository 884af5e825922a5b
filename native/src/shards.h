// Work in parts on XLA's thread pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace jaxdl {

// The range of part `i` of `parts` of `size` items, where all parts but the last have equal sizes,
// multiples of `step`. Two sizes of parts need two primitives at most.
struct Range {
  int64_t first, size;
};

inline int64_t part_size(int64_t size, int64_t parts, int64_t step) {
  int64_t each = (size + parts - 1) / parts;
  return (each + step - 1) / step * step;
}

inline Range part(int64_t size, int64_t each, int64_t i) {
  return {i * each, std::min(each, size - i * each)};
}

// Runs part(0), ..., part(count - 1) on the calling thread and on threads of the pool.
//
// The caller takes parts like every other thread, and waits for parts only that a thread has begun.
// If it waited for parts that nobody has begun, the threads of a pool could all wait for each other.
template <typename Part>
void run_parts(xla::ffi::ThreadPool& pool, int64_t count, Part run) {
  if (count <= 1) {
    if (count == 1) run(int64_t{0});
    return;
  }
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    Part run;
    explicit State(Part r) : run(std::move(r)) {}
  };
  // A thread of the pool may begin after the caller has left; then it only reads `next`.
  auto state = std::make_shared<State>(std::move(run));
  auto take = [state, count] {
    for (int64_t i; (i = state->next.fetch_add(1)) < count;) {
      state->run(i);
      state->done.fetch_add(1, std::memory_order_release);
    }
  };
  for (int64_t i = 1; i < count; ++i) pool.Schedule([take] { take(); });
  take();
  for (int spins = 0; state->done.load(std::memory_order_acquire) < count; ++spins) {
    if (spins < 2000) {
      __builtin_ia32_pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace jaxdl
