// Threads that decode parts of the records at hand beside the one that polls.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "status.h"

namespace sabot {

// Thread safe. The sources of a client share one: a reader polls one of its partitions at a time.
class DecodeThreads {
 public:
  // `count` counts the polling thread, too.
  static Result<std::shared_ptr<DecodeThreads>> Start(size_t count);
  ~DecodeThreads();
  DecodeThreads(const DecodeThreads&) = delete;
  DecodeThreads& operator=(const DecodeThreads&) = delete;

  size_t count() const { return threads_.size() + 1; }
  // Calls `work`, which must not throw, with 0, 1, ... `parts` - 1, and returns when all have
  // returned. Whoever is awake takes the next part, the caller too: a thread that is late, because
  // others want its core, keeps nobody waiting. While another caller has the threads, this one does
  // its parts alone.
  void Run(size_t parts, const std::function<void(size_t)>& work);

 private:
  DecodeThreads() = default;
  void Serve();
  // Does parts as long as there are some that nobody has begun.
  void TakeParts(std::unique_lock<std::mutex>* lock);

  std::mutex running_;  // Held by whoever has the threads.
  std::mutex mutex_;    // Guards what follows.
  std::condition_variable has_work_;
  std::condition_variable is_done_;
  const std::function<void(size_t)>* work_ = nullptr;
  size_t next_part_ = 0;
  size_t parts_ = 0;
  size_t unfinished_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sabot
