// The codecs "string" and "bytes": one column that is the value.
#pragma once

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
    offsets_ = static_cast<const int32_t*>(column.buffers[1]) + batch.offset + column.offset;
    data_ = static_cast<const char*>(column.buffers[2]);
  }
  std::optional<EncodeFailure> Encode(int64_t row, std::string* out) override {
    const std::string_view value(data_ + offsets_[row],
                                 static_cast<size_t>(offsets_[row + 1] - offsets_[row]));
    if (is_text_ && !IsUtf8(value)) {
      return EncodeFailure{"$", "invalid UTF-8"};
    }
    *out += value;
    return std::nullopt;
  }

 private:
  const bool is_text_;
  const int32_t* offsets_ = nullptr;
  const char* data_ = nullptr;
};

}  // namespace sabot
