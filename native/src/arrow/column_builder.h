// Column builders, one per Arrow layout: append values, take rows back, export without a copy.
//
// A builder belongs to one thread at a time. Lengths are bounded by the caller (int32 offsets).
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "arrow/buffer_pool.h"
#include "arrow/c_data.h"
#include "arrow/field.h"

namespace sabot {

// A bitmap in the making, least significant bit first.
class BitmapBuilder {
 public:
  explicit BitmapBuilder(std::shared_ptr<BufferPool> pool) : bits_(std::move(pool)) {}

  void Append(int64_t position, bool bit) {
    const auto index = static_cast<size_t>(position >> 3);
    const auto mask = static_cast<uint8_t>(1U << (position & 7));
    if ((position & 7) == 0) {
      // A new byte starts cleared: bits behind the length stay zero.
      bits_.Truncate(index);
      *bits_.Reserve(1) = 0;
      bits_.Advance(1);
    }
    uint8_t& byte = bits_.data()[index];
    byte = static_cast<uint8_t>(bit ? byte | mask : byte & ~mask);
  }
  // Begins anew with `length` set bits.
  void Fill(int64_t length);
  // Appends the first `count` bits of another one; `other` null: as many set bits.
  void AppendAll(int64_t position, const BitmapBuilder* other, int64_t count);
  bool Get(int64_t position) { return ((bits_.data()[position >> 3] >> (position & 7)) & 1) != 0; }
  Buffer Finish() { return bits_.Finish(); }

 private:
  BufferBuilder bits_;
};

// Which values are null. No bitmap exists until the first null.
class ValidityBuilder {
 public:
  explicit ValidityBuilder(std::shared_ptr<BufferPool> pool) : bitmap_(std::move(pool)) {}

  int64_t length() const { return length_; }
  int64_t null_count() const { return null_count_; }
  void AppendValid() {
    if (has_bitmap_) {
      bitmap_.Append(length_, true);
    }
    ++length_;
  }
  void AppendNull();
  void AppendAll(const ValidityBuilder& other);
  void Truncate(int64_t length);
  // Empty if there are no nulls.
  Buffer Finish();

 private:
  BitmapBuilder bitmap_;
  int64_t length_ = 0;
  int64_t null_count_ = 0;
  bool has_bitmap_ = false;
};

class ColumnBuilder {
 public:
  explicit ColumnBuilder(const std::shared_ptr<BufferPool>& pool) : validity_(pool) {}
  virtual ~ColumnBuilder() = default;
  ColumnBuilder(const ColumnBuilder&) = delete;
  ColumnBuilder& operator=(const ColumnBuilder&) = delete;

  int64_t length() const { return validity_.length(); }
  virtual void AppendNull() = 0;
  // Appends a copy of all values of `other`, a builder for the same type.
  virtual void AppendAll(const ColumnBuilder& other) = 0;
  // Takes back everything after the first `length` values, also what a nested value left
  // unfinished.
  virtual void Truncate(int64_t length) = 0;
  // Moves the values into `out`, which the receiver releases, and begins anew.
  virtual void Export(ArrowArray* out) = 0;

 protected:
  ValidityBuilder validity_;
};

template <typename T>
class FixedWidthBuilder final : public ColumnBuilder {
 public:
  explicit FixedWidthBuilder(const std::shared_ptr<BufferPool>& pool)
      : ColumnBuilder(pool), values_(pool) {}

  void Append(T value) {
    Store(value);
    validity_.AppendValid();
  }
  void AppendNull() override {
    Store(T{});
    validity_.AppendNull();
  }
  void AppendAll(const ColumnBuilder& other) override;
  void Truncate(int64_t length) override;
  void Export(ArrowArray* out) override;

 private:
  void Store(T value) {
    std::memcpy(values_.Reserve(sizeof(T)), &value, sizeof(T));
    values_.Advance(sizeof(T));
  }

  BufferBuilder values_;
};

class BooleanBuilder final : public ColumnBuilder {
 public:
  explicit BooleanBuilder(const std::shared_ptr<BufferPool>& pool)
      : ColumnBuilder(pool), values_(pool) {}

  void Append(bool value) {
    values_.Append(length(), value);
    validity_.AppendValid();
  }
  void AppendNull() override {
    values_.Append(length(), false);
    validity_.AppendNull();
  }
  void AppendAll(const ColumnBuilder& other) override;
  void Truncate(int64_t length) override;
  void Export(ArrowArray* out) override;

