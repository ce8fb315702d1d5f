// Records with keys and headers, appended, exported and dropped, beside a model of what must be
// left.
//
// Input: a byte each for the codec of values, the codec of keys, the columns, and what becomes of
// unknown fields, all counted from '0'; then records, with a record separator between them. A
// record is a byte of `Flag`s, counted from '@', and its key, its value, and headers' names and
// values in turns, with a unit separator between them.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrow_text.h"
#include "batch_builder.h"
#include "check.h"
#include "codec/json_tokens.h"
#include "schemas.h"

namespace sabot::fuzz {
namespace {

using testing::MakeField;

constexpr char kRecordSeparator = '\x1e';
constexpr char kUnitSeparator = '\x1f';

enum Flag : uint8_t {
  kTombstone = 1,
  kNoKey = 2,
  kNoTimestamp = 4,
  kNullHeader = 8,
  kThenExport = 16,
  kThenClear = 32,
};

constexpr std::array<std::string_view, 7> kMetadata = {
    "_kafka_key",       "_kafka_topic",          "_kafka_partition", "_kafka_offset",
    "_kafka_timestamp", "_kafka_timestamp_type", "_kafka_headers"};

std::string_view TakeUntil(char separator, std::string_view* from) {
  const size_t end = std::min(from->find(separator), from->size());
  const std::string_view taken = from->substr(0, end);
  from->remove_prefix(std::min(end + 1, from->size()));
  return taken;
}

Codec MakeCodec(uint8_t choice, uint8_t unknown_fields) {
  if (choice == 0) {
    return {Codec::Format::kBytes, {MakeField("value", TypeId::kBinary)}};
  }
  if (choice == 1) {
    return {Codec::Format::kString, {MakeField("value", TypeId::kString)}};
  }
  return JsonCodec(choice - 2U, unknown_fields);
}

Field MetadataField(size_t index, const Codec& keys) {
  switch (index) {
    case 0:
      return keys.format == Codec::Format::kBytes    ? MakeField("", TypeId::kBinary)
             : keys.format == Codec::Format::kString ? MakeField("", TypeId::kString)
                                                     : MakeField("", TypeId::kStruct, keys.fields);
    case 1:
      return MakeField("", TypeId::kString);
    case 2:
    case 5:
      return MakeField("", TypeId::kInt32);
    case 3:
      return MakeField("", TypeId::kInt64);
    case 4:
      return MakeField("", TypeId::kTimestamp);
    default:
      return MakeField(
          "", TypeId::kList,
          {MakeField("item", TypeId::kStruct,
                     {MakeField("key", TypeId::kString), MakeField("value", TypeId::kBinary)})});
  }
}

// A record and the memory that it borrows; each piece fills its own to the last byte, so that a
// sanitizer sees what reads on.
class OwnedRecord {
 public:
  OwnedRecord(std::string_view text, int64_t offset) {
    flags_ = text.empty() ? uint8_t{0} : static_cast<uint8_t>(text.front() - '@');
    text.remove_prefix(text.empty() ? 0 : 1);
    record_.offset = offset;
    const std::string_view key = Own(TakeUntil(kUnitSeparator, &text));
    const std::string_view value = Own(TakeUntil(kUnitSeparator, &text));
    if (!Has(kNoKey)) {
      record_.key = key;
    }
    if (!Has(kTombstone)) {
      record_.value = value;
    }
    if (!Has(kNoTimestamp)) {
      record_.timestamp_ms = offset * 1000;
      record_.timestamp_type = static_cast<int32_t>(offset % 2);
    }
    while (!text.empty()) {
      Header header{Own(TakeUntil(kUnitSeparator, &text)), std::nullopt};
      if (!Has(kNullHeader) || !text.empty()) {
        header.value = Own(TakeUntil(kUnitSeparator, &text));
      }
      headers_.push_back(header);
    }
  }

  bool Has(Flag flag) const { return (flags_ & flag) != 0; }
  const std::vector<Header>& headers() const { return headers_; }
  Record record() const {
    Record record = record_;
    record.headers = &headers_;
    return record;
  }

 private:
  std::string_view Own(std::string_view text) {
    memory_.push_back(std::make_unique<char[]>(text.size()));
    std::copy(text.begin(), text.end(), memory_.back().get());
    return {memory_.back().get(), text.size()};
  }

  uint8_t flags_;
  Record record_;
  std::vector<Header> headers_;
  std::vector<std::unique_ptr<char[]>> memory_;
};

using Counts = std::map<std::string, uint64_t>;

// Builds batches, and checks each of them as a whole.
class Batch {
 public:
  Batch(const BatchOptions& options, std::vector<Field> fields) {
    fields_.type = TypeId::kStruct;
    fields_.children = std::move(fields);
    auto made = BatchBuilder::Make(options, Pool());
    CHECK(made.ok());
    builder_ = std::move(made.value());
  }

