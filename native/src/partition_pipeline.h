// One partition from the client's queue to record batches.
#pragma once

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
#include "decode_threads.h"
#include "kafka/consumer.h"
#include "kafka/handles.h"
#include "record_decoder.h"
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
  bool report_decode_errors = false;
  int64_t max_batch_bytes = 16 << 20;
  std::chrono::microseconds linger{0};
  // Whether a batch that is not full waits a little for the records that are on their way, far
  // behind the log's end. Not where the thread has other partitions to serve.
  bool await_backlog = true;
  // Fewer bytes of records are not worth another thread: a core decodes them in about the time in
  // which one wakes.
  int64_t least_part_bytes = 16 << 10;
};

// Reads [start_offset, end_offset) in offset order, decoding as it goes.
//
// `Poll`, `TakeRejected` and `Seek` belong to one thread at a time; `Close`, `Stats`, `position`
// and `leader_epoch` may be called from any. The pipeline owns its queue and what it took from it,
// and shares the consumer.
class PartitionPipeline {
 public:
  // Begins to fetch. Without `threads` the polling thread decodes alone.
  static Result<std::unique_ptr<PartitionPipeline>> Open(
      std::shared_ptr<Consumer> consumer, PartitionOptions options,
      std::shared_ptr<DecodeThreads> threads = nullptr);
  ~PartitionPipeline();
  PartitionPipeline(const PartitionPipeline&) = delete;
  PartitionPipeline& operator=(const PartitionPipeline&) = delete;

  // Fills `out`, which the receiver releases, with the next rows; zero rows if none came in time.
  Status Poll(int64_t max_rows, std::chrono::milliseconds timeout, ArrowArray* out);

  // Returns the records that polls have dropped since the last call because they do not decode, in
  // offset order: where the options say that these are skipped and reported.
  std::vector<RejectedRecord> TakeRejected();

  // Next offset to fetch: behind the last row, past control records and gaps, never past the end.
  int64_t position() const { return position_.load(std::memory_order_relaxed); }
  // Leader epoch of the record before the position, so that whoever reads on from there learns that
  // the log was truncated; negative: not known, as behind what is no record.
  int32_t leader_epoch() const { return leader_epoch_.load(std::memory_order_relaxed); }
  // Whether `Poll` may have something at once: never false when it has. Belongs to the polling
  // thread.
  bool has_news() const {
    return next_ < count_ || !failure_.ok() || !next_failure_.ok() || news_.pending;
  }
  // How many offsets lie ahead, as far as fetches have told: up to the log's end. Zero once closed.
  int64_t Backlog();
  // Nothing more comes: the end is reached, or the pipeline closed.
  bool done() const { return closed_ || AtEnd(); }
  Status Seek(int64_t offset);
  PartitionStats Stats() const;
  // Ends a running `Poll`, which returns the rows that it has, and stops fetching. Idempotent.
  void Close();

 private:
  using Clock = std::chrono::steady_clock;

  // Small, so that the records of a chunk are still in the processor's cache when they are decoded.
  // For each decoding thread.
  static constexpr size_t kChunk = 1000;

  // Contiguous records at hand that one thread decodes.
  struct Part {
    size_t begin = 0;
    size_t end = 0;
    size_t taken_to = 0;  // Behind the last one that was taken.
    Status status;        // Of the one at taken_to, if there are more.
    bool is_out_of_memory = false;
  };

  PartitionPipeline(std::shared_ptr<Consumer> consumer, PartitionOptions options,
                    std::shared_ptr<DecodeThreads> threads);

  bool AtEnd() const { return options_.end_offset >= 0 && position() >= options_.end_offset; }
  Status StartFetching(int64_t offset, int32_t leader_epoch);
  void StopFetching();
  // Takes up to `count` records from the queue; zero if none came in time.
  size_t Fetch(size_t count, std::chrono::milliseconds timeout);
  // What builds the batch.
  RecordDecoder& decoder() { return *decoders_.front(); }
  const RecordDecoder& decoder() const { return *decoders_.front(); }
  bool IsFull(int64_t max_rows) const {
    return decoder().rows() >= max_rows || decoder().batch_bytes() >= options_.max_batch_bytes;
  }
  // What `Backlog` tells, while not closed.
  int64_t KnownBacklog() const;
  // Whether the log is known to hold so much more that the next records are on their way.
  bool IsFarBehind() const;
  Status FillBatch(int64_t max_rows, Clock::time_point deadline);
  // Moves records at hand into the batch until there is none, the batch is full, or one fails; that
  // one stays at hand.
  Status TakeRecords(int64_t max_rows);
  // Splits the records at hand, up to where the batch could be full or something else than a record
  // stands, into parts for the threads; none if there is not enough. Returns that place.
  size_t PlanParts(int64_t max_rows);
  // Takes the records of the parts: each thread decodes one, and their rows follow each other.
  Status TakeParts();
  // For what comes in place of a record.
  void TakeError(const rd_kafka_message_t& message);
  Status Failure(int code, const char* reason) const;
  // Behind a record.
  void MoveBehind(const rd_kafka_message_t& record);
  // To where no record is known to end.
  void MoveTo(int64_t offset);
  void DropMessages();
  void PublishStats();
  // Of all decoders.
  std::vector<std::pair<std::string, uint64_t>> UnknownFieldCounts() const;

  const Api api_;
  std::shared_ptr<Consumer> consumer_;  // Until closed.
  const PartitionOptions options_;
  QueueNews news_;
  QueueHandle queue_;
  // One for each part that may be decoded at a time. All but the first are empty in between.
  std::vector<std::unique_ptr<RecordDecoder>> decoders_;

  std::atomic<int64_t> position_;
  std::atomic<int32_t> leader_epoch_;
  std::atomic<bool> closed_{false};
  std::mutex closing_;        // Held by Close, before polling_.
  std::timed_mutex polling_;  // Held by Poll, Seek and, at last, Close. Guards what follows.
  bool fetching_ = false;
  bool was_fetching_ = false;  // Since opening: the queue may hold outdated records.
  Status failure_;             // Of the client; ends reading until `Seek`.
  Status next_failure_;        // The same, to come behind the records at hand.
  // Records taken from the queue: [next_, count_) are not in a batch yet. Owned.
  std::vector<rd_kafka_message_t*> messages_;
  size_t next_ = 0;
  size_t count_ = 0;
  std::shared_ptr<DecodeThreads> threads_;  // Until closed.
  std::vector<Part> parts_;
  std::vector<int64_t> row_bytes_;  // Of the records that are being divided into parts.
  uint64_t unknown_published_ = 0;

  mutable std::mutex stats_mutex_;
  PartitionStats published_;  // Guarded by stats_mutex_.
};

}  // namespace sabot
