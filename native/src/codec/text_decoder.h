// Values that are one column as they are: bytes, and strings.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "arrow/column_builder.h"
#include "codec/codec.h"

namespace sabot {

class TextDecoder final : public Decoder {
 public:
  // `column` is null where nothing is built. `is_text`: only valid UTF-8 is taken.
  TextDecoder(BytesBuilder* column, bool is_text, std::string_view root)
      : column_(column), is_text_(is_text), root_(root) {}

  std::optional<DecodeFailure> Decode(std::string_view value) override;

 private:
  BytesBuilder* const column_;
  const bool is_text_;
  const std::string root_;
};

}  // namespace sabot
