#include "arrow/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

namespace sabot {

Buffer::~Buffer() {
  if (data_ != nullptr) {
    pool_->Release(data_, capacity_);
  }
}

BufferPool::BufferPool(size_t max_idle_bytes) : max_idle_bytes_(max_idle_bytes) {
  // Releasing must not allocate: it cannot fail.
  for (auto& buffers : idle_) {
    buffers.reserve(kMostIdlePerSize);
  }
}

std::shared_ptr<BufferPool> BufferPool::Make(size_t max_idle_bytes) {
  return std::shared_ptr<BufferPool>(new BufferPool(max_idle_bytes));
}

BufferPool::~BufferPool() {
  for (auto& buffers : idle_) {
    for (uint8_t* data : buffers) {
      std::free(data);
    }
  }
}

Buffer BufferPool::Acquire(size_t min_capacity) {
  const size_t capacity = std::bit_ceil(std::max(min_capacity, kAlignment));
  {
    std::lock_guard lock(mutex_);
    auto& buffers = idle_.at(std::countr_zero(capacity));
    if (!buffers.empty()) {
      uint8_t* data = buffers.back();
      buffers.pop_back();
      idle_bytes_ -= capacity;
      return Buffer(data, capacity, shared_from_this());
    }
  }
  auto* data = static_cast<uint8_t*>(std::aligned_alloc(kAlignment, capacity));
  if (data == nullptr) {
    throw std::bad_alloc();
  }
  return Buffer(data, capacity, shared_from_this());
}

void BufferPool::Release(uint8_t* data, size_t capacity) noexcept {
  {
    const std::lock_guard lock(mutex_);
    auto& buffers = idle_[std::countr_zero(capacity)];
    if (buffers.size() < kMostIdlePerSize && idle_bytes_ + capacity <= max_idle_bytes_) {
      buffers.push_back(data);
      idle_bytes_ += capacity;
      return;
    }
  }
  std::free(data);
}

Buffer BufferBuilder::Finish() {
  Buffer finished;
  if (size_ * 2 > buffer_.capacity()) {
    size_hint_ = buffer_.capacity();
    finished = std::move(buffer_);
    buffer_ = Buffer();
  } else if (size_ > 0) {
    finished = pool_->Acquire(size_);
    std::memcpy(finished.data(), buffer_.data(), size_);
  }
  size_ = 0;
  return finished;
}

void BufferBuilder::Grow(size_t extra) {
  constexpr size_t kSmallest = 1024;
  Buffer larger =
      pool_->Acquire(std::max({size_ + extra, buffer_.capacity() * 2, size_hint_, kSmallest}));
  if (size_ > 0) {
    std::memcpy(larger.data(), buffer_.data(), size_);
  }
  buffer_ = std::move(larger);
}

}  // namespace sabot
