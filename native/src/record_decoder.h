// A client's records to the rows of a batch, and what is counted on the way.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arrow/c_data.h"
#include "batch_builder.h"
#include "kafka/librdkafka_api.h"
#include "status.h"

namespace sabot {

struct PartitionStats {
  int64_t records = 0;
  int64_t bytes = 0;
  int64_t tombstones = 0;
  int64_t decode_errors = 0;
  int64_t last_error_offset = -1;
  DecodeFailure last_error;
  std::vector<std::pair<std::string, uint64_t>> unknown_fields;
};

struct RecordPolicy {
  bool skip_tombstones = false;
  bool skip_decode_errors = false;
  bool report_decode_errors = false;  // Those that are skipped: see `TakeRejected`.
};

// A record that was dropped because it does not decode.
struct RejectedRecord {
  int64_t offset = -1;
  DecodeFailure failure;
};

// Belongs to one thread at a time; several may decode parts of the same records.
class RecordDecoder {
 public:
  RecordDecoder(Api api, RecordPolicy policy, std::unique_ptr<BatchBuilder> batch)
      : api_(std::move(api)), policy_(policy), batch_(std::move(batch)) {}

  int64_t rows() const { return batch_->rows(); }
  // Of the rows' keys, values and headers, as far as these become columns.
  int64_t batch_bytes() const { return batch_bytes_; }
  // Since the beginning, but for unknown fields, which are counted apart.
  const PartitionStats& counted() const { return counted_; }
  const BatchBuilder& batch() const { return *batch_; }

  // What the record would add to `batch_bytes`.
  int64_t RowBytes(const rd_kafka_message_t& message);
  // Appends the record's row, or drops it where the policy says so. Not ok: it does not decode, and
  // nothing has changed.
  Status Take(const rd_kafka_message_t& message);
  // Takes over all that `later` has decoded since its last `Absorb` or `Discard`; it begins anew.
  // Nothing has changed if it throws std::bad_alloc.
  void Absorb(RecordDecoder* later);
  // Forgets the same.
  void Discard();
  // Moves the rows into `out`, which the receiver releases.
  void Export(ArrowArray* out);
  // Returns what was dropped since the last call, in offset order, where the policy reports it.
  std::vector<RejectedRecord> TakeRejected() { return std::exchange(rejected_, {}); }
  // Drops the rows and what was rejected, which stay counted.
  void Clear();

 private:
  // Fills `headers_`; returns their bytes.
  int64_t ReadHeaders(const rd_kafka_message_t& message);

  const Api api_;
  const RecordPolicy policy_;
  const std::unique_ptr<BatchBuilder> batch_;
  int64_t batch_bytes_ = 0;
  PartitionStats counted_;
  std::vector<RejectedRecord> rejected_;
  std::vector<Header> headers_;
};

}  // namespace sabot
