#include "codec/text_formats.h"

#include <algorithm>
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
  std::string_view TakeDigits() {
    const size_t digits = std::min(left_.find_first_not_of("0123456789"), left_.size());
    const std::string_view taken = left_.substr(0, digits);
    left_.remove_prefix(digits);
    return taken;
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

// Reads YYYY-MM-DD as days since 1970-01-01.
bool TakeDate(TextReader* reader, int64_t* days) {
  int year;
  int month;
  int day;
  if (!reader->TakeNumber(4, &year) || !reader->Take("-") || !reader->TakeNumber(2, &month) ||
      !reader->Take("-") || !reader->TakeNumber(2, &day) || year < 1 || month < 1 || month > 12 ||
      day < 1 || day > DaysInMonth(year, month)) {
    return false;
  }
  *days = DaysSinceEpoch(year, month, day);
  return true;
}

constexpr int64_t kSecondsPerDay = 86'400;
constexpr int kMostFractionDigits = 9;
constexpr std::string_view kBase64Alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct TimeOfDay {
  int64_t seconds = 0;
  int64_t nanoseconds = 0;
  int fraction_digits = 0;  // As written; what is beyond kMostFractionDigits is not counted in.
};

// Reads hh:mm:ss[.fraction].
bool TakeTime(TextReader* reader, TimeOfDay* out) {
  int hour;
  int minute;
  int second;
  if (!reader->TakeNumber(2, &hour) || !reader->Take(":") || !reader->TakeNumber(2, &minute) ||
      !reader->Take(":") || !reader->TakeNumber(2, &second) || hour > 23 || minute > 59 ||
      second > 59) {
    return false;
  }
  out->seconds = int64_t{hour} * 3600 + int64_t{minute} * 60 + second;
  if (!reader->Take(".")) {
    return true;
  }
  for (int digit; reader->TakeDigit(&digit); ++out->fraction_digits) {
    if (out->fraction_digits < kMostFractionDigits) {
      out->nanoseconds = out->nanoseconds * 10 + digit;
    }
  }
  for (int digits = out->fraction_digits; digits < kMostFractionDigits; ++digits) {
    out->nanoseconds *= 10;
  }
  return out->fraction_digits > 0;
}

int64_t UnitsPerSecond(TimeUnit unit) {
  static constexpr int64_t kUnits[] = {1, 1'000, 1'000'000, 1'000'000'000};
  return kUnits[static_cast<size_t>(unit)];
}

bool IsTooFine(const TimeOfDay& time, TimeUnit unit) {
  return time.fraction_digits > kMostFractionDigits ||
         time.nanoseconds % (1'000'000'000 / UnitsPerSecond(unit)) != 0;
}

// Seconds and the fraction of a second, in units.
__int128 InUnits(int64_t seconds, const TimeOfDay& time, TimeUnit unit) {
  const int64_t per_second = UnitsPerSecond(unit);
  // Wider than int64: the earliest nanosecond is reached only by adding the fraction.
  return static_cast<__int128>(seconds) * per_second +
         time.nanoseconds / (1'000'000'000 / per_second);
}

// Exponents beyond this are all alike, and adding to them must not overflow.
constexpr int64_t kHugeExponent = 1'000'000'000'000;

// The value times `factor`, plus `addend`.
void MultiplyAdd(Decimal256* value, uint64_t factor, uint64_t addend) {
  for (uint64_t& word : *value) {
    const auto product = static_cast<unsigned __int128>(word) * factor + addend;
    word = static_cast<uint64_t>(product);
    addend = static_cast<uint64_t>(product >> 64);
  }
}

void Negate(Decimal256* value) {
  uint64_t carry = 1;
  for (uint64_t& word : *value) {
    word = ~word + carry;
    carry = carry != 0 && word == 0 ? 1 : 0;
  }
}

}  // namespace

FormatResult ParseTimestamp(std::string_view text, TimeUnit unit, bool has_zone, int64_t* out) {
  TextReader reader(text);
  int64_t days;
  TimeOfDay time;
  if (!TakeDate(&reader, &days) || !reader.Take("Tt ") || !TakeTime(&reader, &time)) {
    return FormatResult::kMalformed;
  }
  int offset_minutes = 0;
  if (has_zone && !reader.Take("Zz")) {
    char sign;
    int offset_hour;
    int offset_minute;
    if (!reader.Take("+-", &sign) || !reader.TakeNumber(2, &offset_hour) || !reader.Take(":") ||
        !reader.TakeNumber(2, &offset_minute) || offset_hour > 23 || offset_minute > 59) {
      return FormatResult::kMalformed;
    }
    offset_minutes = (offset_hour * 60 + offset_minute) * (sign == '-' ? -1 : 1);
  }
  if (!reader.AtEnd()) {
    return FormatResult::kMalformed;
  }
  if (IsTooFine(time, unit)) {
    return FormatResult::kTooFine;
  }
  const int64_t seconds = days * kSecondsPerDay + time.seconds - int64_t{offset_minutes} * 60;
  const __int128 value = InUnits(seconds, time, unit);
  if (value < INT64_MIN || value > INT64_MAX) {
    return FormatResult::kOutOfRange;
  }
  *out = static_cast<int64_t>(value);
  return FormatResult::kOk;
}

FormatResult ParseDate(std::string_view text, int64_t* days) {
  TextReader reader(text);
  return TakeDate(&reader, days) && reader.AtEnd() ? FormatResult::kOk : FormatResult::kMalformed;
}

FormatResult ParseTime(std::string_view text, TimeUnit unit, int64_t* out) {
  TextReader reader(text);
  TimeOfDay time;
  if (!TakeTime(&reader, &time) || !reader.AtEnd()) {
    return FormatResult::kMalformed;
  }
  if (IsTooFine(time, unit)) {
    return FormatResult::kTooFine;
  }
  *out = static_cast<int64_t>(InUnits(time.seconds, time, unit));
  return FormatResult::kOk;
}

FormatResult ParseDecimal(std::string_view text, int32_t precision, int32_t scale,
                          Decimal256* out) {
  TextReader reader(text);
  const bool negative = reader.Take("-");
  const std::string_view integer = reader.TakeDigits();
  if (integer.empty() || (integer.size() > 1 && integer.front() == '0')) {
    return FormatResult::kMalformed;
  }
  std::string_view fraction;
  if (reader.Take(".")) {
    fraction = reader.TakeDigits();
    if (fraction.empty()) {
      return FormatResult::kMalformed;
    }
  }
  int64_t exponent = 0;
  if (reader.Take("eE")) {
    char sign = '+';
    reader.Take("+-", &sign);
    const std::string_view digits = reader.TakeDigits();
    if (digits.empty()) {
      return FormatResult::kMalformed;
    }
    for (const char digit : digits) {
      exponent = std::min(exponent * 10 + (digit - '0'), kHugeExponent);
    }
    exponent = sign == '-' ? -exponent : exponent;
  }
  if (!reader.AtEnd()) {
    return FormatResult::kMalformed;
  }
  const auto integer_digits = static_cast<int64_t>(integer.size());
  const auto digits = integer_digits + static_cast<int64_t>(fraction.size());
  const auto digit_at = [&](int64_t index) {
    if (index >= digits) {
      return 0;
    }
    return (index < integer_digits ? integer[static_cast<size_t>(index)]
                                   : fraction[static_cast<size_t>(index - integer_digits)]) -
           '0';
  };
  int64_t first = 0;
  while (first < digits && digit_at(first) == 0) {
    ++first;
  }
  *out = {};
  if (first == digits) {
    return FormatResult::kOk;
  }
  // Where the unscaled integer ends among the digits, or behind them.
  const int64_t end = integer_digits + exponent + scale;
  for (int64_t index = std::max<int64_t>(end, 0); index < digits; ++index) {
    if (digit_at(index) != 0) {
      return FormatResult::kTooFine;
    }
  }
  if (end - first > precision) {
    return FormatResult::kOutOfRange;
  }
  // As many digits at a time as a word takes.
  constexpr int64_t kMostAtOnce = 19;
  for (int64_t index = first; index < end;) {
    uint64_t chunk = 0;
    uint64_t factor = 1;
    for (const int64_t stop = std::min(index + kMostAtOnce, end); index < stop; ++index) {
      chunk = chunk * 10 + static_cast<uint64_t>(digit_at(index));
      factor *= 10;
    }
    MultiplyAdd(out, factor, chunk);
  }
  if (negative) {
    Negate(out);
  }
  return FormatResult::kOk;
}

int64_t DecodeBase64(std::string_view text, char* out) {
  static constexpr auto kValues = [] {
    std::array<int8_t, 256> values{};
    for (int8_t& value : values) {
      value = -1;
    }
    for (size_t i = 0; i < kBase64Alphabet.size(); ++i) {
      values[static_cast<unsigned char>(kBase64Alphabet[i])] = static_cast<int8_t>(i);
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

namespace {

// Rounds down, also below zero.
int64_t FloorDivide(int64_t value, int64_t by) { return value / by - (value % by < 0 ? 1 : 0); }

void AppendDigits(int64_t value, int digits, std::string* out) {
  const size_t end = out->size() + static_cast<size_t>(digits);
  out->resize(end);
  for (int digit = 1; digit <= digits; ++digit, value /= 10) {
    (*out)[end - static_cast<size_t>(digit)] = static_cast<char>('0' + value % 10);
  }
}

// hh:mm:ss, and as many digits of the fraction as the unit has.
void AppendTimeOfDay(int64_t seconds, int64_t fraction, TimeUnit unit, std::string* out) {
  AppendDigits(seconds / 3600, 2, out);
  *out += ':';
  AppendDigits(seconds / 60 % 60, 2, out);
  *out += ':';
  AppendDigits(seconds % 60, 2, out);
  if (unit != TimeUnit::kSecond) {
    *out += '.';
    AppendDigits(fraction, 3 * static_cast<int>(unit), out);
  }
}

}  // namespace

bool AppendDate(int64_t days, std::string* out) {
  constexpr int64_t kFirst = -719'162;  // 0001-01-01
  constexpr int64_t kLast = 2'932'896;  // 9999-12-31
  if (days < kFirst || days > kLast) {
    return false;
  }
  // As DaysSinceEpoch: years begin in March, and an era has 400 of them.
  days += 719'468;
  const int64_t era = days / 146'097;
  const int64_t day_of_era = days % 146'097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1'460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * day_of_year + 2) / 153;
  const int64_t month = month_from_march + (month_from_march < 10 ? 3 : -9);
  AppendDigits(era * 400 + year_of_era + (month <= 2 ? 1 : 0), 4, out);
  *out += '-';
  AppendDigits(month, 2, out);
  *out += '-';
  AppendDigits(day_of_year - (153 * month_from_march + 2) / 5 + 1, 2, out);
  return true;
}

bool AppendTimestamp(int64_t value, TimeUnit unit, bool has_zone, std::string* out) {
  const int64_t per_second = UnitsPerSecond(unit);
  const int64_t seconds = FloorDivide(value, per_second);
  const int64_t days = FloorDivide(seconds, kSecondsPerDay);
  if (!AppendDate(days, out)) {
    return false;
  }
  *out += 'T';
  // Not by multiplying: the earliest second in nanoseconds is beyond int64.
  const int64_t rest = value % per_second;
  AppendTimeOfDay(seconds - days * kSecondsPerDay, rest < 0 ? rest + per_second : rest, unit, out);
  if (has_zone) {
    *out += 'Z';
  }
  return true;
}

bool AppendTime(int64_t value, TimeUnit unit, std::string* out) {
  const int64_t per_second = UnitsPerSecond(unit);
  if (value < 0 || value >= kSecondsPerDay * per_second) {
    return false;
  }
  AppendTimeOfDay(value / per_second, value % per_second, unit, out);
  return true;
}

void AppendDecimal(const Decimal256& value, int32_t scale, std::string* out) {
  Decimal256 left = value;
  if (static_cast<int64_t>(left.back()) < 0) {
    *out += '-';
    Negate(&left);
  }
  // The unscaled digits, the last one first; as many at a time as a word takes.
  constexpr uint64_t kChunk = 10'000'000'000'000'000'000U;
  constexpr int kChunkDigits = 19;
  std::string digits;
  while (left != Decimal256{}) {
    unsigned __int128 rest = 0;
    for (size_t word = left.size(); word-- > 0;) {
      rest = rest << 64 | left[word];
      left[word] = static_cast<uint64_t>(rest / kChunk);
      rest %= kChunk;
    }
    auto chunk = static_cast<uint64_t>(rest);
    for (int digit = 0; digit < kChunkDigits; ++digit, chunk /= 10) {
      digits += static_cast<char>('0' + chunk % 10);
    }
  }
  digits.erase(digits.find_last_not_of('0') + 1);
  const auto fraction = static_cast<size_t>(std::max(scale, 0));
  if (digits.size() <= fraction) {
    digits.append(fraction + 1 - digits.size(), '0');
  }
  out->append(digits.rbegin(), digits.rend() - static_cast<std::ptrdiff_t>(fraction));
  if (scale > 0) {
    *out += '.';
    out->append(digits.rend() - static_cast<std::ptrdiff_t>(fraction), digits.rend());
  } else if (digits != "0") {
    out->append(static_cast<size_t>(-scale), '0');
  }
}

Decimal256 Widened(const Decimal128& value) {
  const uint64_t sign = static_cast<int64_t>(value[1]) < 0 ? ~uint64_t{0} : 0;
  return {value[0], value[1], sign, sign};
}

void AppendBase64(std::string_view bytes, std::string* out) {
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const std::string_view group = bytes.substr(at, 3);
    uint32_t bits = 0;
    for (size_t i = 0; i < group.size(); ++i) {
      bits |= uint32_t{static_cast<uint8_t>(group[i])} << (16 - 8 * i);
    }
    for (size_t i = 0; i < 4; ++i) {
      *out += i <= group.size() ? kBase64Alphabet[(bits >> (18 - 6 * i)) & 0x3F] : '=';
    }
  }
}

}  // namespace sabot
