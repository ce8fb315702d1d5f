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
  kOutOfRange,  // An integer whose magnitude is beyond 64 bits.
};

// Reads the integer at `at`, which is before `end`, and moves behind its digits, whatever follows
// them. kMalformed, kOutOfRange or kOk.
inline NumberResult ReadInteger(const char** at, const char* end, JsonInteger* out) {
  const char* next = *at;
  out->negative = *next == '-';
  next += out->negative ? 1 : 0;
  const char* const digits = next;
  uint64_t value = 0;
  for (; next != end; ++next) {
    const auto digit = static_cast<unsigned>(static_cast<unsigned char>(*next) - '0');
    if (digit > 9) {
      break;
    }
    value = value * 10 + digit;
  }
  const auto count = next - digits;
  *at = next;
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

// Reads the number at `at`, which is before `end`, as the nearest double, and moves behind it,
// whatever follows. -0 without a fraction is the integer, which has no sign. kMalformed or kOk.
NumberResult ReadDouble(const char** at, const char* end, double* out);

// Resolves the escapes of a string's contents into `out`, which has room for `escaped.size()`
// bytes. Returns the length, or -1 if an escape is none of RFC 8259's or a lone surrogate.
int64_t Unescape(std::string_view escaped, char* out);

}  // namespace sabot
