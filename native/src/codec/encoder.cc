#include "codec/encoder.h"

#include "codec/json_encoder.h"
#include "codec/text_encoder.h"

namespace sabot {

std::unique_ptr<Encoder> MakeEncoder(const Codec& codec) {
  if (codec.format == Codec::Format::kJson) {
    return std::make_unique<JsonEncoder>(codec.fields);
  }
  return std::make_unique<TextEncoder>(codec.format == Codec::Format::kString);
}

}  // namespace sabot
