// One partition from the client's queue to record batches.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "arrow/buffer_pool.h"
#include "arrow/c_data.h"
#include "batch_builder.h"
#include "kafka/consumer.h"
#include "kafka/handles.h"
#include "status.h"

namespace sabot {

struct PartitionOptions {
  std::string topic;
  int32_t partition = 0;
  int64_t start_offset = 0;
  int64_t end_offset = -1;    // Negative: none.
  int32_t leader_epoch = -1;  // Of the start offset; negative: not known.
  std::vector<std::string> columns;
  Codec value_codec;
  Codec key_codec;
  bool skip_tombstones = false;
  bool skip_decode_errors = false;
  int64_t max_batch_bytes = 16 << 20;
  std::chrono::microseconds linger{0};
  // Whether a batch that is not full waits a little for the records that are on their way, far
  // behind the log's end. Not where the thread has other partitions to serve.
  bool await_backlog = true;
};

struct PartitionStats {
  int64_t records = 0;
  int64_t bytes = 0;
  int64_t tombstones = 0;
  int64_t decode_errors = 0;
  int64_t last_error_offset = -1;
  DecodeFailure last_error;
  std::vector<std::pair<std::string, uint64_t>> unknown_fields;
};

// Reads [start_offset, end_offset) in offset order, decoding as it goes.
//
// `Poll` and `Seek` belong to one thread at a time; `Close`, `Stats` and `position` may be called
// from any. The pipeline owns its queue and what it took from it, and shares the consumer.
class PartitionPipeline {
 public:
  // Begins to fetch.
  static Result<std::unique_ptr<PartitionPipeline>> Open(std::shared_ptr<Consumer> consumer,
                                                         PartitionOptions options);
  ~PartitionPipeline();
  PartitionPipeline(const PartitionPipeline&) = delete;
  PartitionPipeline& operator=(const PartitionPipeline&) = delete;

  // Fills `out`, which the receiver releases, with the next rows; zero rows if none came in time.
  Status Poll(int64_t max_rows, std::chrono::milliseconds timeout, ArrowArray* out);

  // Next offset to fetch: behind the last row, past control records and gaps, never past the end.
  int64_t position() const { return position_.load(std::memory_order_relaxed); }
  // Whether `Poll` may have something at once: never false when it has. Belongs to the polling
  // thread.
  bool has_news() const {
    return next_ < count_ || !failure_.ok() || !next_failure_.ok() || news_.pending;
  }
  // Nothing more comes: the end is reached, or the pipeline closed.
  bool done() const { return closed_ || AtEnd(); }
  Status Seek(int64_t offset);
  PartitionStats Stats() const;
  // Ends a running `Poll`, which returns the rows that it has, and stops fetching. Idempotent.
  void Close();

 private:
  using Clock = std::chrono::steady_clock;

  // Small, so that the records of a chunk are still in the processor's cache when they are decoded.
  static constexpr size_t kChunk = 1000;

  PartitionPipeline(std::shared_ptr<Consumer> consumer, PartitionOptions options);

  bool AtEnd() const { return options_.end_offset >= 0 && position() >= options_.end_offset; }
  Status StartFetching(int64_t offset, int32_t leader_epoch);
  void StopFetching();
  // Takes up to `count` records from the queue; zero if none came in time.
  size_t Fetch(size_t count, std::chrono::milliseconds timeout);
  bool IsFull(int64_t max_rows) const {
    return batch_->rows() >= max_rows || batch_bytes_ >= options_.max_batch_bytes;
  }
  // Whether the log is known to hold so much more that the next records are on their way.
  bool IsFarBehind() const;
  Status FillBatch(int64_t max_rows, Clock::time_point deadline);
  // Moves records at hand into the batch until there is none, the batch is full, or one fails; that
  // one stays at hand.
  Status TakeRecords(int64_t max_rows);
  Status TakeRecord(const rd_kafka_message_t& message);
  // For what comes in place of a record.
  void TakeError(const rd_kafka_message_t& message);
  Status Failure(int code, const char* reason) const;
  void ReadHeaders(const rd_kafka_message_t& message);
  void MoveTo(int64_t offset);
  void DropMessages();
  void PublishStats();

  const Api api_;
  std::shared_ptr<Consumer> consumer_;  // Until closed.
  const PartitionOptions options_;
  QueueNews news_;
  QueueHandle queue_;
  std::unique_ptr<BatchBuilder> batch_;

  std::atomic<int64_t> position_;
  std::atomic<bool> closed_{false};
  std::mutex closing_;        // Held by Close, before polling_.
  std::timed_mutex polling_;  // Held by Poll, Seek and, at last, Close. Guards what follows.
  bool fetching_ = false;
  bool was_fetching_ = false;  // Since opening: the queue may hold outdated records.
  Status failure_;             // Of the client; ends reading until `Seek`.
  Status next_failure_;        // The same, to come behind the records at hand.
  int64_t batch_bytes_ = 0;
  std::vector<Header> headers_;
  // Records taken from the queue: [next_, count_) are not in a batch yet. Owned.
  std::array<rd_kafka_message_t*, kChunk> messages_;
  size_t next_ = 0;
  size_t count_ = 0;
  PartitionStats counted_;  // But for unknown fields, which the decoder counts.
  uint64_t unknown_published_ = 0;

  mutable std::mutex stats_mutex_;
  PartitionStats published_;  // Guarded by stats_mutex_.
};

}  // namespace sabot
