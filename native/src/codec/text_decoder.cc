#include "codec/text_decoder.h"

#include "codec/json_tokens.h"

namespace sabot {

std::optional<DecodeFailure> TextDecoder::Decode(std::string_view value) {
  if (is_text_ && !IsUtf8(value)) {
    return DecodeFailure{root_, "invalid UTF-8"};
  }
  if (column_ != nullptr) {
    column_->Append(value);
  }
  return std::nullopt;
}

}  // namespace sabot
