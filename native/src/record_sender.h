// The rows of a batch as records: encoded, and handed to a producer.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arrow/c_data.h"
#include "codec/encoder.h"
#include "kafka/producer.h"
#include "kafka/value_pool.h"

namespace sabot {

// What records are made of, a row each. All stay their owner's; null: no such column.
struct RecordColumns {
  const ArrowArray* values = nullptr;      // A struct of the codec's columns.
  const ArrowArray* keys = nullptr;        // binary
  const ArrowArray* headers = nullptr;     // list<struct<string, binary>>
  const ArrowArray* timestamps = nullptr;  // int64, in milliseconds; null: now
  const ArrowArray* partitions = nullptr;  // int32; null: as the partitioner says
  const ArrowArray* topics = nullptr;      // string, none of them null
};

struct RejectedRow {
  int64_t row = 0;
  EncodeFailure failure;
};

// One batch on its way. Belongs to one thread at a time, and the columns outlive it until all is
// handed over.
class RecordSender {
 public:
  // Encodes the values into memory of the pool. A row without any is a record without a value: a
  // tombstone.
  RecordSender(const RecordColumns& columns, std::string topic, Encoder* encoder,
               const std::shared_ptr<ValuePool>& pool);

  // Rows that cannot be encoded; they are not sent.
  const std::vector<RejectedRow>& rejected() const { return rejected_; }
  const std::shared_ptr<Delivery>& delivery() const { return delivery_; }

  // Hands over what has not been yet, as far as there is room within the time; tells whether that
  // is all. Once begun, it is to be called until then, or `Stop` is.
  bool HandOver(Producer* producer, std::chrono::milliseconds timeout);
  // Hands nothing more over.
  void Stop(Producer* producer);
  // How many rows were handed over, rejected ones among them.
  int64_t next_row() const { return next_; }

 private:
  enum class State : uint8_t { kEncoded, kBegun, kEnded };

  bool HasValue(int64_t row) const {
    return is_tombstone_.empty() || !is_tombstone_[static_cast<size_t>(row)];
  }
  void Encode(Encoder* encoder, const std::shared_ptr<ValuePool>& pool);
  void ReadRow(int64_t row, OutgoingRecord* record) const;
  void ReadHeaders(int64_t row, std::vector<OutgoingHeader>* headers) const;

  const RecordColumns columns_;
  const std::string topic_;
  const int64_t rows_;
  std::shared_ptr<Delivery> delivery_;
  std::vector<int64_t> ends_;       // Where each row's value ends among the delivery's.
  std::vector<bool> is_tombstone_;  // Empty: none is.
  std::vector<RejectedRow> rejected_;
  State state_ = State::kEncoded;
  int64_t next_ = 0;
  size_t next_rejected_ = 0;
  OutgoingRecord record_;  // Reused, with its memory.
};

}  // namespace sabot
