#include "partition_pipeline.h"

#include <algorithm>
#include <new>
#include <thread>
#include <unordered_map>
#include <utility>

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

constexpr int32_t kNoLeaderEpoch = -1;

}  // namespace

PartitionPipeline::PartitionPipeline(std::shared_ptr<Consumer> consumer, PartitionOptions options,
                                     std::shared_ptr<DecodeThreads> threads)
    : api_(consumer->api()),
      consumer_(std::move(consumer)),
      options_(std::move(options)),
      position_(options_.start_offset),
      leader_epoch_(options_.leader_epoch),
      threads_(std::move(threads)) {}

Result<std::unique_ptr<PartitionPipeline>> PartitionPipeline::Open(
    std::shared_ptr<Consumer> consumer, PartitionOptions options,
    std::shared_ptr<DecodeThreads> threads) {
  options.max_batch_bytes = std::min(options.max_batch_bytes, kMostBatchBytes);
  std::unique_ptr<PartitionPipeline> pipeline(
      new PartitionPipeline(std::move(consumer), std::move(options), std::move(threads)));
  const PartitionOptions& given = pipeline->options_;
  // Two batches' worth: one with the receiver, one in the making.
  const auto pool = BufferPool::Make(static_cast<size_t>(2 * given.max_batch_bytes));
  const size_t count = pipeline->threads_ ? pipeline->threads_->count() : 1;
  for (size_t i = 0; i < count; ++i) {
    Result<std::unique_ptr<BatchBuilder>> batch = BatchBuilder::Make(
        {given.topic, given.partition, given.columns, given.value_codec, given.key_codec}, pool);
    if (!batch.ok()) {
      return batch.status();
    }
    pipeline->decoders_.push_back(std::make_unique<RecordDecoder>(
        pipeline->api_,
        RecordPolicy{given.skip_tombstones, given.skip_decode_errors, given.report_decode_errors},
        std::move(batch.value())));
  }
  pipeline->messages_.resize(kChunk * count);
  pipeline->parts_.reserve(count);
  pipeline->row_bytes_.reserve(pipeline->threads_ ? pipeline->messages_.size() : 0);
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
  decoder().Clear();
  failure_ = Status::Ok();
  next_failure_ = Status::Ok();
  news_.pending = true;
  position_ = offset;
  leader_epoch_ = kNoLeaderEpoch;
  if (AtEnd()) {
    StopFetching();
    return Status::Ok();
  }
  if (!was_fetching_) {
    return StartFetching(offset, kNoLeaderEpoch);
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
      status = StartFetching(offset, kNoLeaderEpoch);
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
    threads_.reset();
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

void PartitionPipeline::MoveBehind(const rd_kafka_message_t& record) {
  position_.store(record.offset + 1, std::memory_order_relaxed);
  leader_epoch_.store(api_->rd_kafka_message_leader_epoch(&record), std::memory_order_relaxed);
}

void PartitionPipeline::MoveTo(int64_t offset) {
  const int64_t end = options_.end_offset >= 0 ? options_.end_offset : offset;
  const int64_t target = std::min(offset, end);
  if (target > position()) {
    position_.store(target, std::memory_order_relaxed);
    // That of the last record may be older than what lies between, a commit marker for example: the
    // log of that epoch would end before the position, as one that was truncated does.
    leader_epoch_.store(kNoLeaderEpoch, std::memory_order_relaxed);
  }
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
    decoder().Export(out);
    return Status::Ok();
  } catch (const std::bad_alloc&) {
    return Status::OutOfMemory();
  }
}

std::vector<RejectedRecord> PartitionPipeline::TakeRejected() {
  const std::lock_guard lock(polling_);
  return decoder().TakeRejected();
}

Status PartitionPipeline::FillBatch(int64_t max_rows, Clock::time_point deadline) {
  const int64_t start = position();
  const int64_t records = decoder().counted().records;
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
      return decoder().rows() > 0 ? Status::Ok() : status;
    }
    if (IsFull(max_rows) || AtEnd()) {
      return Status::Ok();
    }
    // Dropped records fill no batch: the caller learns in between how far it is.
    if (closed_ || decoder().counted().records - records >= max_rows) {
      return Status::Ok();
    }
    if (Fetch(messages_.size(), std::chrono::milliseconds(0)) > 0) {
      continue;
    }
    const auto now = Clock::now();
    if (decoder().rows() > 0) {
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
  if (decoder().counted().records == decoder().rows()) {
    return false;
  }
  int64_t backlog = KnownBacklog();
  if (options_.end_offset >= 0) {
    backlog = std::min(backlog, options_.end_offset - position());
  }
  return backlog >= kBacklogRecords;
}

int64_t PartitionPipeline::KnownBacklog() const {
  const int64_t end = consumer_->LastKnownHigh(options_.topic, options_.partition);
  return std::max<int64_t>(end - position(), 0);
}

int64_t PartitionPipeline::Backlog() {
  const std::lock_guard lock(polling_);
  return closed_ ? 0 : KnownBacklog();
}

Status PartitionPipeline::TakeRecords(int64_t max_rows) {
  size_t planned = threads_ ? next_ : count_;
  parts_.clear();
  while (next_ < count_ && failure_.ok() && !IsFull(max_rows)) {
    if (next_ >= planned) {
      planned = PlanParts(max_rows);
    }
    Status status;
    if (!parts_.empty()) {
      status = TakeParts();
      parts_.clear();
    } else {
      const rd_kafka_message_t& message = *messages_[next_];
      if (message.err != 0) {
        TakeError(message);
      } else if (options_.end_offset >= 0 && message.offset >= options_.end_offset) {
        MoveTo(options_.end_offset);
      } else if (message.offset >= position()) {
        status = decoder().Take(message);
        if (status.ok()) {
          MoveBehind(message);
        }
      }
      next_ += status.ok() ? 1 : 0;
    }
    if (!status.ok()) {
      return status;
    }
    if (AtEnd()) {
      StopFetching();
    }
  }
  return Status::Ok();
}

size_t PartitionPipeline::PlanParts(int64_t max_rows) {
  const int64_t most_rows = max_rows - decoder().rows();
  const int64_t most_bytes = options_.max_batch_bytes - decoder().batch_bytes();
  size_t end = next_;
  int64_t bytes = 0;
  row_bytes_.clear();
  // As if none were dropped: else there is another turn.
  while (end < count_ && static_cast<int64_t>(end - next_) < most_rows && bytes < most_bytes) {
    const rd_kafka_message_t& message = *messages_[end];
    if (message.err != 0 || message.offset < position() ||
        (options_.end_offset >= 0 && message.offset >= options_.end_offset)) {
      break;
    }
    row_bytes_.push_back(decoder().RowBytes(message));
    bytes += row_bytes_.back();
    ++end;
  }
  const int64_t count =
      std::min(static_cast<int64_t>(decoders_.size()), bytes / options_.least_part_bytes);
  if (count > 1) {
    const int64_t enough_bytes = bytes / count + 1;
    int64_t part_bytes = 0;
    for (size_t begin = next_, at = next_; at < end; ++at) {
      part_bytes += row_bytes_[at - next_];
      if (part_bytes >= enough_bytes || at + 1 == end) {
        parts_.push_back({begin, at + 1, begin, Status::Ok(), false});
        begin = at + 1;
        part_bytes = 0;
      }
    }
  }
  return std::max(end, next_ + 1);
}

Status PartitionPipeline::TakeParts() {
  threads_->Run(parts_.size(), [this](size_t index) {
    Part& part = parts_[index];
    try {
      for (; part.taken_to < part.end; ++part.taken_to) {
        part.status = decoders_[index]->Take(*messages_[part.taken_to]);
        if (!part.status.ok()) {
          return;
        }
      }
    } catch (const std::bad_alloc&) {
      part.is_out_of_memory = true;
    }
  });
  // As if one thread had come so far: behind a record that does not decode nothing is taken.
  size_t absorbed = 1;
  const auto discard_others = [&] {
    for (; absorbed < parts_.size(); ++absorbed) {
      decoders_[absorbed]->Discard();
    }
  };
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    try {
      if (i > 0) {
        decoder().Absorb(decoders_[i].get());
        ++absorbed;
      }
      if (part.taken_to > part.begin) {
        next_ = part.taken_to;
        MoveBehind(*messages_[next_ - 1]);
      }
      if (part.is_out_of_memory) {
        throw std::bad_alloc();
      }
    } catch (const std::bad_alloc&) {
      discard_others();
      throw;
    }
    if (!part.status.ok()) {
      discard_others();
      return part.status;
    }
  }
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

void PartitionPipeline::PublishStats() {
  uint64_t changes = 0;
  for (const auto& part : decoders_) {
    changes += part->batch().unknown_field_changes();
  }
  const std::lock_guard lock(stats_mutex_);
  auto unknown_fields =
      changes != unknown_published_ ? UnknownFieldCounts() : std::move(published_.unknown_fields);
  unknown_published_ = changes;
  published_ = decoder().counted();
  published_.unknown_fields = std::move(unknown_fields);
}

std::vector<std::pair<std::string, uint64_t>> PartitionPipeline::UnknownFieldCounts() const {
  auto counts = decoder().batch().UnknownFieldCounts();
  if (decoders_.size() > 1) {
    std::unordered_map<std::string, size_t> known;
    for (size_t i = 0; i < counts.size(); ++i) {
      known.emplace(counts[i].first, i);
    }
    for (size_t i = 1; i < decoders_.size(); ++i) {
      for (auto& [path, count] : decoders_[i]->batch().UnknownFieldCounts()) {
        const auto [found, is_new] = known.emplace(path, counts.size());
        if (is_new) {
          counts.emplace_back(std::move(path), count);
        } else {
          counts[found->second].second += count;
        }
      }
    }
  }
  return counts;
}

PartitionStats PartitionPipeline::Stats() const {
  const std::lock_guard lock(stats_mutex_);
  return published_;
}

}  // namespace sabot
