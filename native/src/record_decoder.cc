#include "record_decoder.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>

namespace sabot {
namespace {

std::string_view Bytes(const void* data, size_t size) {
  return {static_cast<const char*>(data), size};
}

}  // namespace

int64_t RecordDecoder::RowBytes(const rd_kafka_message_t& message) {
  const int64_t headers = batch_->wants_headers() ? ReadHeaders(message) : 0;
  return headers + static_cast<int64_t>(message.len + message.key_len);
}

Status RecordDecoder::Take(const rd_kafka_message_t& message) {
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
    row_bytes += ReadHeaders(message);
    record.headers = &headers_;
  }
  const bool is_tombstone = !record.value.has_value();
  if (!is_tombstone || !policy_.skip_tombstones) {
    std::optional<DecodeFailure> failure = batch_->Append(record);
    if (!failure.has_value()) {
      batch_bytes_ += row_bytes;
    } else if (policy_.skip_decode_errors && !failure->is_new_field) {
      if (policy_.report_decode_errors) {
        rejected_.push_back({message.offset, *failure});
      }
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
  return Status::Ok();
}

int64_t RecordDecoder::ReadHeaders(const rd_kafka_message_t& message) {
  headers_.clear();
  rd_kafka_headers_t* headers = nullptr;
  if (api_->rd_kafka_message_headers(&message, &headers) != 0) {
    return 0;
  }
  int64_t bytes = 0;
  const char* key = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  for (size_t i = 0; api_->rd_kafka_header_get_all(headers, i, &key, &value, &size) == 0; ++i) {
    Header& header = headers_.emplace_back();
    header.key = key;
    bytes += static_cast<int64_t>(header.key.size());
    if (value != nullptr) {
      header.value = Bytes(value, size);
      bytes += static_cast<int64_t>(size);
    }
  }
  return bytes;
}

void RecordDecoder::Absorb(RecordDecoder* later) {
  // What may fail comes first.
  rejected_.reserve(rejected_.size() + later->rejected_.size());
  batch_->AppendAll(*later->batch_);
  std::move(later->rejected_.begin(), later->rejected_.end(), std::back_inserter(rejected_));
  batch_bytes_ += later->batch_bytes_;
  PartitionStats& more = later->counted_;
  counted_.records += more.records;
  counted_.bytes += more.bytes;
  counted_.tombstones += more.tombstones;
  if (more.decode_errors > 0) {
    counted_.decode_errors += more.decode_errors;
    counted_.last_error_offset = more.last_error_offset;
    counted_.last_error = std::move(more.last_error);
  }
  later->batch_->KeepCounts();
  later->Discard();
}

void RecordDecoder::Discard() {
  batch_->DropCounts();
  Clear();
  counted_ = PartitionStats();
}

void RecordDecoder::Export(ArrowArray* out) {
  batch_->Export(out);
  batch_bytes_ = 0;
}

void RecordDecoder::Clear() {
  batch_->Clear();
  batch_bytes_ = 0;
  rejected_.clear();
}

}  // namespace sabot
