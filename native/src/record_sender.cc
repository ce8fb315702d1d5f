#include "record_sender.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <string_view>
#include <utility>

#include "arrow/array_values.h"

namespace sabot {
namespace {

bool IsNull(const ArrowArray& array, int64_t row) {
  return array.buffers[0] != nullptr && !ReadBit(array.buffers[0], array.offset + row);
}

// Whether some row may be null. The number is not known if it is negative.
bool HasNulls(const ArrowArray& array) {
  return array.null_count != 0 && array.buffers[0] != nullptr;
}

std::optional<std::string_view> BytesOrNull(const ArrowArray& array, int64_t row) {
  if (IsNull(array, row)) {
    return std::nullopt;
  }
  return ReadBytes(array.buffers[1], array.buffers[2], array.offset + row);
}

template <typename T>
T ValueOr(const ArrowArray* array, int64_t row, T otherwise) {
  return array == nullptr || IsNull(*array, row)
             ? otherwise
             : ReadValue<T>(array->buffers[1], array->offset + row);
}

// Marks the rows in which all columns are null; empty if there is none.
std::vector<bool> RowsWithoutValues(const ArrowArray& batch) {
  const auto columns = static_cast<size_t>(batch.n_children);
  if (columns == 0 || !std::all_of(batch.children, batch.children + columns,
                                   [](const ArrowArray* column) { return HasNulls(*column); })) {
    return {};
  }
  std::vector<bool> all_null(static_cast<size_t>(batch.length));
  bool is_any = false;
  for (int64_t row = 0; row < batch.length; ++row) {
    const bool is_null =
        std::all_of(batch.children, batch.children + columns,
                    [&](const ArrowArray* column) { return IsNull(*column, batch.offset + row); });
    all_null[static_cast<size_t>(row)] = is_null;
    is_any = is_any || is_null;
  }
  return is_any ? all_null : std::vector<bool>();
}

// Takes no more than that, where `reserve` would at least double what there is.
void MakeRoom(size_t capacity, std::string* text) {
  if (capacity > text->capacity()) {
    std::string larger;
    larger.reserve(capacity);
    larger += *text;
    *text = std::move(larger);
  }
}

}  // namespace

RecordSender::RecordSender(const RecordColumns& columns, std::string topic, Encoder* encoder,
                           const std::shared_ptr<ValuePool>& pool)
    : columns_(columns),
      topic_(std::move(topic)),
      rows_(columns.values->length),
      is_tombstone_(RowsWithoutValues(*columns.values)) {
  Encode(encoder, pool);
}

void RecordSender::Encode(Encoder* encoder, const std::shared_ptr<ValuePool>& pool) {
  // So many rows show how long the others may be.
  constexpr size_t kSample = 256;
  std::string values = pool->Take();
  ends_.reserve(static_cast<size_t>(rows_));
  encoder->Begin(*columns_.values);
  for (int64_t row = 0; row < rows_; ++row) {
    // Later rows may be longer than the first ones, so this is asked again, ever more rarely.
    if (const auto done = static_cast<size_t>(row); done >= kSample && std::has_single_bit(done)) {
      MakeRoom((values.size() / done + 1) * static_cast<size_t>(rows_) * 17 / 16, &values);
    }
    if (HasValue(row)) {
      std::optional<EncodeFailure> failure = encoder->Encode(row, &values);
      if (failure) {
        rejected_.push_back({row, std::move(*failure)});
      }
    }
    ends_.push_back(static_cast<int64_t>(values.size()));
  }
  delivery_ = std::make_shared<Delivery>(std::move(values), pool);
}

bool RecordSender::HandOver(Producer* producer, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  if (state_ == State::kEncoded) {
    producer->Begin(delivery_);
    state_ = State::kBegun;
  }
  while (next_ < rows_) {
    if (next_rejected_ < rejected_.size() && rejected_[next_rejected_].row == next_) {
      ++next_rejected_;
      ++next_;
      continue;
    }
    ReadRow(next_, &record_);
    const uint64_t told = producer->told_count();
    if (producer->Send(record_, delivery_.get(), next_)) {
      ++next_;
      continue;
    }
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) {
      return false;
    }
    producer->WaitForRoom(told, std::chrono::ceil<std::chrono::milliseconds>(deadline - now));
  }
  Stop(producer);
  return true;
}

void RecordSender::Stop(Producer* producer) {
  if (state_ == State::kBegun) {
    producer->End(delivery_.get());
    state_ = State::kEnded;
  }
}

void RecordSender::ReadRow(int64_t row, OutgoingRecord* record) const {
  if (columns_.topics != nullptr) {
    record->topic = BytesOrNull(*columns_.topics, row).value_or("");
  } else if (record->topic.empty()) {
    record->topic = topic_;
  }
  record->partition = ValueOr<int32_t>(columns_.partitions, row, kAnyPartition);
  record->timestamp_ms = ValueOr<int64_t>(columns_.timestamps, row, 0);
  record->key = columns_.keys != nullptr ? BytesOrNull(*columns_.keys, row) : std::nullopt;
  record->value = std::nullopt;
  const auto at = static_cast<size_t>(row);
  if (HasValue(row)) {
    const int64_t begin = row == 0 ? 0 : ends_[at - 1];
    record->value = std::string_view(delivery_->values())
                        .substr(static_cast<size_t>(begin), static_cast<size_t>(ends_[at] - begin));
  }
  if (columns_.headers != nullptr) {
    ReadHeaders(row, &record->headers);
  }
}

void RecordSender::ReadHeaders(int64_t row, std::vector<OutgoingHeader>* headers) const {
  const ArrowArray& lists = *columns_.headers;
  headers->clear();
  if (IsNull(lists, row)) {
    return;
  }
  const ArrowArray& entries = *lists.children[0];
  const ArrowArray& names = *entries.children[0];
  const ArrowArray& values = *entries.children[1];
  const int64_t end = ReadValue<int32_t>(lists.buffers[1], lists.offset + row + 1);
  for (int64_t at = ReadValue<int32_t>(lists.buffers[1], lists.offset + row); at < end; ++at) {
    const int64_t entry = entries.offset + at;
    headers->push_back(
        {std::string(BytesOrNull(names, entry).value_or("")), BytesOrNull(values, entry)});
  }
}

}  // namespace sabot
