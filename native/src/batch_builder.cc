#include "batch_builder.h"

#include <algorithm>
#include <array>
#include <new>

#include "codec/json_tokens.h"

namespace sabot {
namespace {

constexpr std::array<std::string_view, 7> kMetadataNames = {
    "_kafka_key",       "_kafka_topic",          "_kafka_partition", "_kafka_offset",
    "_kafka_timestamp", "_kafka_timestamp_type", "_kafka_headers"};

Field MakeField(TypeId type, std::vector<Field> children = {}) {
  Field field;
  field.type = type;
  field.children = std::move(children);
  return field;
}

Field KeyField(const Codec& codec) {
  switch (codec.format) {
    case Codec::Format::kBytes:
      break;
    case Codec::Format::kString:
      return MakeField(TypeId::kString);
    case Codec::Format::kJson:
      return MakeField(TypeId::kStruct, codec.fields);
  }
  return MakeField(TypeId::kBinary);
}

}  // namespace

Result<std::unique_ptr<BatchBuilder>> BatchBuilder::Make(BatchOptions options,
                                                         const std::shared_ptr<BufferPool>& pool) {
  const std::vector<Field>& fields = options.value_codec.fields;
  const Codec& keys = options.key_codec;
  const std::array<Field, kMetadataNames.size()> metadata_fields = {
      KeyField(keys),
      MakeField(TypeId::kString),
      MakeField(TypeId::kInt32),
      MakeField(TypeId::kInt64),
      MakeField(TypeId::kTimestamp),
      MakeField(TypeId::kInt32),
      MakeField(TypeId::kList, {MakeField(TypeId::kStruct, {MakeField(TypeId::kString),
                                                            MakeField(TypeId::kBinary)})}),
  };
  std::unique_ptr<BatchBuilder> batch(new BatchBuilder);
  const bool decodes_keys = keys.format != Codec::Format::kBytes;
  std::vector<ColumnBuilder*> by_field(fields.size(), nullptr);
  for (const std::string& column : options.columns) {
    const auto metadata = std::find(kMetadataNames.begin(), kMetadataNames.end(), column);
    if (metadata != kMetadataNames.end()) {
      const auto index = static_cast<size_t>(metadata - kMetadataNames.begin());
      const auto kind = static_cast<Metadata>(index);
      batch->columns_.push_back(MakeColumnBuilder(metadata_fields.at(index), pool));
      if (kind == Metadata::kKey && decodes_keys) {
        batch->key_column_ = batch->columns_.back().get();
        continue;
      }
      batch->metadata_columns_.emplace_back(kind, batch->columns_.back().get());
      batch->wants_timestamps_ |= kind == Metadata::kTimestamp || kind == Metadata::kTimestampType;
      batch->wants_headers_ |= kind == Metadata::kHeaders;
      continue;
    }
    const auto field = std::find_if(fields.begin(), fields.end(),
                                    [&](const Field& known) { return known.name == column; });
    if (field == fields.end()) {
      return Status::Invalid("columns: there is no column '" + column + "'");
    }
    batch->columns_.push_back(MakeColumnBuilder(*field, pool));
    batch->value_columns_.push_back(batch->columns_.back().get());
    by_field[static_cast<size_t>(field - fields.begin())] = batch->columns_.back().get();
  }
  batch->decoder_ = MakeDecoder(options.value_codec, by_field, "$");
  if (decodes_keys) {
    std::vector<ColumnBuilder*> key_columns(keys.fields.size(), nullptr);
    if (keys.format != Codec::Format::kJson) {
      key_columns.front() = batch->key_column_;
    } else if (batch->key_column_ != nullptr) {
      batch->key_struct_ = static_cast<StructBuilder*>(batch->key_column_);
      for (size_t i = 0; i < key_columns.size(); ++i) {
        key_columns[i] = batch->key_struct_->child(i);
      }
    }
    batch->key_decoder_ = MakeDecoder(keys, key_columns, "key");
  }
  batch->options_ = std::move(options);
  return batch;
}

std::optional<DecodeFailure> BatchBuilder::Append(const Record& record) {
  try {
    if (record.value.has_value()) {
      std::optional<DecodeFailure> failure = decoder_->Decode(*record.value);
      if (failure.has_value()) {
        return failure;
      }
    } else {
      for (ColumnBuilder* column : value_columns_) {
        column->AppendNull();
      }
    }
    if (key_decoder_ != nullptr) {
      std::optional<DecodeFailure> failure = AppendKey(record);
      if (failure.has_value()) {
        if (record.value.has_value()) {
          decoder_->UncountLast();
        }
        Truncate(rows_);
        return failure;
      }
    }
    for (const auto& [metadata, column] : metadata_columns_) {
      AppendMetadata(metadata, column, record);
    }
  } catch (const std::bad_alloc&) {
    // A row that stands half would shift every later one.
    Truncate(rows_);
    throw;
  }
  ++rows_;
  return std::nullopt;
}

std::optional<DecodeFailure> BatchBuilder::AppendKey(const Record& record) {
  if (!record.key.has_value()) {
    if (key_column_ != nullptr) {
      key_column_->AppendNull();
    }
    return std::nullopt;
  }
  std::optional<DecodeFailure> failure = key_decoder_->Decode(*record.key);
  if (!failure.has_value() && key_struct_ != nullptr) {
    key_struct_->Commit();
  }
  return failure;
}

std::vector<std::pair<std::string, uint64_t>> BatchBuilder::UnknownFieldCounts() const {
  auto counts = decoder_->UnknownFieldCounts();
  if (key_decoder_ != nullptr) {
    const auto of_keys = key_decoder_->UnknownFieldCounts();
    counts.insert(counts.end(), of_keys.begin(), of_keys.end());
  }
  return counts;
}

uint64_t BatchBuilder::unknown_field_changes() const {
  return decoder_->unknown_field_changes() +
         (key_decoder_ != nullptr ? key_decoder_->unknown_field_changes() : 0);
}

void BatchBuilder::KeepCounts() {
  decoder_->KeepCounts();
  if (key_decoder_ != nullptr) {
    key_decoder_->KeepCounts();
  }
}

void BatchBuilder::DropCounts() {
  decoder_->DropCounts();
  if (key_decoder_ != nullptr) {
    key_decoder_->DropCounts();
  }
}

void BatchBuilder::AppendAll(const BatchBuilder& other) {
  try {
    for (size_t i = 0; i < columns_.size(); ++i) {
      columns_[i]->AppendAll(*other.columns_[i]);
    }
  } catch (const std::bad_alloc&) {
    Truncate(rows_);
    throw;
  }
  rows_ += other.rows_;
}

void BatchBuilder::AppendMetadata(Metadata metadata, ColumnBuilder* builder,
                                  const Record& record) const {
  switch (metadata) {
    case Metadata::kKey:
      if (record.key.has_value()) {
        static_cast<BytesBuilder*>(builder)->Append(*record.key);
      } else {
        builder->AppendNull();
      }
      break;
    case Metadata::kTopic:
      static_cast<BytesBuilder*>(builder)->Append(options_.topic);
      break;
    case Metadata::kPartition:
      static_cast<FixedWidthBuilder<int32_t>*>(builder)->Append(options_.partition);
      break;
    case Metadata::kOffset:
      static_cast<FixedWidthBuilder<int64_t>*>(builder)->Append(record.offset);
      break;
    case Metadata::kTimestamp:
      if (record.timestamp_ms.has_value()) {
        static_cast<FixedWidthBuilder<int64_t>*>(builder)->Append(*record.timestamp_ms);
      } else {
        builder->AppendNull();
      }
      break;
    case Metadata::kTimestampType:
      static_cast<FixedWidthBuilder<int32_t>*>(builder)->Append(record.timestamp_type);
      break;
    case Metadata::kHeaders: {
      auto* list = static_cast<ListBuilder*>(builder);
      auto* entry = static_cast<StructBuilder*>(list->items());
      if (record.headers != nullptr) {
        for (const Header& header : *record.headers) {
          auto* name = static_cast<BytesBuilder*>(entry->child(0));
          // No broker looks at it, but a column of strings is UTF-8.
          if (IsUtf8(header.key)) {
            name->Append(header.key);
          } else {
            name->Append(ReplaceInvalidUtf8(header.key));
          }
          if (header.value.has_value()) {
            static_cast<BytesBuilder*>(entry->child(1))->Append(*header.value);
          } else {
            entry->child(1)->AppendNull();
          }
          entry->Commit();
        }
      }
      list->Commit();
      break;
    }
  }
}

void BatchBuilder::Export(ArrowArray* out) {
  ExportRecordBatch(columns_, rows_, out);
  rows_ = 0;
}

void BatchBuilder::Truncate(int64_t rows) {
  for (const auto& column : columns_) {
    column->Truncate(rows);
  }
  rows_ = rows;
}

}  // namespace sabot
