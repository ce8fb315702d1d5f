#include "arrow/column_builder.h"

#include <algorithm>
#include <utility>

namespace sabot {
namespace {

// What an exported array keeps alive until it is released.
struct ExportedArray {
  std::vector<Buffer> buffers;
  std::vector<const void*> pointers;
  std::vector<ArrowArray> children;
  std::vector<ArrowArray*> child_pointers;
};

void ReleaseArray(ArrowArray* array) {
  // A consumer may have moved a child out: then its release is null already.
  for (int64_t i = 0; i < array->n_children; ++i) {
    if (array->children[i]->release != nullptr) {
      array->children[i]->release(array->children[i]);
    }
  }
  delete static_cast<ExportedArray*>(array->private_data);
  array->release = nullptr;
}

// Stands in for a data buffer without bytes, which must not be a null pointer.
alignas(BufferPool::kAlignment) const uint8_t kNoBytes[BufferPool::kAlignment] = {};

// `buffers[0]` is the validity bitmap, if there is one in the layout.
ExportedArray* ExportArray(int64_t length, int64_t null_count, std::vector<Buffer> buffers,
                           size_t children, ArrowArray* out) {
  auto exported = std::make_unique<ExportedArray>();
  exported->buffers = std::move(buffers);
  for (const Buffer& buffer : exported->buffers) {
    const bool is_validity = exported->pointers.empty();
    exported->pointers.push_back(buffer.data() != nullptr || is_validity ? buffer.data()
                                                                         : kNoBytes);
  }
  exported->children.resize(children);
  for (ArrowArray& child : exported->children) {
    child = {};
    exported->child_pointers.push_back(&child);
  }
  *out = {};
  out->length = length;
  out->null_count = null_count;
  out->n_buffers = static_cast<int64_t>(exported->pointers.size());
  out->buffers = exported->pointers.data();
  out->n_children = static_cast<int64_t>(children);
  out->children = exported->child_pointers.data();
  out->release = ReleaseArray;
  out->private_data = exported.get();
  return exported.release();
}

template <typename... Buffers>
std::vector<Buffer> Collect(Buffers&&... buffers) {
  std::vector<Buffer> collected;
  collected.reserve(sizeof...(buffers));
  (collected.push_back(std::move(buffers)), ...);
  return collected;
}

int32_t OffsetAt(const BufferBuilder& offsets, int64_t index) {
  int32_t offset;
  std::memcpy(&offset, offsets.data() + index * sizeof(offset), sizeof(offset));
  return offset;
}

// Appends the ends of `count` values whose items come behind `shift` others.
void AppendOffsets(BufferBuilder* offsets, const BufferBuilder& other, int64_t count,
                   int32_t shift) {
  const size_t size = static_cast<size_t>(count) * sizeof(shift);
  uint8_t* to = offsets->Reserve(size);
  const uint8_t* from = other.data() + sizeof(shift);
  for (int64_t i = 0; i < count; ++i, to += sizeof(shift), from += sizeof(shift)) {
    int32_t offset;
    std::memcpy(&offset, from, sizeof(offset));
    offset += shift;
    std::memcpy(to, &offset, sizeof(offset));
  }
  offsets->Advance(size);
}

}  // namespace

void BitmapBuilder::Fill(int64_t length) {
  const auto bytes = static_cast<size_t>((length + 7) / 8);
  bits_.Truncate(0);
  if (bytes > 0) {
    std::memset(bits_.Reserve(bytes), 0xFF, bytes);
    bits_.Advance(bytes);
  }
}

void BitmapBuilder::AppendAll(int64_t position, const BitmapBuilder* other, int64_t count) {
  if (count == 0) {
    return;
  }
  // The last byte may be begun; bits behind the length are anything after a Truncate.
  bits_.Truncate(static_cast<size_t>((position + 7) / 8));
  const auto begun = static_cast<unsigned>(position & 7);
  const auto bytes = static_cast<size_t>((count + 7) / 8);
  uint8_t* to = bits_.Reserve(bytes + 1);
  if (begun != 0) {
    --to;
    *to = static_cast<uint8_t>(*to & ((1U << begun) - 1));
  } else {
    *to = 0;
  }
  for (size_t i = 0; i < bytes; ++i) {
    const unsigned bits = other != nullptr ? other->bits_.data()[i] : 0xFFU;
    to[i] = static_cast<uint8_t>(to[i] | (bits << begun));
    to[i + 1] = static_cast<uint8_t>(bits >> (8 - begun));
  }
  const int64_t length = position + count;
  bits_.Advance(static_cast<size_t>((length + 7) / 8 - (position + 7) / 8));
  if ((length & 7) != 0) {
    uint8_t& last = bits_.data()[bits_.size() - 1];
    last = static_cast<uint8_t>(last & ((1U << (length & 7)) - 1));
  }
}

void ValidityBuilder::AppendNull() {
  if (!has_bitmap_) {
    bitmap_.Fill(length_);
    has_bitmap_ = true;
  }
  bitmap_.Append(length_, false);
  ++length_;
  ++null_count_;
}

void ValidityBuilder::AppendAll(const ValidityBuilder& other) {
  if (other.has_bitmap_ && !has_bitmap_) {
    bitmap_.Fill(length_);
    has_bitmap_ = true;
  }
  if (has_bitmap_) {
    bitmap_.AppendAll(length_, other.has_bitmap_ ? &other.bitmap_ : nullptr, other.length_);
  }
  length_ += other.length_;
  null_count_ += other.null_count_;
}

void ValidityBuilder::Truncate(int64_t length) {
  if (!has_bitmap_) {
    length_ = std::min(length_, length);
    return;
  }
  while (length_ > length) {
    --length_;
    if (!bitmap_.Get(length_)) {
      --null_count_;
    }
  }
}

Buffer ValidityBuilder::Finish() {
  Buffer bitmap = has_bitmap_ ? bitmap_.Finish() : Buffer();
  const bool has_nulls = null_count_ != 0;
  length_ = 0;
  null_count_ = 0;
  has_bitmap_ = false;
  return has_nulls ? std::move(bitmap) : Buffer();
}

template <typename T>
void FixedWidthBuilder<T>::AppendAll(const ColumnBuilder& other) {
  const auto& same = static_cast<const FixedWidthBuilder&>(other);
  values_.Append(same.values_.data(), same.values_.size());
  validity_.AppendAll(same.validity_);
}

template <typename T>
void FixedWidthBuilder<T>::Truncate(int64_t length) {
  validity_.Truncate(length);
  values_.Truncate(static_cast<size_t>(this->length()) * sizeof(T));
}

template <typename T>
void FixedWidthBuilder<T>::Export(ArrowArray* out) {
  const int64_t length = this->length();
  const int64_t null_count = validity_.null_count();
  Buffer validity = validity_.Finish();
  ExportArray(length, null_count, Collect(std::move(validity), values_.Finish()), 0, out);
}

void BooleanBuilder::AppendAll(const ColumnBuilder& other) {
  const auto& same = static_cast<const BooleanBuilder&>(other);
  values_.AppendAll(length(), &same.values_, same.length());
  validity_.AppendAll(same.validity_);
}

void BooleanBuilder::Truncate(int64_t length) { validity_.Truncate(length); }

void BooleanBuilder::Export(ArrowArray* out) {
  const int64_t length = this->length();
  const int64_t null_count = validity_.null_count();
  Buffer validity = validity_.Finish();
  ExportArray(length, null_count, Collect(std::move(validity), values_.Finish()), 0, out);
}

void BytesBuilder::AppendAll(const ColumnBuilder& other) {
  const auto& same = static_cast<const BytesBuilder&>(other);
  AppendOffsets(&offsets_, same.offsets_, same.length(), static_cast<int32_t>(bytes_.size()));
  bytes_.Append(same.bytes_.data(), same.bytes_.size());
  validity_.AppendAll(same.validity_);
}

void BytesBuilder::Truncate(int64_t length) {
  validity_.Truncate(length);
  const auto kept = static_cast<size_t>(this->length());
  offsets_.Truncate((kept + 1) * sizeof(int32_t));
  bytes_.Truncate(static_cast<size_t>(OffsetAt(offsets_, this->length())));
}

void BytesBuilder::Export(ArrowArray* out) {
  const int64_t length = this->length();
  const int64_t null_count = validity_.null_count();
  Buffer validity = validity_.Finish();
  Buffer offsets = offsets_.Finish();
  ExportArray(length, null_count, Collect(std::move(validity), std::move(offsets), bytes_.Finish()),
              0, out);
  StoreOffset();
}

void StructBuilder::AppendNull() {
  for (auto& child : children_) {
    child->AppendNull();
  }
  validity_.AppendNull();
}

void StructBuilder::AppendAll(const ColumnBuilder& other) {
  const auto& same = static_cast<const StructBuilder&>(other);
  for (size_t i = 0; i < children_.size(); ++i) {
    children_[i]->AppendAll(*same.children_[i]);
  }
  validity_.AppendAll(same.validity_);
}

void StructBuilder::Truncate(int64_t length) {
  validity_.Truncate(length);
  for (auto& child : children_) {
    child->Truncate(this->length());
  }
}

void StructBuilder::Export(ArrowArray* out) {
  const int64_t length = this->length();
  const int64_t null_count = validity_.null_count();
  ExportedArray* exported =
      ExportArray(length, null_count, Collect(validity_.Finish()), children_.size(), out);
  for (size_t i = 0; i < children_.size(); ++i) {
    children_[i]->Export(&exported->children[i]);
  }
}

void ListBuilder::AppendAll(const ColumnBuilder& other) {
  const auto& same = static_cast<const ListBuilder&>(other);
  AppendOffsets(&offsets_, same.offsets_, same.length(), static_cast<int32_t>(items_->length()));
  items_->AppendAll(*same.items_);
  validity_.AppendAll(same.validity_);
}

void ListBuilder::Truncate(int64_t length) {
  validity_.Truncate(length);
  const auto kept = static_cast<size_t>(this->length());
  offsets_.Truncate((kept + 1) * sizeof(int32_t));
  items_->Truncate(OffsetAt(offsets_, this->length()));
}

void ListBuilder::Export(ArrowArray* out) {
  const int64_t length = this->length();
  const int64_t null_count = validity_.null_count();
  Buffer validity = validity_.Finish();
  Buffer offsets = offsets_.Finish();
  ExportedArray* exported =
      ExportArray(length, null_count, Collect(std::move(validity), std::move(offsets)), 1, out);
  items_->Export(&exported->children[0]);
  StoreOffset();
}

std::unique_ptr<ColumnBuilder> MakeColumnBuilder(const Field& field,
                                                 const std::shared_ptr<BufferPool>& pool) {
  const auto make_children = [&] {
    std::vector<std::unique_ptr<ColumnBuilder>> children;
    children.reserve(field.children.size());
    for (const Field& child : field.children) {
      children.push_back(MakeColumnBuilder(child, pool));
    }
    return children;
  };
  switch (field.type) {
    case TypeId::kBool:
      return std::make_unique<BooleanBuilder>(pool);
    case TypeId::kInt8:
      return std::make_unique<FixedWidthBuilder<int8_t>>(pool);
    case TypeId::kInt16:
      return std::make_unique<FixedWidthBuilder<int16_t>>(pool);
    case TypeId::kInt32:
    case TypeId::kDate32:
    case TypeId::kTime32:
      return std::make_unique<FixedWidthBuilder<int32_t>>(pool);
    case TypeId::kInt64:
    case TypeId::kTimestamp:
    case TypeId::kDate64:
    case TypeId::kTime64:
    case TypeId::kDuration:
      return std::make_unique<FixedWidthBuilder<int64_t>>(pool);
    case TypeId::kUInt8:
      return std::make_unique<FixedWidthBuilder<uint8_t>>(pool);
    case TypeId::kUInt16:
      return std::make_unique<FixedWidthBuilder<uint16_t>>(pool);
    case TypeId::kUInt32:
      return std::make_unique<FixedWidthBuilder<uint32_t>>(pool);
    case TypeId::kUInt64:
      return std::make_unique<FixedWidthBuilder<uint64_t>>(pool);
    case TypeId::kFloat32:
      return std::make_unique<FixedWidthBuilder<float>>(pool);
    case TypeId::kFloat64:
      return std::make_unique<FixedWidthBuilder<double>>(pool);
    case TypeId::kDecimal128:
      return std::make_unique<FixedWidthBuilder<Decimal128>>(pool);
    case TypeId::kDecimal256:
      return std::make_unique<FixedWidthBuilder<Decimal256>>(pool);
    case TypeId::kString:
    case TypeId::kBinary:
      return std::make_unique<BytesBuilder>(pool);
    case TypeId::kStruct:
      return std::make_unique<StructBuilder>(pool, make_children());
    case TypeId::kList:
    case TypeId::kMap:
      return std::make_unique<ListBuilder>(pool, std::move(make_children().front()));
  }
  return nullptr;
}

void ExportRecordBatch(const std::vector<std::unique_ptr<ColumnBuilder>>& columns, int64_t length,
                       ArrowArray* out) {
  ExportedArray* exported = ExportArray(length, 0, Collect(Buffer()), columns.size(), out);
  for (size_t i = 0; i < columns.size(); ++i) {
    columns[i]->Export(&exported->children[i]);
  }
}

template class FixedWidthBuilder<int8_t>;
template class FixedWidthBuilder<int16_t>;
template class FixedWidthBuilder<int32_t>;
template class FixedWidthBuilder<int64_t>;
template class FixedWidthBuilder<uint8_t>;
template class FixedWidthBuilder<uint16_t>;
template class FixedWidthBuilder<uint32_t>;
template class FixedWidthBuilder<uint64_t>;
template class FixedWidthBuilder<float>;
template class FixedWidthBuilder<double>;
template class FixedWidthBuilder<Decimal128>;
template class FixedWidthBuilder<Decimal256>;

}  // namespace sabot
