#include "codec/json_scalars.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

namespace sabot {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// A number token taken apart.
struct Decimal {
  bool negative = false;
  bool exact = true;      // `mantissa` holds all digits.
  uint64_t mantissa = 0;  // Up to 19 significant digits.
  int64_t exponent = 0;   // The value is mantissa * 10^exponent, if exact.
  int64_t magnitude = 0;  // Decimal exponent of the first significant digit, roughly: 1 for "7".
};

// Exponents beyond this are all alike, and adding to them must not overflow.
constexpr int64_t kHugeExponent = 1'000'000'000'000;

bool ScanNumber(std::string_view token, Decimal* out) {
  const char* at = token.data();
  const char* const end = at + token.size();
  if (at != end && *at == '-') {
    out->negative = true;
    ++at;
  }
  const char* const integer = at;
  int significant = 0;
  const auto take_digit = [&](char c) {
    if (significant != 0 || c != '0') {
      ++significant;
    }
    if (significant <= 19) {
      out->mantissa = out->mantissa * 10 + static_cast<uint64_t>(c - '0');
    } else {
      out->exact = false;
    }
  };
  while (at != end && IsDigit(*at)) {
    take_digit(*at++);
  }
  if (at == integer || (*integer == '0' && at - integer > 1)) {
    return false;
  }
  out->magnitude = significant;
  if (at != end && *at == '.') {
    const char* const fraction = ++at;
    while (at != end && IsDigit(*at)) {
      take_digit(*at++);
      if (significant == 0) {
        --out->magnitude;
      }
    }
    if (at == fraction) {
      return false;
    }
    out->exponent = fraction - at;
  }
  if (at != end && (*at == 'e' || *at == 'E')) {
    ++at;
    bool negative = false;
    if (at != end && (*at == '+' || *at == '-')) {
      negative = *at == '-';
      ++at;
    }
    const char* const digits = at;
    int64_t exponent = 0;
    while (at != end && IsDigit(*at)) {
      if (exponent < kHugeExponent) {
        exponent = exponent * 10 + (*at - '0');
      }
      ++at;
    }
    if (at == digits) {
      return false;
    }
    exponent = negative ? -exponent : exponent;
    out->exponent += exponent;
    out->magnitude += exponent;
  }
  return at == end;
}

// The nearest double of a token that ScanNumber took; infinite where there is none.
double NearestDouble(std::string_view token, const Decimal& decimal) {
  double value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  if (error == std::errc::result_out_of_range) {
    // from_chars says so for values that round to zero as well as for those that are too large.
    value = decimal.magnitude > 0 ? std::numeric_limits<double>::infinity() : 0.0;
    return decimal.negative ? -value : value;
  }
  return value;
}

// Powers of ten that a double holds exactly.
constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
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

NumberResult ParseDouble(std::string_view token, double* out) {
  Decimal decimal;
  if (!ScanNumber(token, &decimal)) {
    return NumberResult::kMalformed;
  }
  // Clinger's fast path: both factors are exact, so that one operation rounds once.
  constexpr uint64_t kLargestExactInteger = 1ULL << 53;
  if (decimal.exact && decimal.mantissa <= kLargestExactInteger &&
      decimal.exponent >= -kLargestExactPower && decimal.exponent <= kLargestExactPower) {
    const auto mantissa = static_cast<double>(decimal.mantissa);
    const double value = decimal.exponent < 0 ? mantissa / kPowersOfTen[-decimal.exponent]
                                              : mantissa * kPowersOfTen[decimal.exponent];
    *out = decimal.negative && token != "-0" ? -value : value;
    return NumberResult::kOk;
  }
  *out = NearestDouble(token, decimal);
  return std::isinf(*out) ? NumberResult::kMalformed : NumberResult::kOk;
}

bool IsIntegerToken(std::string_view token) {
  return token.find_first_of(".eE") == std::string_view::npos;
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

}  // namespace sabot
