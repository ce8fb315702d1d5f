// 64-byte-aligned memory that goes out with a batch and comes back when the batch is freed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace sabot {

class BufferPool;

// Memory owned by whoever holds the object; goes back to its pool on destruction.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
    std::swap(pool_, other.pool_);
    return *this;
  }
  ~Buffer();

  uint8_t* data() const { return data_; }
  size_t capacity() const { return capacity_; }

 private:
  friend class BufferPool;
  Buffer(uint8_t* data, size_t capacity, std::shared_ptr<BufferPool> pool)
      : data_(data), capacity_(capacity), pool_(std::move(pool)) {}

  uint8_t* data_ = nullptr;
  size_t capacity_ = 0;
  std::shared_ptr<BufferPool> pool_;
};

// Keeps freed buffers by size, because fresh pages cost more than the decoding that fills them.
// Thread safe: a batch may be freed on any thread, also after its source was closed.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  static constexpr size_t kAlignment = 64;

  // Keeps at most `max_idle_bytes` of buffers that nobody uses.
  static std::shared_ptr<BufferPool> Make(size_t max_idle_bytes);
  ~BufferPool();

  // Throws std::bad_alloc; the entry points of the core turn it into a Status.
  Buffer Acquire(size_t min_capacity);

 private:
  friend class Buffer;
  static constexpr int kSizeClasses = 48;
  // So many of a size are kept at most; the room for it is taken when the pool is made.
  static constexpr size_t kMostIdlePerSize = 64;

  explicit BufferPool(size_t max_idle_bytes);
  void Release(uint8_t* data, size_t capacity) noexcept;

  const size_t max_idle_bytes_;
  std::mutex mutex_;
  size_t idle_bytes_ = 0;
  std::array<std::vector<uint8_t*>, kSizeClasses> idle_;  // By log2 of the capacity.
};

// Appends into a pooled buffer. One thread at a time.
class BufferBuilder {
 public:
  explicit BufferBuilder(std::shared_ptr<BufferPool> pool) : pool_(std::move(pool)) {}

  size_t size() const { return size_; }
  uint8_t* data() { return buffer_.data(); }
  const uint8_t* data() const { return buffer_.data(); }

  // Makes room for `extra` more bytes and returns where they go.
  uint8_t* Reserve(size_t extra) {
    if (size_ + extra > buffer_.capacity()) [[unlikely]] {
      Grow(extra);
    }
    return buffer_.data() + size_;
  }
  void Advance(size_t bytes) { size_ += bytes; }
  void Append(const uint8_t* bytes, size_t size) {
    if (size > 0) {
      std::memcpy(Reserve(size), bytes, size);
      Advance(size);
    }
  }
  void Truncate(size_t size) { size_ = size; }

  // Gives away what was appended and begins anew. A buffer that is mostly empty is not given away:
  // its contents move to one that fits, so that a batch of few rows does not pin the memory of
  // many.
  Buffer Finish();

 private:
  void Grow(size_t extra);

  std::shared_ptr<BufferPool> pool_;
  Buffer buffer_;
  size_t size_ = 0;
  size_t size_hint_ = 0;
};

}  // namespace sabot
