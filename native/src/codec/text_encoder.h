// The codecs "string" and "bytes": one column that is the value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "arrow/array_values.h"
#include "codec/encoder.h"
#include "codec/json_tokens.h"

namespace sabot {

// Null becomes an empty value: whether it is none, its caller knows.
class TextEncoder final : public Encoder {
 public:
  explicit TextEncoder(bool is_text) : is_text_(is_text) {}

  void Begin(const ArrowArray& batch) override {
    column_ = batch.children[0];
    offset_ = batch.offset + column_->offset;
  }
  std::optional<EncodeFailure> Encode(int64_t row, std::string* out) override {
    const int64_t at = offset_ + row;
    const void* const validity = column_->buffers[0];
    if (validity != nullptr && !ReadBit(validity, at)) {
      return std::nullopt;
    }
    const std::string_view value = ReadBytes(column_->buffers[1], column_->buffers[2], at);
    if (is_text_ && !IsUtf8(value)) {
      return EncodeFailure{"$", "invalid UTF-8"};
    }
    *out += value;
    return std::nullopt;
  }

 private:
  const bool is_text_;
  const ArrowArray* column_ = nullptr;
  int64_t offset_ = 0;
};

}  // namespace sabot
