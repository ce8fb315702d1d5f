#include "codec/text_formats.h"

#include <array>
#include <cstddef>

namespace sabot {
namespace {

// Takes characters from the front of a text; every reader fails on what is not there.
class TextReader {
 public:
  explicit TextReader(std::string_view text) : left_(text) {}

  bool AtEnd() const { return left_.empty(); }
  bool Take(std::string_view any_of, char* taken = nullptr) {
    if (left_.empty() || any_of.find(left_.front()) == std::string_view::npos) {
      return false;
    }
    if (taken != nullptr) {
      *taken = left_.front();
    }
    left_.remove_prefix(1);
    return true;
  }
  bool TakeDigit(int* digit) {
    if (left_.empty() || left_.front() < '0' || left_.front() > '9') {
      return false;
    }
    *digit = left_.front() - '0';
    left_.remove_prefix(1);
    return true;
  }
  bool TakeNumber(int digits, int* out) {
    *out = 0;
    for (int digit = 0; digits > 0; --digits) {
      if (!TakeDigit(&digit)) {
        return false;
      }
      *out = *out * 10 + digit;
    }
    return true;
  }

 private:
  std::string_view left_;
};

bool IsLeapYear(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

int DaysInMonth(int year, int month) {
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return kDays[month - 1] + (month == 2 && IsLeapYear(year) ? 1 : 0);
}

// Days since 1970-01-01 of a date in the proleptic Gregorian calendar, year >= 1. Years begin in
// March here, which puts the leap day last.
int64_t DaysSinceEpoch(int year, int month, int day) {
  year -= month <= 2 ? 1 : 0;
  const int era = year / 400;
  const int year_of_era = year % 400;
  const int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return int64_t{era} * 146'097 + day_of_era - 719'468;
}

constexpr int kMostFractionDigits = 9;

}  // namespace

TimestampResult ParseTimestamp(std::string_view text, TimeUnit unit, bool has_zone, int64_t* out) {
  TextReader reader(text);
  int year;
  int month;
  int day;
  int hour;
  int minute;
  int second;
  if (!reader.TakeNumber(4, &year) || !reader.Take("-") || !reader.TakeNumber(2, &month) ||
      !reader.Take("-") || !reader.TakeNumber(2, &day) || !reader.Take("Tt ") ||
      !reader.TakeNumber(2, &hour) || !reader.Take(":") || !reader.TakeNumber(2, &minute) ||
      !reader.Take(":") || !reader.TakeNumber(2, &second)) {
    return TimestampResult::kMalformed;
  }
  if (year < 1 || month < 1 || month > 12 || day < 1 || day > DaysInMonth(year, month) ||
      hour > 23 || minute > 59 || second > 59) {
    return TimestampResult::kMalformed;
  }
  int64_t nanoseconds = 0;
  int fraction_digits = 0;
  if (reader.Take(".")) {
    for (int digit; reader.TakeDigit(&digit); ++fraction_digits) {
      if (fraction_digits < kMostFractionDigits) {
        nanoseconds = nanoseconds * 10 + digit;
      }
    }
    if (fraction_digits == 0) {
      return TimestampResult::kMalformed;
    }
    for (int digits = fraction_digits; digits < kMostFractionDigits; ++digits) {
      nanoseconds *= 10;
    }
  }
  int offset_minutes = 0;
  if (has_zone && !reader.Take("Zz")) {
    char sign;
    int offset_hour;
    int offset_minute;
    if (!reader.Take("+-", &sign) || !reader.TakeNumber(2, &offset_hour) || !reader.Take(":") ||
        !reader.TakeNumber(2, &offset_minute) || offset_hour > 23 || offset_minute > 59) {
      return TimestampResult::kMalformed;
    }
    offset_minutes = (offset_hour * 60 + offset_minute) * (sign == '-' ? -1 : 1);
  }
  if (!reader.AtEnd()) {
    return TimestampResult::kMalformed;
  }
  static constexpr int64_t kUnitsPerSecond[] = {1, 1'000, 1'000'000, 1'000'000'000};
  const int64_t per_second = kUnitsPerSecond[static_cast<size_t>(unit)];
  const int64_t nanoseconds_per_unit = 1'000'000'000 / per_second;
  if (fraction_digits > kMostFractionDigits || nanoseconds % nanoseconds_per_unit != 0) {
    return TimestampResult::kTooFine;
  }
  const int64_t minutes =
      (DaysSinceEpoch(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
  const int64_t seconds = minutes * 60 + second;
  // Wider than int64: the earliest nanosecond is reached only by adding the fraction.
  const __int128 value =
      static_cast<__int128>(seconds) * per_second + nanoseconds / nanoseconds_per_unit;
  if (value < INT64_MIN || value > INT64_MAX) {
    return TimestampResult::kOutOfRange;
  }
  *out = static_cast<int64_t>(value);
  return TimestampResult::kOk;
}

int64_t DecodeBase64(std::string_view text, char* out) {
  static constexpr auto kValues = [] {
    constexpr std::string_view kAlphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::array<int8_t, 256> values{};
    for (int8_t& value : values) {
      value = -1;
    }
    for (size_t i = 0; i < kAlphabet.size(); ++i) {
      values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
    }
    return values;
  }();

  if (text.size() % 4 != 0) {
    return -1;
  }
  char* const begin = out;
  for (size_t at = 0; at < text.size(); at += 4) {
    const std::string_view group = text.substr(at, 4);
    const bool last = at + 4 == text.size();
    const int padding = !last || group[3] != '=' ? 0 : group[2] != '=' ? 1 : 2;
    uint32_t bits = 0;
    for (int i = 0; i < 4 - padding; ++i) {
      const int8_t value = kValues[static_cast<unsigned char>(group[i])];
      if (value < 0) {
        return -1;
      }
      bits |= uint32_t{static_cast<uint8_t>(value)} << (18 - 6 * i);
    }
    // Bits behind the last byte must be zero, else two texts would mean the same bytes.
    if ((padding == 1 && (bits & 0xFF) != 0) || (padding == 2 && (bits & 0xFFFF) != 0)) {
      return -1;
    }
    for (int i = 0; i < 3 - padding; ++i) {
      *out++ = static_cast<char>((bits >> (16 - 8 * i)) & 0xFF);
    }
  }
  return out - begin;
}

}  // namespace sabot
