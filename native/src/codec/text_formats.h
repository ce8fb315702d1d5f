// What strings may hold besides text: timestamps, dates, times, decimals, base64. docs/json.md says
// what is taken.
#pragma once

#include <cstdint>
#include <string_view>

#include "arrow/field.h"

namespace sabot {

enum class FormatResult : uint8_t {
  kOk,
  kMalformed,
  kTooFine,     // Digits that the unit or the scale cannot hold, or more than nine of a second.
  kOutOfRange,  // Beyond int64 in this unit, or beyond the precision.
};

// Reads an RFC 3339 timestamp as UTC; with `has_zone` false, the same form without an offset.
FormatResult ParseTimestamp(std::string_view text, TimeUnit unit, bool has_zone, int64_t* out);

// Reads YYYY-MM-DD as days since 1970-01-01.
FormatResult ParseDate(std::string_view text, int64_t* days);

// Reads hh:mm:ss[.fraction] as units since midnight.
FormatResult ParseTime(std::string_view text, TimeUnit unit, int64_t* out);

// Reads a number in JSON's grammar as an integer of at most `precision` digits, which is the value
// times 10^scale. Narrower decimals are its first words.
FormatResult ParseDecimal(std::string_view text, int32_t precision, int32_t scale, Decimal256* out);

// Decodes canonical base64 into `out`, which has room for 3 bytes per 4 characters. Returns the
// number of bytes, or -1.
int64_t DecodeBase64(std::string_view text, char* out);

}  // namespace sabot
