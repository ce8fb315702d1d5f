// What strings may hold besides text: timestamps, dates, times, decimals, base64. docs/json.md says
// what is taken, and what is written.
#pragma once

#include <cstdint>
#include <string>
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

// The writers append what the parsers above take. False: the value has no such text, and what has
// been appended is worth nothing.
bool AppendTimestamp(int64_t value, TimeUnit unit, bool has_zone, std::string* out);
bool AppendDate(int64_t days, std::string* out);
bool AppendTime(int64_t value, TimeUnit unit, std::string* out);
// With all digits of the scale, and no exponent.
void AppendDecimal(const Decimal256& value, int32_t scale, std::string* out);
void AppendBase64(std::string_view bytes, std::string* out);

// The same number in more words.
Decimal256 Widened(const Decimal128& value);

}  // namespace sabot
