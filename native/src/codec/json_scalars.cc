#include "codec/json_scalars.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <system_error>

#include "codec/string_scan.h"

namespace sabot {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Digits that fit into 64 bits whatever they are.
constexpr int64_t kMostExactDigits = 19;
// Exponents beyond this are all alike, and adding to them must not overflow.
constexpr int64_t kHugeExponent = 1'000'000'000'000;

// A number taken apart: mantissa * 10^exponent.
struct Decimal {
  bool negative = false;
  int64_t digits = 0;  // Of the mantissa; beyond kMostExactDigits it has wrapped round.
  uint64_t mantissa = 0;
  int64_t exponent = 0;
};

// Moves behind the number at `at`; false if there is none.
inline bool ScanNumber(const char** begin, const char* end, Decimal* out) {
  const char* at = *begin;
  uint64_t mantissa = 0;
  const auto take_digits = [&] {
    const char* const first = at;
    while (at != end && IsDigit(*at)) {
      mantissa = mantissa * 10 + static_cast<uint64_t>(*at++ - '0');
    }
    return at - first;
  };
  out->negative = *at == '-';
  at += out->negative ? 1 : 0;
  const char* const integer = at;
  out->digits = take_digits();
  if (out->digits == 0 || (*integer == '0' && out->digits > 1)) {
    return false;
  }
  if (at != end && *at == '.') {
    ++at;
    const int64_t fraction = take_digits();
    if (fraction == 0) {
      return false;
    }
    out->digits += fraction;
    out->exponent = -fraction;
  }
  out->mantissa = mantissa;
  if (at != end && (*at == 'e' || *at == 'E')) {
    ++at;
    const bool negative = at != end && *at == '-';
    if (at != end && (*at == '+' || *at == '-')) {
      ++at;
    }
    const char* const digits = at;
    int64_t exponent = 0;
    while (at != end && IsDigit(*at)) {
      exponent = std::min(exponent * 10 + (*at++ - '0'), kHugeExponent);
    }
    if (at == digits) {
      return false;
    }
    out->exponent += negative ? -exponent : exponent;
  }
  *begin = at;
  return true;
}

// Whether a number is at least 1, told from where its first digit other than 0 stands.
bool IsLarge(std::string_view token, const Decimal& decimal) {
  const size_t mantissa_end = std::min(token.find_first_of("eE"), token.size());
  int64_t zeros = 0;
  for (const char c : token.substr(0, mantissa_end)) {
    if (c >= '1' && c <= '9') {
      break;
    }
    zeros += c == '0' ? 1 : 0;
  }
  return decimal.digits - zeros + decimal.exponent > 0;
}

// The nearest double of a token that ScanNumber took; infinite where there is none.
double NearestDouble(std::string_view token, const Decimal& decimal) {
  double value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  if (error == std::errc::result_out_of_range) {
    // from_chars says so for values that round to zero as well as for those that are too large.
    value = IsLarge(token, decimal) ? std::numeric_limits<double>::infinity() : 0.0;
    return decimal.negative ? -value : value;
  }
  return value;
}

constexpr int64_t kLargestExactPower = 22;

int HexValue(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Reads the four digits of a \u escape, or -1.
int32_t ReadHex4(const char* at, const char* end) {
  if (end - at < 4) {
    return -1;
  }
  int32_t unit = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = HexValue(at[i]);
    if (digit < 0) {
      return -1;
    }
    unit = unit * 16 + digit;
  }
  return unit;
}

char* WriteUtf8(int32_t code_point, char* out) {
  const auto put = [&out](int32_t byte) { *out++ = static_cast<char>(byte); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
  return out;
}

}  // namespace

NumberResult ReadDouble(const char** at, const char* end, double* out) {
  const char* const begin = *at;
  Decimal decimal;
  if (!ScanNumber(at, end, &decimal)) {
    return NumberResult::kMalformed;
  }
  const std::string_view token(begin, static_cast<size_t>(*at - begin));
  // Clinger's fast path: both factors are exact, so that one operation rounds once.
  if (decimal.digits <= kMostExactDigits && decimal.mantissa <= kLargestExactInteger &&
      decimal.exponent >= -kLargestExactPower && decimal.exponent <= kLargestExactPower) {
    const auto mantissa = static_cast<double>(decimal.mantissa);
    const double value = decimal.exponent < 0 ? mantissa / kPowersOfTen[-decimal.exponent]
                                              : mantissa * kPowersOfTen[decimal.exponent];
    const bool is_integer_zero = token.size() == 2 && decimal.mantissa == 0;
    *out = decimal.negative && !is_integer_zero ? -value : value;
    return NumberResult::kOk;
  }
  *out = NearestDouble(token, decimal);
  return std::isinf(*out) ? NumberResult::kMalformed : NumberResult::kOk;
}

int64_t Unescape(std::string_view escaped, char* out) {
  const char* at = escaped.data();
  const char* const end = at + escaped.size();
  char* const begin = out;
  while (at != end) {
    if (*at != '\\') {
      *out++ = *at++;
      continue;
    }
    if (++at == end) {
      return -1;
    }
    switch (*at++) {
      case '"':
        *out++ = '"';
        break;
      case '\\':
        *out++ = '\\';
        break;
      case '/':
        *out++ = '/';
        break;
      case 'b':
        *out++ = '\b';
        break;
      case 'f':
        *out++ = '\f';
        break;
      case 'n':
        *out++ = '\n';
        break;
      case 'r':
        *out++ = '\r';
        break;
      case 't':
        *out++ = '\t';
        break;
      case 'u': {
        int32_t code_point = ReadHex4(at, end);
        if (code_point < 0) {
          return -1;
        }
        at += 4;
        if (code_point >= 0xD800 && code_point < 0xE000) {
          if (code_point >= 0xDC00 || end - at < 6 || at[0] != '\\' || at[1] != 'u') {
            return -1;
          }
          const int32_t low = ReadHex4(at + 2, end);
          if (low < 0xDC00 || low > 0xDFFF) {
            return -1;
          }
          at += 6;
          code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
        }
        out = WriteUtf8(code_point, out);
        break;
      }
      default:
        return -1;
    }
  }
  return out - begin;
}

bool AppendQuoted(std::string_view text, std::string* out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t";
  constexpr std::string_view kShort = "\"\\bfnrt";
  bool non_ascii = false;
  const char* at = text.data();
  const char* const end = at + text.size();
  *out += '"';
  while (true) {
    const char* const special = FindSpecial(at, end, &non_ascii);
    out->append(at, special);
    if (special == end) {
      break;
    }
    const size_t escape = kEscaped.find(*special);
    if (escape != std::string_view::npos) {
      *out += '\\';
      *out += kShort[escape];
    } else {
      *out += "\\u00";
      *out += kHex[static_cast<unsigned char>(*special) >> 4];
      *out += kHex[static_cast<unsigned char>(*special) & 0xF];
    }
    at = special + 1;
  }
  *out += '"';
  return !non_ascii;
}

void AppendDouble(double value, std::string* out) {
  // One digit, maybe a point and others, and the exponent: what differs below is only where the
  // point stands.
  char text[32];
  const char* const end =
      std::to_chars(text, text + sizeof(text), value, std::chars_format::scientific).ptr;
  const char* at = text;
  if (*at == '-') {
    *out += *at++;
  }
  const char* const mark = std::find(at, end, 'e');
  char buffer[20];
  const std::string_view digits(
      buffer, static_cast<size_t>(std::copy_if(at, mark, buffer, [](char c) { return c != '.'; }) -
                                  buffer));
  int exponent = 0;
  std::from_chars(mark[1] == '+' ? mark + 2 : mark + 1, end, exponent);
  // The digits before the point; none, or less than none, where zeros follow it.
  const int before = exponent + 1;
  constexpr int kMostBefore = 16;
  constexpr int kMostZeros = 5;
  if (before > 0 && before <= kMostBefore) {
    const auto count = static_cast<size_t>(before);
    *out += digits.substr(0, count);
    out->append(std::max(count, digits.size()) - digits.size(), '0');
    *out += '.';
    *out += count < digits.size() ? digits.substr(count) : "0";
  } else if (before <= 0 && before > -kMostZeros) {
    *out += "0.";
    out->append(static_cast<size_t>(-before), '0');
    *out += digits;
  } else {
    out->append(at, mark);
    *out += exponent < 0 ? "e-" : "e+";
    *out += std::to_string(std::abs(exponent));
  }
}

}  // namespace sabot
