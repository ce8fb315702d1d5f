// JSON's scalar tokens: grammar and value of numbers, escapes of strings.
#pragma once

#include <cstdint>
#include <string_view>

namespace sabot {

struct JsonInteger {
  bool negative = false;
  uint64_t magnitude = 0;
};

enum class NumberResult : uint8_t {
  kOk,
  kMalformed,   // No number of RFC 8259, or its nearest double is infinite.
  kNotInteger,  // A number, but with a fraction or an exponent.
  kOutOfRange,  // An integer whose magnitude is beyond 64 bits.
};

// Reads an integer token, which must be the whole of `token`. kNotInteger says only that the token
// is no plain row of digits: it may be malformed as well.
inline NumberResult ParseInteger(std::string_view token, JsonInteger* out) {
  const char* at = token.data();
  const char* const end = at + token.size();
  out->negative = at != end && *at == '-';
  at += out->negative ? 1 : 0;
  const char* const digits = at;
  uint64_t value = 0;
  while (at != end) {
    const auto digit = static_cast<unsigned>(static_cast<unsigned char>(*at) - '0');
    if (digit > 9) {
      return NumberResult::kNotInteger;
    }
    value = value * 10 + digit;
    ++at;
  }
  const auto count = end - digits;
  if (count == 0 || (*digits == '0' && count > 1)) {
    return NumberResult::kMalformed;
  }
  // Of 20 digits, those that fit begin with 1, and those that begin with 1 but do not fit wrap
  // round to less than 10^19.
  if (count > 20 || (count == 20 && (*digits != '1' || value < 10'000'000'000'000'000'000U))) {
    return NumberResult::kOutOfRange;
  }
  out->magnitude = value;
  return NumberResult::kOk;
}

// Reads any number token as the nearest double; -0 without a fraction is the integer, which has no
// sign. kOk or kMalformed.
NumberResult ParseDouble(std::string_view token, double* out);

// Resolves the escapes of a string's contents into `out`, which has room for `escaped.size()`
// bytes. Returns the length, or -1 if an escape is none of RFC 8259's or a lone surrogate.
int64_t Unescape(std::string_view escaped, char* out);

}  // namespace sabot
