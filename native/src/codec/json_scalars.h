// JSON's scalar tokens: grammar and value of numbers, escapes of strings; and how they are written.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
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

// Powers of ten that a double holds exactly.
inline constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                          1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                          1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
inline constexpr uint64_t kLargestExactInteger = 1ULL << 53;

// Appends the digits at `at` to `value`, which may wrap round; returns where they end. Up to eight
// are taken at once: how many there are differs from number to number, and no branch can know.
inline const char* TakeDigits(const char* at, const char* end, uint64_t* value) {
  if constexpr (std::endian::native == std::endian::little) {
    constexpr std::ptrdiff_t kStep = 8;
    if (end - at >= kStep) {
      uint64_t digits;
      std::memcpy(&digits, at, sizeof(digits));
      digits ^= 0x3030303030303030U;
      // The first byte above 9 has its highest bit set; what it carries over only harms later ones.
      const uint64_t others = ((digits + 0x7676767676767676U) | digits) & 0x8080808080808080U;
      const int count = others != 0 ? std::countr_zero(others) / 8 : 8;
      if (count == 0) {
        return at;
      }
      // Pairs, then fours, then eight, behind as many zeros as are missing.
      digits <<= 64 - 8 * count;
      digits = digits * 10 + (digits >> 8);
      digits = ((digits & 0x000000FF000000FFU) * 0x000F424000000064U +
                ((digits >> 16) & 0x000000FF000000FFU) * 0x0000271000000001U) >>
               32;
      constexpr uint64_t kScales[] = {1,       10,        100,        1'000,      10'000,
                                      100'000, 1'000'000, 10'000'000, 100'000'000};
      *value = *value * kScales[count] + digits;
      at += count;
      if (count < kStep) {
        return at;
      }
    }
  }
  for (; at != end; ++at) {
    const auto digit = static_cast<unsigned>(static_cast<unsigned char>(*at) - '0');
    if (digit > 9) {
      break;
    }
    *value = *value * 10 + digit;
  }
  return at;
}

// So many digits fit into 63 bits whatever they are.
inline constexpr std::ptrdiff_t kMostPlainDigits = 18;

// Reads an ordinary integer, and returns where it ends; null: it is none, and ReadInteger knows
// more.
inline const char* ReadPlainInteger(const char* at, const char* end, int64_t* out) {
  const bool negative = at != end && *at == '-';
  const char* const digits = at + (negative ? 1 : 0);
  uint64_t value = 0;
  at = TakeDigits(digits, end, &value);
  const auto count = at - digits;
  if (count == 0 || count > kMostPlainDigits || (*digits == '0' && count > 1) ||
      (at != end && (*at == '.' || *at == 'e' || *at == 'E'))) {
    return nullptr;
  }
  *out = negative ? -static_cast<int64_t>(value) : static_cast<int64_t>(value);
  return at;
}

// The same for a number without exponent, of which ReadDouble knows more.
inline const char* ReadPlainDouble(const char* at, const char* end, double* out) {
  const bool negative = at != end && *at == '-';
  const char* const digits = at + (negative ? 1 : 0);
  uint64_t mantissa = 0;
  at = TakeDigits(digits, end, &mantissa);
  const auto count = at - digits;
  if (count == 0 || (*digits == '0' && count > 1)) {
    return nullptr;
  }
  std::ptrdiff_t fraction = 0;
  if (at != end && *at == '.') {
    const char* const begin = at + 1;
    at = TakeDigits(begin, end, &mantissa);
    fraction = at - begin;
    if (fraction == 0) {
      return nullptr;
    }
  }
  // Clinger's fast path, see ReadDouble.
  if (count + fraction > kMostPlainDigits || mantissa > kLargestExactInteger ||
      (at != end && (*at == 'e' || *at == 'E'))) {
    return nullptr;
  }
  const double value = static_cast<double>(mantissa) / kPowersOfTen[fraction];
  // -0 is an integer.
  *out = negative && (mantissa != 0 || fraction != 0) ? -value : value;
  return at;
}

// Reads the number at `at`, which is before `end`, as the nearest double, and moves behind it,
// whatever follows. -0 without a fraction is the integer, which has no sign. kMalformed or kOk.
NumberResult ReadDouble(const char** at, const char* end, double* out);

// Resolves the escapes of a string's contents into `out`, which has room for `escaped.size()`
// bytes. Returns the length, or -1 if an escape is none of RFC 8259's or a lone surrogate.
int64_t Unescape(std::string_view escaped, char* out);

// Appends a text as a JSON string, in its shortest form. Returns whether it is ASCII; whether it is
// UTF-8 is not looked at.
bool AppendQuoted(std::string_view text, std::string* out);

// Appends the shortest number with a fraction or an exponent whose nearest double is `value`, which
// is finite.
void AppendDouble(double value, std::string* out);

}  // namespace sabot
