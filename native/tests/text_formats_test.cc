#include "codec/text_formats.h"

#include <string>

#include "testing.h"

namespace sabot {
namespace {

std::string Timestamp(std::string_view text, TimeUnit unit = TimeUnit::kMicrosecond,
                      bool has_zone = true) {
  int64_t value;
  switch (ParseTimestamp(text, unit, has_zone, &value)) {
    case TimestampResult::kOk:
      return std::to_string(value);
    case TimestampResult::kMalformed:
      return "malformed";
    case TimestampResult::kTooFine:
      return "too fine";
    case TimestampResult::kOutOfRange:
      return "out of range";
  }
  return "";
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
