#include "kafka/producer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kafka/error_codes.h"

namespace sabot {
namespace {

static_assert(sizeof(void*) == sizeof(uint64_t), "an opaque is a delivery's id and a row");
constexpr int kRowBits = 32;
constexpr uint64_t kRowMask = 0xFFFFFFFF;

void* Opaque(uint32_t id, int64_t row) {
  return std::bit_cast<void*>((uint64_t{id} << kRowBits) | static_cast<uint64_t>(row));
}

}  // namespace

bool Delivery::Wait(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return settled_.wait_for(lock, timeout, [this] { return outstanding_ == 0; });
}

std::vector<FailedRecord> Delivery::failures() {
  const std::lock_guard lock(mutex_);
  return failures_;
}

std::vector<WrittenRecords> Delivery::written() {
  const std::lock_guard lock(mutex_);
  std::vector<WrittenRecords> all;
  all.reserve(written_.size());
  for (const auto& [place, records] : written_) {
    all.push_back(records);
  }
  return all;
}

void Delivery::NoteWritten(const rd_kafka_message_t& message, const char* topic) {
  const std::lock_guard lock(mutex_);
  const Place place(message.rkt, message.partition);
  if (last_ == nullptr || place != last_place_) {
    last_ = &written_[place];
    last_place_ = place;
    last_->topic = topic;
    last_->partition = message.partition;
  }
  last_->first_offset =
      last_->records == 0 ? message.offset : std::min(last_->first_offset, message.offset);
  last_->last_offset = std::max(last_->last_offset, message.offset);
  ++last_->records;
  last_->bytes += static_cast<int64_t>(message.len + message.key_len);
}

void Delivery::NoteFailed(FailedRecord record) {
  const std::lock_guard lock(mutex_);
  failures_.push_back(std::move(record));
}

void Delivery::Abandon() {
  const int64_t left = outstanding_;
  const std::lock_guard lock(mutex_);
  failures_.push_back({.row = -1,
                       .topic = {},
                       .partition = kAnyPartition,
                       .code = kafka_error::kDestroyed,
                       .reason = "the client was closed; of " + std::to_string(left) +
                                 " records nobody knows whether they were written"});
  outstanding_ = 0;
  settled_.notify_all();
}

bool Delivery::Settle() {
  if (--outstanding_ > 0) {
    return false;
  }
  // So that nobody is between looking and waiting.
  const std::lock_guard lock(mutex_);
  settled_.notify_all();
  return true;
}

Result<std::shared_ptr<Producer>> Producer::Make(const Api& api, const Settings& settings) {
  std::shared_ptr<Producer> producer(new Producer(api));
  producer->is_transactional_ = settings.contains("transactional.id");
  Status status = producer->Start(kRdKafkaProducer, settings, nullptr);
  if (!status.ok()) {
    return status;
  }
  return producer;
}

void Producer::Begin(const std::shared_ptr<Delivery>& delivery) {
  const std::lock_guard lock(mutex_);
  while (deliveries_.contains(next_id_)) {
    ++next_id_;
  }
  delivery->id_ = next_id_++;
  delivery->outstanding_ = 1;
  deliveries_.emplace(delivery->id_, delivery);
}

void Producer::End(Delivery* delivery) { Settle(delivery); }

void Producer::Settle(Delivery* delivery) {
  const uint32_t id = delivery->id_;
  if (delivery->Settle()) {
    const std::lock_guard lock(mutex_);
    deliveries_.erase(id);
  }
}

rd_kafka_topic_t* Producer::Topic(const std::string& name) {
  const auto found = topics_.find(name);
  if (found != topics_.end()) {
    return found->second.get();
  }
  TopicHandle opened(api(), api()->rd_kafka_topic_new(handle(), name.c_str(), nullptr));
  return topics_.emplace(name, std::move(opened)).first->second.get();
}

bool Producer::Send(const OutgoingRecord& record, Delivery* delivery, int64_t row) {
  arguments_.clear();
  const auto add = [this](int vtype) -> rd_kafka_vu_t& {
    rd_kafka_vu_t& argument = arguments_.emplace_back();
    argument.vtype = vtype;
    return argument;
  };
  // Null is another thing than empty.
  const auto address = [](std::string_view bytes) {
    return const_cast<char*>(bytes.data() != nullptr ? bytes.data() : "");
  };
  const auto fail = [&](int code, std::string reason) {
    delivery->NoteFailed({row, record.topic, record.partition, code, std::move(reason), false});
    return true;
  };
  rd_kafka_topic_t* const topic = Topic(record.topic);
  if (topic == nullptr) {
    return fail(kafka_error::kInvalidArgument, "this cannot be the name of a topic");
  }
  add(kVtypeTopic).u.rkt = topic;
  add(kVtypePartition).u.i32 = record.partition;
  add(kVtypeTimestamp).u.i64 = record.timestamp_ms;
  add(kVtypeOpaque).u.ptr = Opaque(delivery->id_, row);
  if (record.value) {
    add(kVtypeValue).u.mem = {address(*record.value), record.value->size()};
  }
  if (record.key) {
    add(kVtypeKey).u.mem = {address(*record.key), record.key->size()};
  }
  for (const OutgoingHeader& header : record.headers) {
    rd_kafka_vu_t& argument = add(kVtypeHeader);
    argument.u.header = {header.name.c_str(), nullptr, 0};
    if (header.value) {
      argument.u.header.val = address(*header.value);
      argument.u.header.size = static_cast<ptrdiff_t>(header.value->size());
    }
  }
  // Before the client has it: its fate may be told before this thread goes on.
  ++delivery->outstanding_;
  const ErrorHandle error(
      api(), api()->rd_kafka_produceva(handle(), arguments_.data(), arguments_.size()));
  if (!error) {
    return true;
  }
  // Not the last one: the batch itself counts.
  --delivery->outstanding_;
  const int code = api()->rd_kafka_error_code(error.get());
  return code != kafka_error::kQueueFull && fail(code, api()->rd_kafka_err2str(code));
}

void Producer::OnDelivery(EventHandle event) {
  std::shared_ptr<Delivery> delivery;
  while (const rd_kafka_message_t* message = api()->rd_kafka_event_message_next(event.get())) {
    const auto opaque = std::bit_cast<uint64_t>(message->priv);
    const auto id = static_cast<uint32_t>(opaque >> kRowBits);
    if (!delivery || delivery->id_ != id) {
      const std::lock_guard lock(mutex_);
      delivery = deliveries_.at(id);
    }
    const char* const topic = api()->rd_kafka_topic_name(message->rkt);
    if (message->err == 0) {
      delivery->NoteWritten(*message, topic);
    } else {
      const char* const reason = api()->rd_kafka_message_produce_errstr(message);
      FailedRecord failed{static_cast<int64_t>(opaque & kRowMask), topic, message->partition,
                          message->err,
                          reason != nullptr ? reason : api()->rd_kafka_err2str(message->err)};
      // What stopped the client for good also purges the records that wait: it is their reason. (In
      // a transaction it is that of the transaction's end.)
      if (const Status fatal = FatalError(); !is_transactional_ && !fatal.ok()) {
        failed.code = fatal.kafka_code();
        failed.reason = fatal.message();
      }
      delivery->NoteFailed(std::move(failed));
    }
    Settle(delivery.get());
  }
  // Until then its records take up room in the client's queue.
  event.reset();
  {
    // So that nobody is between looking and waiting.
    const std::lock_guard lock(mutex_);
    ++told_count_;
  }
  told_.notify_all();
}

void Producer::WaitForRoom(uint64_t seen, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  told_.wait_for(lock, timeout, [this, seen] { return told_count_ != seen; });
}

bool Producer::Flush(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  api()->rd_kafka_flush(handle(), static_cast<int>(timeout.count()));
  // The last reports may still be on their way to `OnDelivery`.
  std::unique_lock lock(mutex_);
  return told_.wait_until(lock, deadline, [this] { return deliveries_.empty(); });
}

TransactionError Producer::ToTransactionError(rd_kafka_error_t* error) {
  if (error == nullptr) {
    return {};
  }
  const ErrorHandle owned(api(), error);
  return {.code = api()->rd_kafka_error_code(error),
          .reason = api()->rd_kafka_error_string(error),
          .is_retriable = api()->rd_kafka_error_is_retriable(error) != 0,
          .requires_abort = api()->rd_kafka_error_txn_requires_abort(error) != 0};
}

TransactionError Producer::InitTransactions(std::chrono::milliseconds timeout) {
  return ToTransactionError(
      api()->rd_kafka_init_transactions(handle(), static_cast<int>(timeout.count())));
}

TransactionError Producer::BeginTransaction() {
  return ToTransactionError(api()->rd_kafka_begin_transaction(handle()));
}

TransactionError Producer::SendOffsets(const std::vector<GroupOffset>& offsets,
                                       const std::string& group_metadata,
                                       std::chrono::milliseconds timeout) {
  rd_kafka_consumer_group_metadata_t* member = nullptr;
  TransactionError unreadable = ToTransactionError(api()->rd_kafka_consumer_group_metadata_read(
      &member, group_metadata.data(), group_metadata.size()));
  if (unreadable.code != 0) {
    return unreadable;
  }
  const GroupMetadataHandle owned(api(), member);
  const PartitionListHandle list(
      api(), api()->rd_kafka_topic_partition_list_new(static_cast<int>(offsets.size())));
  for (const GroupOffset& given : offsets) {
    rd_kafka_topic_partition_t* const added =
        api()->rd_kafka_topic_partition_list_add(list.get(), given.topic.c_str(), given.partition);
    added->offset = given.next_offset;
    // The list frees it. With its end, as confluent-kafka commits it: who reads it there takes it
    // for a text that has one.
    added->metadata = strndup(given.metadata.data(), given.metadata.size());
    added->metadata_size = given.metadata.size() + 1;
    api()->rd_kafka_topic_partition_set_leader_epoch(added, given.leader_epoch);
  }
  return ToTransactionError(api()->rd_kafka_send_offsets_to_transaction(
      handle(), list.get(), member, static_cast<int>(timeout.count())));
}

TransactionError Producer::EndTransaction(bool commit, std::chrono::milliseconds timeout) {
  const auto end = commit ? api()->rd_kafka_commit_transaction : api()->rd_kafka_abort_transaction;
  return ToTransactionError(end(handle(), static_cast<int>(timeout.count())));
}

Status Producer::FatalError() {
  if (handle() == nullptr) {
    // The last reports come while it is freed.
    return Status::Ok();
  }
  std::array<char, 512> text{};
  const int code = api()->rd_kafka_fatal_error(handle(), text.data(), text.size());
  return code == 0 ? Status::Ok() : Status::Kafka(code, text.data());
}

void Producer::Close(std::chrono::milliseconds timeout) {
  if (handle() == nullptr) {
    return;
  }
  api()->rd_kafka_purge(handle(), kPurgeQueued | kPurgeInFlight);
  Flush(timeout);
  topics_.clear();
  Stop();
  for (const auto& [id, delivery] : deliveries_) {
    delivery->Abandon();
  }
  deliveries_.clear();
}

}  // namespace sabot
