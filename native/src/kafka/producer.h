// A connection to the brokers that writes records, and tells what has become of each.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kafka/client.h"
#include "kafka/handles.h"
#include "kafka/librdkafka_api.h"
#include "kafka/value_pool.h"
#include "status.h"

namespace sabot {

struct OutgoingHeader {
  std::string name;
  std::optional<std::string_view> value;
};

// A record to write. The client copies all but the value, which it reads until it has told what has
// become of the record: it belongs to the `Delivery`.
struct OutgoingRecord {
  std::string topic;
  int32_t partition = kAnyPartition;
  std::optional<std::string_view> key;
  std::optional<std::string_view> value;
  int64_t timestamp_ms = 0;  // Zero: now.
  std::vector<OutgoingHeader> headers;
};

// A record that was not written, as far as the client can tell.
struct FailedRecord {
  int64_t row = 0;
  std::string topic;
  int32_t partition = kAnyPartition;
  int code = 0;
  std::string reason;
  // Else the client itself refused it. Brokers refuse all that comes with a bad record.
  bool was_sent = true;
};

// Where records of a batch were written.
struct WrittenRecords {
  std::string topic;
  int32_t partition = 0;
  int64_t records = 0;
  int64_t bytes = 0;          // Of their keys and values.
  int64_t first_offset = -1;  // The lowest; others may have written between it and the last.
  int64_t last_offset = -1;
};

// What a transaction could not do; nothing, where the code is 0.
struct TransactionError {
  int code = 0;
  std::string reason;
  bool is_retriable = false;    // The same call may be made again, and goes on where it stopped.
  bool requires_abort = false;  // The transaction can only be aborted.
};

// The offset up to which a group has read a partition, as a transaction commits it.
struct GroupOffset {
  std::string topic;
  int32_t partition = 0;
  int64_t next_offset = 0;
  std::string metadata;
  int32_t leader_epoch = -1;  // Of the record before; negative: not known.
};

// What becomes of the records of a batch. Thread safe.
class Delivery {
 public:
  // Keeps the values until all is known; then they go back to the pool.
  Delivery(std::string values, std::shared_ptr<ValuePool> pool)
      : values_(std::move(values)), pool_(std::move(pool)) {}
  ~Delivery() { pool_->GiveBack(std::move(values_)); }
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  const std::string& values() const { return values_; }

  // How many records are not accounted for yet; the batch itself counts until all are handed over.
  int64_t outstanding() const { return outstanding_; }
  // Waits until there are none, or the time is over; tells whether that came in time.
  bool Wait(std::chrono::milliseconds timeout);
  // In no order.
  std::vector<FailedRecord> failures();
  std::vector<WrittenRecords> written();

 private:
  friend class Producer;
  using Place = std::pair<const void*, int32_t>;  // A topic's handle and a partition.

  void NoteWritten(const rd_kafka_message_t& message, const char* topic);
  void NoteFailed(FailedRecord record);
  // Nothing more will be told of its records.
  void Abandon();
  // Takes one off; tells whether it was the last.
  bool Settle();

  std::string values_;  // Does not change: clients read it.
  const std::shared_ptr<ValuePool> pool_;
  uint32_t id_ = 0;  // Set before anything is outstanding.
  std::atomic<int64_t> outstanding_{0};
  std::mutex mutex_;  // Guards what follows.
  std::condition_variable settled_;
  std::vector<FailedRecord> failures_;
  std::map<Place, WrittenRecords> written_;
  // Where the last record was written, as the next one mostly is.
  Place last_place_;
  WrittenRecords* last_ = nullptr;
};

class Producer final : public Client {
 public:
  static Result<std::shared_ptr<Producer>> Make(const Api& api, const Settings& settings);
  ~Producer() override { Close(std::chrono::milliseconds(0)); }

  // These three belong to one thread at a time. First `Begin`, then the batch's records, then
  // `End`.
  void Begin(const std::shared_ptr<Delivery>& delivery);
  // Hands a record over; one that the client refuses at once is a failed one of the delivery.
  // False: the client's queue is full, and nothing has happened; see `WaitForRoom`.
  bool Send(const OutgoingRecord& record, Delivery* delivery, int64_t row);
  void End(Delivery* delivery);

  // How often fates of records have been told: to be asked before `Send`.
  uint64_t told_count() const { return told_count_; }
  // Waits until `told_count` differs from `seen`, or the time is over.
  void WaitForRoom(uint64_t seen, std::chrono::milliseconds timeout);
  // Sends what waits for company, and waits until nothing is outstanding, or the time is over;
  // tells whether that came in time.
  bool Flush(std::chrono::milliseconds timeout);

  // Transactions, of a client whose settings have a transactional.id. One thread at a time, in
  // the order of KIP-98: first `InitTransactions`, once. Each waits that long at most; an error
  // that is neither retriable nor requires an abort ends the client.
  TransactionError InitTransactions(std::chrono::milliseconds timeout);
  TransactionError BeginTransaction();
  // `group_metadata` is what rd_kafka_consumer_group_metadata_write gave, of the group's member.
  TransactionError SendOffsets(const std::vector<GroupOffset>& offsets,
                               const std::string& group_metadata,
                               std::chrono::milliseconds timeout);
  // Commits, once all that waits is written, or aborts.
  TransactionError EndTransaction(bool commit, std::chrono::milliseconds timeout);

  // What stopped the client for good; Ok if nothing has.
  Status FatalError();
  // Gives up what is outstanding, waits that long at most to be told so, and frees the client. What
  // nothing was told of by then is one failure of its delivery. No other call may be running, or
  // come after.
  void Close(std::chrono::milliseconds timeout);

 private:
  using Client::Client;

  void OnDelivery(EventHandle event) override;
  TransactionError ToTransactionError(rd_kafka_error_t* error);
  // Null: this cannot be the name of a topic.
  rd_kafka_topic_t* Topic(const std::string& name);
  // Takes one record, or the batch itself, off the delivery, and forgets it after the last.
  void Settle(Delivery* delivery);

  bool is_transactional_ = false;
  std::map<std::string, TopicHandle> topics_;
  std::vector<rd_kafka_vu_t> arguments_;  // Of the record at hand.
  std::mutex mutex_;                      // Guards what follows.
  std::condition_variable told_;
  std::unordered_map<uint32_t, std::shared_ptr<Delivery>> deliveries_;
  uint32_t next_id_ = 0;
  std::atomic<uint64_t> told_count_{0};
};

}  // namespace sabot
