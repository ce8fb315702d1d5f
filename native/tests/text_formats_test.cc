#include "codec/text_formats.h"

#include <sstream>
#include <string>

#include "arrow_text.h"
#include "testing.h"

namespace sabot {
namespace {

std::string Verdict(FormatResult result, const std::string& value) {
  switch (result) {
    case FormatResult::kOk:
      return value;
    case FormatResult::kMalformed:
      return "malformed";
    case FormatResult::kTooFine:
      return "too fine";
    case FormatResult::kOutOfRange:
      return "out of range";
  }
  return "";
}

std::string Timestamp(std::string_view text, TimeUnit unit = TimeUnit::kMicrosecond,
                      bool has_zone = true) {
  int64_t value = 0;
  const FormatResult result = ParseTimestamp(text, unit, has_zone, &value);
  return Verdict(result, std::to_string(value));
}

std::string Date(std::string_view text) {
  int64_t days = 0;
  const FormatResult result = ParseDate(text, &days);
  return Verdict(result, std::to_string(days));
}

std::string Time(std::string_view text, TimeUnit unit = TimeUnit::kMicrosecond) {
  int64_t value = 0;
  const FormatResult result = ParseTime(text, unit, &value);
  return Verdict(result, std::to_string(value));
}

std::string Decimal(std::string_view text, int32_t precision, int32_t scale) {
  Decimal256 value{};
  const FormatResult result = ParseDecimal(text, precision, scale, &value);
  std::ostringstream words;
  testing::WriteWords(value, words);
  return Verdict(result, words.str());
}

std::string Base64(std::string_view text) {
  std::string out(text.size(), '\0');
  const int64_t size = DecodeBase64(text, out.data());
  return size < 0 ? "malformed" : out.substr(0, static_cast<size_t>(size));
}

TEST(ParseTimestampGivesUtc) {
  EXPECT_EQ(Timestamp("1970-01-01T00:00:00Z"), "0");
  EXPECT_EQ(Timestamp("2024-02-29t23:59:59.000001z"), "1709251199000001");
  EXPECT_EQ(Timestamp("2024-05-17 02:30:00+02:30"), "1715904000000000");
  EXPECT_EQ(Timestamp("1969-12-31T23:59:59.5-00:00"), "-500000");
  EXPECT_EQ(Timestamp("0001-01-01T00:00:00Z", TimeUnit::kSecond), "-62135596800");
  EXPECT_EQ(Timestamp("9999-12-31T23:59:59Z", TimeUnit::kMillisecond), "253402300799000");
  EXPECT_EQ(Timestamp("2000-02-29T00:00:00", TimeUnit::kSecond, false), "951782400");
}

TEST(ParseTimestampRefusesWhatIsNone) {
  for (const char* text : {"",
                           "2024-05-17",
                           "2024-05-17T00:00:00",
                           "2024-05-17T00:00Z",
                           "2024-05-17T00:00:60Z",
                           "2024-05-17T24:00:00Z",
                           "2024-13-01T00:00:00Z",
                           "2024-00-01T00:00:00Z",
                           "2024-01-00T00:00:00Z",
                           "2023-02-29T00:00:00Z",
                           "1900-02-29T00:00:00Z",
                           "0000-01-01T00:00:00Z",
                           "2024-05-17T00:00:00.Z",
                           "2024-05-17T00:00:00+2:00",
                           "2024-05-17T00:00:00+24:00",
                           "2024-05-17T00:00:00+02:60",
                           "2024-05-17T00:00:00+0200",
                           "2024-05-17T00:00:00Zx",
                           " 2024-05-17T00:00:00Z",
                           "2024-05-17T00:00:00,5Z",
                           "+2024-05-17T00:00:00Z",
                           "2024-05-17T00:00:00.1234567891234x"}) {
    EXPECT_EQ(Timestamp(text), "malformed");
  }
  EXPECT_EQ(Timestamp("2024-05-17T00:00:00Z", TimeUnit::kSecond, false), "malformed");
}

TEST(ParseTimestampRefusesDigitsThatTheUnitCannotHold) {
  EXPECT_EQ(Timestamp("2024-05-17T00:00:00.1234567Z"), "too fine");
  EXPECT_EQ(Timestamp("2024-05-17T00:00:00.1234560Z"), "1715904000123456");
  EXPECT_EQ(Timestamp("2024-05-17T00:00:00.0000000000Z"), "too fine");
  EXPECT_EQ(Timestamp("2024-05-17T00:00:00.1Z", TimeUnit::kSecond), "too fine");
}

TEST(ParseTimestampRefusesWhatIsBeyondInt64) {
  EXPECT_EQ(Timestamp("1677-09-21T00:12:43.145224192Z", TimeUnit::kNanosecond),
            "-9223372036854775808");
  EXPECT_EQ(Timestamp("1677-09-21T00:12:43.145224191Z", TimeUnit::kNanosecond), "out of range");
  EXPECT_EQ(Timestamp("2262-04-11T23:47:16.854775807Z", TimeUnit::kNanosecond),
            "9223372036854775807");
  EXPECT_EQ(Timestamp("2262-04-11T23:47:16.854775808Z", TimeUnit::kNanosecond), "out of range");
}

TEST(ParseDateGivesDays) {
  EXPECT_EQ(Date("1970-01-01"), "0");
  EXPECT_EQ(Date("1969-12-31"), "-1");
  EXPECT_EQ(Date("0001-01-01"), "-719162");
  EXPECT_EQ(Date("9999-12-31"), "2932896");
  for (const char* text : {"", "2024-05", "2024-05-1", "2024-05-17Z", "2024-05-17T00:00:00",
                           "20240517", "2023-02-29", "0000-01-01", "2024-05-32", " 2024-05-17"}) {
    EXPECT_EQ(Date(text), "malformed");
  }
}

TEST(ParseTimeGivesUnitsSinceMidnight) {
  EXPECT_EQ(Time("00:00:00"), "0");
  EXPECT_EQ(Time("23:59:59.999999"), "86399999999");
  EXPECT_EQ(Time("23:59:59.999999999", TimeUnit::kNanosecond), "86399999999999");
  EXPECT_EQ(Time("00:00:01.5000", TimeUnit::kMillisecond), "1500");
  EXPECT_EQ(Time("00:01:00.000", TimeUnit::kSecond), "60");
  EXPECT_EQ(Time("00:00:00.0001", TimeUnit::kMillisecond), "too fine");
  EXPECT_EQ(Time("00:00:00.0000000000", TimeUnit::kNanosecond), "too fine");
  for (const char* text : {"", "12:00", "24:00:00", "00:60:00", "00:00:60", "1:00:00", "12:00:00.",
                           "12:00:00Z", "T12:00:00", "12:00:00,5"}) {
    EXPECT_EQ(Time(text), "malformed");
  }
}

TEST(ParseDecimalGivesTheUnscaledInteger) {
  EXPECT_EQ(Decimal("0", 1, 0), "0:0:0:0");
  EXPECT_EQ(Decimal("-0.00e5", 1, 0), "0:0:0:0");
  EXPECT_EQ(Decimal("2.55", 3, 2), "0:0:0:ff");
  EXPECT_EQ(Decimal("-1", 3, 0),
            "ffffffffffffffff:ffffffffffffffff:ffffffffffffffff:ffffffffffffffff");
  EXPECT_EQ(Decimal("18446744073709551616", 38, 0), "0:0:1:0");
  EXPECT_EQ(Decimal("-18446744073709551616", 38, 0),
            "ffffffffffffffff:ffffffffffffffff:ffffffffffffffff:0");
  EXPECT_EQ(Decimal("340282366920938463463374607431768211455", 39, 0),
            "0:0:ffffffffffffffff:ffffffffffffffff");
  EXPECT_EQ(Decimal("1" + std::string(75, '0'), 76, 0),
            "235fadd81c2822b:b3f07877973d50f2:8bf22a31be8ee800:0");
  EXPECT_EQ(Decimal("12.5e1", 3, 0), "0:0:0:7d");
  EXPECT_EQ(Decimal("1200E-2", 3, 0), "0:0:0:c");
  EXPECT_EQ(Decimal("2550", 3, -1), "0:0:0:ff");
  EXPECT_EQ(Decimal("0.00255", 3, 5), "0:0:0:ff");
  EXPECT_EQ(Decimal("0e99999999999999999999", 3, 5), "0:0:0:0");
}

TEST(ParseDecimalRefusesWhatTheTypeCannotHold) {
  EXPECT_EQ(Decimal("1.01", 3, 1), "too fine");
  EXPECT_EQ(Decimal("100.01", 3, 1), "too fine");
  EXPECT_EQ(Decimal("1e-99999999999999999999", 3, 1), "too fine");
  EXPECT_EQ(Decimal("5", 3, -1), "too fine");
  EXPECT_EQ(Decimal("100.0", 3, 1), "out of range");
  EXPECT_EQ(Decimal("1e99999999999999999999", 76, 0), "out of range");
  for (const char* text : {"", "-", "+1", "01", ".5", "1.", "1e", "1e+", " 1", "1 ", "1,5", "0x1",
                           "NaN", "1_0", "--1"}) {
    EXPECT_EQ(Decimal(text, 10, 2), "malformed");
  }
}

TEST(DecodeBase64TakesOnlyTheCanonicalForm) {
  EXPECT_EQ(Base64(""), "");
  EXPECT_EQ(Base64("TQ=="), "M");
  EXPECT_EQ(Base64("TWE="), "Ma");
  EXPECT_EQ(Base64("TWFu"), "Man");
  EXPECT_EQ(Base64("+/+/"), "\xfb\xff\xbf");
  for (const char* text : {"T", "TQ", "TQ=", "TQ===", "TR==", "TWF=", "TQ==TQ==", "====", "T===",
                           "TW u", "TWF\n", "-_-_", "T=Fu", "TQ=A"}) {
    EXPECT_EQ(Base64(text), "malformed");
  }
}

}  // namespace
}  // namespace sabot