  BatchBuilder& builder() { return *builder_; }
  const Field& fields() const { return fields_; }
  bool Append(const OwnedRecord& record) {
    const int64_t rows = builder_->rows();
    const auto failure = builder_->Append(record.record());
    CHECK(builder_->rows() == rows + (failure.has_value() ? 0 : 1));
    if (failure.has_value()) {
      CHECK(failure->field.substr(0, 1) == "$" || failure->field.substr(0, 3) == "key");
      CHECK(!failure->reason.empty());
    }
    return !failure.has_value();
  }
  void Export(ArrowArray* out) {
    const int64_t rows = builder_->rows();
    builder_->Export(out);
    CHECK(out->length == rows);
    CHECK(builder_->rows() == 0);
    CheckArray(fields_, *out);
  }
  void AddCounts(Counts* counts) const {
    for (const auto& [path, count] : builder_->UnknownFieldCounts()) {
      if (count != 0) {
        (*counts)[path] += count;
      }
    }
  }

 private:
  // Keeps nothing, so that a sanitizer sees what is used after its release.
  static const std::shared_ptr<BufferPool>& Pool() {
    static const std::shared_ptr<BufferPool> pool = BufferPool::Make(0);
    return pool;
  }

  Field fields_;
  std::unique_ptr<BatchBuilder> builder_;
};

std::optional<std::string_view> ValueAt(const ArrowArray& array, int64_t row) {
  return IsNull(array, row) ? std::nullopt : std::optional(BytesAt(array, row));
}

void CheckMetadata(std::string_view column, const Codec& keys, const ArrowArray& array,
                   const std::vector<OwnedRecord>& records) {
  int32_t header = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    const Record record = records[i].record();
    if (column == "_kafka_offset") {
      CHECK(ReadValue<int64_t>(array.buffers[1], row) == record.offset);
    } else if (column == "_kafka_key" && keys.format != Codec::Format::kJson) {
      CHECK(ValueAt(array, row) == record.key);
    } else if (column == "_kafka_headers") {
      CHECK(ReadValue<int32_t>(array.buffers[1], row) == header);
      for (const Header& expected : *record.headers) {
        const ArrowArray& entries = *array.children[0];
        const std::string name = ReplaceInvalidUtf8(expected.key);
        CHECK(ValueAt(*entries.children[0], header) == name);
        CHECK(name == expected.key || !IsUtf8(expected.key));
        CHECK(ValueAt(*entries.children[1], header) == expected.value);
        ++header;
      }
    }
  }
}

void BuildAll(std::string_view input) {
  const auto number = [&input] {
    const uint8_t digit = input.empty() ? 0 : static_cast<uint8_t>(input.front() - '0');
    input.remove_prefix(input.empty() ? 0 : 1);
    return digit;
  };
  const uint8_t value_choice = number();
  const uint8_t key_choice = number();
  const uint8_t columns = number();
  const uint8_t unknown_fields = number();
  BatchOptions options;
  options.topic = "topic";
  options.partition = 3;
  options.value_codec = MakeCodec(value_choice, unknown_fields);
  options.key_codec = MakeCodec(key_choice, unknown_fields);
  std::vector<Field> fields;
  // Those of the value in reverse: their order is the user's.
  for (size_t i = options.value_codec.fields.size(); i-- > 0;) {
    if ((columns & 128) == 0 || i % 2 == 0) {
      fields.push_back(options.value_codec.fields[i]);
      options.columns.push_back(fields.back().name);
    }
  }
  const size_t first_metadata = fields.size();
  for (size_t i = 0; i < kMetadata.size(); ++i) {
    if (((columns >> i) & 1) == 0) {
      fields.push_back(MetadataField(i, options.key_codec));
      options.columns.emplace_back(kMetadata.at(i));
    }
  }

  Batch batch(options, fields);
  Counts expected_counts;
  std::vector<OwnedRecord> accepted;
  int64_t offset = 0;
  const auto settle = [&](bool exports) {
    // A builder that has seen nothing but what was accepted must come to the same.
    Batch model(options, fields);
    for (const OwnedRecord& record : accepted) {
      CHECK(model.Append(record));
    }
    model.AddCounts(&expected_counts);
    if (exports) {
      ArrowArray built;
      ArrowArray expected;
      batch.Export(&built);
      model.Export(&expected);
      CHECK(built.length == static_cast<int64_t>(accepted.size()));
      CheckEqual(batch.fields(), built, expected);
      for (size_t i = first_metadata; i < fields.size(); ++i) {
        CheckMetadata(options.columns[i], options.key_codec, *built.children[i], accepted);
      }
      built.release(&built);
      expected.release(&expected);
    } else {
      batch.builder().Clear();
    }
    CHECK(batch.builder().rows() == 0);
    accepted.clear();
  };
  while (!input.empty()) {
    OwnedRecord record(TakeUntil(kRecordSeparator, &input), offset++);
    const bool exports = record.Has(kThenExport);
    const bool clears = record.Has(kThenClear);
    if (batch.Append(record)) {
      accepted.push_back(std::move(record));
    }
    if (exports || clears) {
      settle(exports);
    }
  }
  settle(true);
  Counts counts;
  batch.AddCounts(&counts);
  CHECK(counts == expected_counts);
}

}  // namespace
}  // namespace sabot::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sabot::fuzz::BuildAll({reinterpret_cast<const char*>(data), size});
  return 0;
}
