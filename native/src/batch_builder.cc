#include "batch_builder.h"

#include <algorithm>
#include <array>
#include <new>

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

}  // namespace

Result<std::unique_ptr<BatchBuilder>> BatchBuilder::Make(const ArrowSchema& value_schema,
                                                         BatchOptions options,
                                                         const std::shared_ptr<BufferPool>& pool) {
  Result<std::vector<Field>> fields = ImportSchema(value_schema);
  if (!fields.ok()) {
    return fields.status();
  }
  const std::array<Field, kMetadataNames.size()> metadata_fields = {
      MakeField(TypeId::kBinary),
      MakeField(TypeId::kString),
      MakeField(TypeId::kInt32),
      MakeField(TypeId::kInt64),
      MakeField(TypeId::kTimestamp),
      MakeField(TypeId::kInt32),
      MakeField(TypeId::kList, {MakeField(TypeId::kStruct, {MakeField(TypeId::kString),
                                                            MakeField(TypeId::kBinary)})}),
  };
  std::unique_ptr<BatchBuilder> batch(new BatchBuilder);
  std::vector<ColumnBuilder*> by_field(fields.value().size(), nullptr);
  for (const std::string& column : options.columns) {
    const auto metadata = std::find(kMetadataNames.begin(), kMetadataNames.end(), column);
    if (metadata != kMetadataNames.end()) {
      const auto index = static_cast<size_t>(metadata - kMetadataNames.begin());
      const auto kind = static_cast<Metadata>(index);
      batch->columns_.push_back(MakeColumnBuilder(metadata_fields.at(index), pool));
      batch->metadata_columns_.emplace_back(kind, batch->columns_.back().get());
      batch->wants_timestamps_ |= kind == Metadata::kTimestamp || kind == Metadata::kTimestampType;
      batch->wants_headers_ |= kind == Metadata::kHeaders;
      continue;
    }
    const auto field = std::find_if(fields.value().begin(), fields.value().end(),
                                    [&](const Field& known) { return known.name == column; });
    if (field == fields.value().end()) {
      return Status::Invalid("columns: there is no column '" + column + "'");
    }
    batch->columns_.push_back(MakeColumnBuilder(*field, pool));
    batch->value_columns_.push_back(batch->columns_.back().get());
    by_field[static_cast<size_t>(field - fields.value().begin())] = batch->columns_.back().get();
  }
  batch->decoder_ =
      std::make_unique<JsonDecoder>(fields.value(), by_field, options.refuse_unknown_fields);
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
          static_cast<BytesBuilder*>(entry->child(0))->Append(header.key);
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
