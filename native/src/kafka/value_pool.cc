#include "kafka/value_pool.h"

#include <utility>

namespace sabot {

std::string ValuePool::Take() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) {
    return {};
  }
  std::string values = std::move(idle_.back());
  idle_.pop_back();
  idle_bytes_ -= values.capacity();
  return values;
}

void ValuePool::GiveBack(std::string values) noexcept {
  values.clear();
  const std::lock_guard lock(mutex_);
  if (idle_.size() < kMostIdle && idle_bytes_ + values.capacity() <= max_idle_bytes_) {
    idle_bytes_ += values.capacity();
    idle_.push_back(std::move(values));
  }
}

}  // namespace sabot
