// Records to record batches: value columns and metadata columns, side by side.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrow/c_data.h"
#include "arrow/column_builder.h"
#include "arrow/field.h"
#include "codec/codec.h"
#include "status.h"

namespace sabot {

struct Header {
  std::string_view key;
  std::optional<std::string_view> value;
};

// One record of a partition; borrows everything from whoever fetched it.
struct Record {
  int64_t offset = 0;
  std::optional<std::string_view> key;
  std::optional<std::string_view> value;  // None: a tombstone.
  std::optional<int64_t> timestamp_ms;
  int32_t timestamp_type = -1;  // Kafka's numbers: -1 none, 0 create time, 1 log append time.
  const std::vector<Header>* headers = nullptr;  // Only looked at if `wants_headers()`.
};

struct BatchOptions {
  std::string topic;
  int32_t partition = -1;
  std::vector<std::string> columns;  // Value and metadata columns, in order.
  Codec value_codec;
  Codec key_codec;
};

// Belongs to one thread at a time.
class BatchBuilder {
 public:
  static Result<std::unique_ptr<BatchBuilder>> Make(BatchOptions options,
                                                    const std::shared_ptr<BufferPool>& pool);

  bool wants_timestamps() const { return wants_timestamps_; }
  bool wants_headers() const { return wants_headers_; }
  int64_t rows() const { return rows_; }
  // See Decoder; of values and keys.
  std::vector<std::pair<std::string, uint64_t>> UnknownFieldCounts() const;
  uint64_t unknown_field_changes() const;
  void KeepCounts();
  void DropCounts();

  // Appends one row, or none if the value does not decode, or else the key does not.
  std::optional<DecodeFailure> Append(const Record& record);
  // Appends a copy of all rows of `other`, which was made with the same options; or none, and
  // throws std::bad_alloc.
  void AppendAll(const BatchBuilder& other);
  // Moves the rows into `out`, which the receiver releases, and begins anew.
  void Export(ArrowArray* out);
  // Drops the rows.
  void Clear() { Truncate(0); }

 private:
  // A column about the record itself; the numbers are indices into kMetadataNames.
  enum class Metadata : uint8_t {
    kKey,
    kTopic,
    kPartition,
    kOffset,
    kTimestamp,
    kTimestampType,
    kHeaders
  };

  BatchBuilder() = default;
  std::optional<DecodeFailure> AppendKey(const Record& record);
  void AppendMetadata(Metadata metadata, ColumnBuilder* builder, const Record& record) const;
  void Truncate(int64_t rows);

  BatchOptions options_;
  std::vector<std::unique_ptr<ColumnBuilder>> columns_;
  std::vector<ColumnBuilder*> value_columns_;
  std::vector<std::pair<Metadata, ColumnBuilder*>> metadata_columns_;
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Decoder> key_decoder_;  // Null where keys are taken as they are.
  ColumnBuilder* key_column_ = nullptr;   // Null where it is not built.
  StructBuilder* key_struct_ = nullptr;   // The same, if keys have fields.
  bool wants_timestamps_ = false;
  bool wants_headers_ = false;
  int64_t rows_ = 0;
};

}  // namespace sabot
