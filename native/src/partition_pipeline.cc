#include "partition_pipeline.h"

#include <algorithm>
#include <new>
#include <thread>

#include "kafka/error_codes.h"

namespace sabot {
namespace {

// Offsets into strings are int32: together with the longest record that Kafka carries (10^9 bytes)
// a batch of this size stays below them. So do the topic's names of this many rows.
constexpr int64_t kMostBatchBytes = 1 << 30;
constexpr int64_t kMostBatchRows = 1 << 23;

// While the log holds at least so many more records, a batch that is not full waits so long for
// them: a reader that keeps up with its broker would hand over each fetch by itself, and handing
// over has a price.
constexpr int64_t kBacklogRecords = 1000;
constexpr std::chrono::microseconds kBacklogLinger{50'000};

std::string_view Bytes(const void* data, size_t size) {
  return {static_cast<const char*>(data), size};
}

}  // namespace

PartitionPipeline::PartitionPipeline(std::shared_ptr<Consumer> consumer, PartitionOptions options)
    : api_(consumer->api()),
      consumer_(std::move(consumer)),
      options_(std::move(options)),
      position_(options_.start_offset) {}

Result<std::unique_ptr<PartitionPipeline>> PartitionPipeline::Open(
    std::shared_ptr<Consumer> consumer, PartitionOptions options) {
  options.max_batch_bytes = std::min(options.max_batch_bytes, kMostBatchBytes);
  std::unique_ptr<PartitionPipeline> pipeline(
      new PartitionPipeline(std::move(consumer), std::move(options)));
  const PartitionOptions& given = pipeline->options_;
  Result<std::unique_ptr<BatchBuilder>> batch = BatchBuilder::Make(
      {given.topic, given.partition, given.columns, given.value_codec, given.key_codec},
      // Two batches' worth: one with the receiver, one in the making.
      BufferPool::Make(static_cast<size_t>(2 * given.max_batch_bytes)));
  if (!batch.ok()) {
    return batch.status();
  }
  pipeline->batch_ = std::move(batch.value());
  Result<QueueHandle> queue = pipeline->consumer_->OpenQueue(given.topic, given.partition);
  if (!queue.ok()) {
    return queue.status();
  }
  pipeline->queue_ = std::move(queue.value());
  pipeline->news_.consumer = pipeline->consumer_.get();
  pipeline->consumer_->Watch(pipeline->queue_.get(), &pipeline->news_);
  if (!pipeline->AtEnd()) {
    Status status = pipeline->StartFetching(given.start_offset, given.leader_epoch);
    if (!status.ok()) {
      return status;
    }
  }
  return pipeline;
}

PartitionPipeline::~PartitionPipeline() { Close(); }

Status PartitionPipeline::StartFetching(int64_t offset, int32_t leader_epoch) {
  Status status = consumer_->Assign(options_.topic, options_.partition, offset, leader_epoch);
  fetching_ = status.ok();
  was_fetching_ = true;
  return status;
}

void PartitionPipeline::StopFetching() {
  DropMessages();
  if (fetching_) {
    // It fails only for a partition that is not assigned, and then there is nothing to stop.
    static_cast<void>(consumer_->Unassign(options_.topic, options_.partition).ok());
    fetching_ = false;
  }
}

Status PartitionPipeline::Seek(int64_t offset) {
  const std::lock_guard lock(polling_);
  if (closed_) {
    return Status::Ok();
  }
  DropMessages();
  batch_->Clear();
  batch_bytes_ = 0;
  failure_ = Status::Ok();
  next_failure_ = Status::Ok();
  news_.pending = true;
  position_ = offset;
  if (AtEnd()) {
    StopFetching();
    return Status::Ok();
  }
  if (!was_fetching_) {
    return StartFetching(offset, -1);
  }
  // Only a seek that was carried out makes sure that what the queue holds is outdated. It is
  // refused until fetching has begun, and after an error that ended fetching.
  constexpr auto kPatience = std::chrono::seconds(5);
  constexpr auto kPause = std::chrono::milliseconds(1);
  const auto deadline = Clock::now() + kPatience;
  bool restarted = false;
  for (;;) {
    Status status = fetching_ ? consumer_->Seek(options_.topic, options_.partition, offset)
                              : Status::Kafka(kafka_error::kState, "not fetching");
    if (status.ok() || status.kafka_code() != kafka_error::kState || Clock::now() >= deadline ||
        closed_) {
      return status;
    }
    if (!restarted) {
      restarted = true;
      StopFetching();
      status = StartFetching(offset, -1);
      if (!status.ok()) {
        return status;
      }
    } else {
      std::this_thread::sleep_for(kPause);
    }
  }
}

void PartitionPipeline::Close() {
  // Another thread's Close must not free the queue that this one wakes.
  const std::lock_guard closing(closing_);
  closed_ = true;
  // The flag is looked at before each wait, and a yield ends the wait that follows it.
  constexpr auto kRetry = std::chrono::milliseconds(20);
  do {
    if (queue_) {
      api_->rd_kafka_queue_yield(queue_.get());
    }
  } while (!polling_.try_lock_for(kRetry));
  const std::lock_guard lock(polling_, std::adopt_lock);
  if (consumer_) {
    StopFetching();
    consumer_->Watch(queue_.get(), nullptr);
    consumer_->Wake();
    queue_.reset();
    consumer_.reset();
  }
}

void PartitionPipeline::DropMessages() {
  // All at once: librdkafka's threads allocate from the same heap, and one by one, between records,
  // the two sides would wait for each other far more often.
  for (size_t i = 0; i < count_; ++i) {
    api_->rd_kafka_message_destroy(messages_[i]);
  }
  next_ = count_ = 0;
}

size_t PartitionPipeline::Fetch(size_t count, std::chrono::milliseconds timeout) {
  ClientError error;
  DropMessages();
  // Before it looks: what comes meanwhile is news again.
  news_.pending = false;
  count_ = consumer_->Fetch(queue_.get(), timeout, messages_.data(), count, &error);
  if (count_ > 0) {
    news_.pending = true;
  }
  if (error.code != 0 && !kafka_error::IsTransient(error.code)) {
    next_failure_ = Failure(error.code, error.reason.c_str());
  }
  return count_;
}

void PartitionPipeline::MoveTo(int64_t offset) {
  const int64_t end = options_.end_offset >= 0 ? options_.end_offset : offset;
  position_.store(std::max(position(), std::min(offset, end)), std::memory_order_relaxed);
}

Status PartitionPipeline::Poll(int64_t max_rows, std::chrono::milliseconds timeout,
                               ArrowArray* out) {
  const std::lock_guard lock(polling_);
  try {
    Status status;
    if (!closed_ && !AtEnd()) {
      status = FillBatch(std::clamp<int64_t>(max_rows, 1, kMostBatchRows), Clock::now() + timeout);
      PublishStats();
    }
    if (!status.ok()) {
      return status;
    }
    batch_bytes_ = 0;
    batch_->Export(out);
    return Status::Ok();
  } catch (const std::bad_alloc&) {
    return Status::OutOfMemory();
  }
}

Status PartitionPipeline::FillBatch(int64_t max_rows, Clock::time_point deadline) {
  const int64_t start = position();
  const int64_t records = counted_.records;
  bool lingering = false;
  for (;;) {
    Status status = TakeRecords(max_rows);
    if (status.ok() && next_ == count_ && failure_.ok()) {
      failure_ = std::move(next_failure_);
    }
    if (status.ok()) {
      status = failure_;
    }
    if (!status.ok()) {
      // Rows before it go out first; it comes again in the next call.
      return batch_->rows() > 0 ? Status::Ok() : status;
    }
    if (IsFull(max_rows) || AtEnd()) {
      return Status::Ok();
    }
    // Dropped records fill no batch: the caller learns in between how far it is.
    if (closed_ || counted_.records - records >= max_rows) {
      return Status::Ok();
    }
    if (Fetch(kChunk, std::chrono::milliseconds(0)) > 0) {
      continue;
    }
    const auto now = Clock::now();
    if (batch_->rows() > 0) {
      if (!lingering) {
        lingering = true;
        deadline =
            now + (IsFarBehind() ? std::max(options_.linger, kBacklogLinger) : options_.linger);
      }
    } else if (position() != start) {
      // Nothing but control records and dropped ones: the caller learns at once how far it is.
      return Status::Ok();
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now);
    if (left.count() <= 0 || closed_) {
      return Status::Ok();
    }
    // One record: asked for more, the client would wait for all of them.
    Fetch(1, left);
    if (closed_) {
      // The position is past the rows in the batch: they go out.
      return Status::Ok();
    }
  }
}

bool PartitionPipeline::IsFarBehind() const {
  if (!options_.await_backlog) {
    return false;
  }
  // The first batch goes out at once: somebody waits for it.
  if (counted_.records == batch_->rows()) {
    return false;
  }
  int64_t end = consumer_->LastKnownHigh(options_.topic, options_.partition);
  if (options_.end_offset >= 0) {
    end = std::min(end, options_.end_offset);
  }
  return end - position() >= kBacklogRecords;
}

Status PartitionPipeline::TakeRecords(int64_t max_rows) {
  while (next_ < count_ && failure_.ok() && !IsFull(max_rows)) {
    const rd_kafka_message_t& message = *messages_[next_];
    Status status;
    if (message.err != 0) {
      TakeError(message);
    } else if (options_.end_offset >= 0 && message.offset >= options_.end_offset) {
      MoveTo(options_.end_offset);
    } else if (message.offset >= position()) {
      status = TakeRecord(message);
    }
    if (!status.ok()) {
      return status;
    }
    ++next_;
    if (AtEnd()) {
      StopFetching();
    }
  }
  return Status::Ok();
}

Status PartitionPipeline::TakeRecord(const rd_kafka_message_t& message) {
  Record record;
  record.offset = message.offset;
  int64_t bytes = 0;
  if (message.key != nullptr) {
    record.key = Bytes(message.key, message.key_len);
    bytes += static_cast<int64_t>(message.key_len);
  }
  if (message.payload != nullptr) {
    record.value = Bytes(message.payload, message.len);
    bytes += static_cast<int64_t>(message.len);
  }
  int64_t row_bytes = bytes;
  if (batch_->wants_timestamps()) {
    int type = 0;
    const int64_t timestamp = api_->rd_kafka_message_timestamp(&message, &type);
    // librdkafka counts from 1, its 0 is "not available".
    record.timestamp_type = type - 1;
    if (timestamp >= 0) {
      record.timestamp_ms = timestamp;
    }
  }
  if (batch_->wants_headers()) {
    ReadHeaders(message);
    record.headers = &headers_;
    for (const Header& header : headers_) {
      row_bytes += static_cast<int64_t>(header.key.size());
      row_bytes += static_cast<int64_t>(header.value.value_or("").size());
    }
  }
  const bool is_tombstone = !record.value.has_value();
  if (!is_tombstone || !options_.skip_tombstones) {
    std::optional<DecodeFailure> failure = batch_->Append(record);
    if (!failure.has_value()) {
      batch_bytes_ += row_bytes;
    } else if (options_.skip_decode_errors) {
      ++counted_.decode_errors;
      counted_.last_error_offset = message.offset;
      counted_.last_error = std::move(*failure);
    } else {
      return Status::Decode(message.offset, std::move(*failure));
    }
  }
  ++counted_.records;
  counted_.bytes += bytes;
  counted_.tombstones += is_tombstone ? 1 : 0;
  MoveTo(message.offset + 1);
  return Status::Ok();
}

void PartitionPipeline::TakeError(const rd_kafka_message_t& message) {
  if (message.err == kafka_error::kPartitionEof) {
    // It carries the fetch offset, which is past control records; rd_kafka_position() is not.
    MoveTo(message.offset);
  } else if (!kafka_error::IsTransient(message.err)) {
    failure_ = Failure(message.err, api_->rd_kafka_message_errstr(&message));
  }
}

Status PartitionPipeline::Failure(int code, const char* reason) const {
  return Status::Kafka(code, "topic '" + options_.topic + "' partition " +
                                 std::to_string(options_.partition) + " offset " +
                                 std::to_string(position()) + ": " + reason);
}

void PartitionPipeline::ReadHeaders(const rd_kafka_message_t& message) {
  headers_.clear();
  rd_kafka_headers_t* headers = nullptr;
  if (api_->rd_kafka_message_headers(&message, &headers) != 0) {
    return;
  }
  const char* key = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  for (size_t i = 0; api_->rd_kafka_header_get_all(headers, i, &key, &value, &size) == 0; ++i) {
    Header& header = headers_.emplace_back();
    header.key = key;
    if (value != nullptr) {
      header.value = Bytes(value, size);
    }
  }
}

void PartitionPipeline::PublishStats() {
  const std::lock_guard lock(stats_mutex_);
  const bool has_news = batch_->unknown_field_changes() != unknown_published_;
  unknown_published_ = batch_->unknown_field_changes();
  auto unknown_fields =
      has_news ? batch_->UnknownFieldCounts() : std::move(published_.unknown_fields);
  published_ = counted_;
  published_.unknown_fields = std::move(unknown_fields);
}

PartitionStats PartitionPipeline::Stats() const {
  const std::lock_guard lock(stats_mutex_);
  return published_;
}

}  // namespace sabot
