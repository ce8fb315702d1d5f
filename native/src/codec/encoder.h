// What turns rows into the values, or keys, of records: the counterpart of Decoder.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "arrow/c_data.h"
#include "codec/codec.h"

namespace sabot {

// Why one row cannot be encoded.
struct EncodeFailure {
  std::string field;   // Path, "$" for the whole row.
  std::string reason;  // As docs/json.md words it.
};

// Encodes one row after the other. Belongs to one thread at a time.
class Encoder {
 public:
  Encoder() = default;
  virtual ~Encoder() = default;
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  // The batch whose rows are next, with the columns of the codec; it stays its owner's.
  virtual void Begin(const ArrowArray& batch) = 0;
  // Appends the row's bytes to `out`, or leaves it as it was and returns why.
  virtual std::optional<EncodeFailure> Encode(int64_t row, std::string* out) = 0;
};

// The codec's fields are the columns to write, all of them.
std::unique_ptr<Encoder> MakeEncoder(const Codec& codec);

}  // namespace sabot