 private:
  BitmapBuilder values_;
};

// Strings and binaries: int32 offsets and bytes.
class BytesBuilder final : public ColumnBuilder {
 public:
  explicit BytesBuilder(const std::shared_ptr<BufferPool>& pool)
      : ColumnBuilder(pool), offsets_(pool), bytes_(pool) {
    StoreOffset();
  }

  void Append(std::string_view value) {
    if (!value.empty()) {
      std::memcpy(bytes_.Reserve(value.size()), value.data(), value.size());
    }
    Commit(value.size());
  }
  // The same for a value behind which memory can be read up to `readable_end`. It is copied in
  // steps: most values are short, and a call to memcpy and its branches cost more than they do.
  void Append(std::string_view value, const char* readable_end) {
    constexpr size_t kStep = 32;
    const char* from = value.data();
    const size_t rounded = (value.size() + kStep - 1) / kStep * kStep;
    if (static_cast<size_t>(readable_end - from) < rounded) {
      Append(value);
      return;
    }
    uint8_t* to = bytes_.Reserve(rounded);
    for (uint8_t* const end = to + rounded; to != end; to += kStep, from += kStep) {
      std::memcpy(to, from, kStep);
    }
    Commit(value.size());
  }
  // For values that are made in place: room for up to `size` bytes, then `Commit`.
  char* Reserve(size_t size) { return reinterpret_cast<char*>(bytes_.Reserve(size)); }
  void Commit(size_t size) {
    bytes_.Advance(size);
    StoreOffset();
    validity_.AppendValid();
  }
  void AppendNull() override {
    StoreOffset();
    validity_.AppendNull();
  }
  void AppendAll(const ColumnBuilder& other) override;
  void Truncate(int64_t length) override;
  void Export(ArrowArray* out) override;

 private:
  void StoreOffset() {
    const auto offset = static_cast<int32_t>(bytes_.size());
    std::memcpy(offsets_.Reserve(sizeof(offset)), &offset, sizeof(offset));
    offsets_.Advance(sizeof(offset));
  }

  BufferBuilder offsets_;
  BufferBuilder bytes_;
};

class StructBuilder final : public ColumnBuilder {
 public:
  StructBuilder(const std::shared_ptr<BufferPool>& pool,
                std::vector<std::unique_ptr<ColumnBuilder>> children)
      : ColumnBuilder(pool), children_(std::move(children)) {}

  ColumnBuilder* child(size_t index) { return children_[index].get(); }
  size_t child_count() const { return children_.size(); }
  // Ends a value whose children were all appended.
  void Commit() { validity_.AppendValid(); }
  void AppendNull() override;
  void AppendAll(const ColumnBuilder& other) override;
  void Truncate(int64_t length) override;
  void Export(ArrowArray* out) override;

 private:
  std::vector<std::unique_ptr<ColumnBuilder>> children_;
};

// Lists, and maps, which are laid out as lists of (key, value) structs.
class ListBuilder final : public ColumnBuilder {
 public:
  ListBuilder(const std::shared_ptr<BufferPool>& pool, std::unique_ptr<ColumnBuilder> items)
      : ColumnBuilder(pool), offsets_(pool), items_(std::move(items)) {
    StoreOffset();
  }

  ColumnBuilder* items() { return items_.get(); }
  // Ends a value whose items were all appended.
  void Commit() {
    StoreOffset();
    validity_.AppendValid();
  }
  void AppendNull() override {
    StoreOffset();
    validity_.AppendNull();
  }
  void AppendAll(const ColumnBuilder& other) override;
  void Truncate(int64_t length) override;
  void Export(ArrowArray* out) override;

 private:
  void StoreOffset() {
    const auto offset = static_cast<int32_t>(items_->length());
    std::memcpy(offsets_.Reserve(sizeof(offset)), &offset, sizeof(offset));
    offsets_.Advance(sizeof(offset));
  }

  BufferBuilder offsets_;
  std::unique_ptr<ColumnBuilder> items_;
};

// Makes the builder for a field's type.
std::unique_ptr<ColumnBuilder> MakeColumnBuilder(const Field& field,
                                                 const std::shared_ptr<BufferPool>& pool);

// Moves columns of `length` rows each into one record batch.
void ExportRecordBatch(const std::vector<std::unique_ptr<ColumnBuilder>>& columns, int64_t length,
                       ArrowArray* out);

}  // namespace sabot
