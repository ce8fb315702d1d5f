// The codecs "string" and "bytes": one column that is the value.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "codec/encoder.h"
#include "codec/json_tokens.h"

namespace sabot {

// Null becomes an empty value: whether it is none, its caller knows.
class TextEncoder final : public Encoder {
 public:
  explicit TextEncoder(bool is_text) : is_text_(is_text) {}

  void Begin(const ArrowArray& batch) override {
    const ArrowArray& column = *batch.children[0];
    offset_ = batch.offset + column.offset;
    validity_ = static_cast<const uint8_t*>(column.buffers[0]);
    offsets_ = static_cast<const char*>(column.buffers[1]);
    data_ = static_cast<const char*>(column.buffers[2]);
  }
  std::optional<EncodeFailure> Encode(int64_t row, std::string* out) override {
    const int64_t at = offset_ + row;
    if (validity_ != nullptr && ((validity_[at >> 3] >> (at & 7)) & 1) == 0) {
      return std::nullopt;
    }
    std::array<int32_t, 2> range;
    std::memcpy(range.data(), offsets_ + at * static_cast<int64_t>(sizeof(int32_t)), sizeof(range));
    const std::string_view value(data_ + range[0], static_cast<size_t>(range[1] - range[0]));
    if (is_text_ && !IsUtf8(value)) {
      return EncodeFailure{"$", "invalid UTF-8"};
    }
    *out += value;
    return std::nullopt;
  }

 private:
  const bool is_text_;
  int64_t offset_ = 0;
  const uint8_t* validity_ = nullptr;
  const char* offsets_ = nullptr;
  const char* data_ = nullptr;
};

}  // namespace sabot
