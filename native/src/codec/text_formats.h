// What strings may hold besides text: timestamps and base64. docs/json.md says what is taken.
#pragma once

#include <cstdint>
#include <string_view>

#include "arrow/field.h"

namespace sabot {

enum class TimestampResult : uint8_t {
  kOk,
  kMalformed,
  kTooFine,     // Digits that the unit cannot hold, or more than nine.
  kOutOfRange,  // Beyond int64 in this unit.
};

// Reads an RFC 3339 timestamp as UTC; with `has_zone` false, the same form without an offset.
TimestampResult ParseTimestamp(std::string_view text, TimeUnit unit, bool has_zone, int64_t* out);

// Decodes canonical base64 into `out`, which has room for 3 bytes per 4 characters. Returns the
// number of bytes, or -1.
int64_t DecodeBase64(std::string_view text, char* out);

}  // namespace sabot
