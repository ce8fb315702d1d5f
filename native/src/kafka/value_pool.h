// Memory for the values of batches, which comes back when they are written.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace sabot {

// Keeps strings that held the values of a batch for the next one, because fresh pages cost as much
// as the encoding that fills them. Thread safe: the fate of records is told on another thread, also
// after their sink was closed. Not a BufferPool: its powers of two would hold up to twice the
// values.
class ValuePool {
 public:
  // Keeps at most `max_idle_bytes` that nobody uses.
  explicit ValuePool(size_t max_idle_bytes) : max_idle_bytes_(max_idle_bytes) {
    // Giving back must not allocate: it cannot fail.
    idle_.reserve(kMostIdle);
  }

  // Returns an empty string, with whatever room it has from before.
  std::string Take();
  void GiveBack(std::string values) noexcept;

 private:
  static constexpr size_t kMostIdle = 64;

  const size_t max_idle_bytes_;
  std::mutex mutex_;  // Guards what follows.
  size_t idle_bytes_ = 0;
  std::vector<std::string> idle_;
};

}  // namespace sabot
