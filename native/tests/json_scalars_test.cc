#include "codec/json_scalars.h"

#include <cmath>
#include <string>
#include <vector>

#include "testing.h"

namespace sabot {
namespace {

std::string Integer(std::string_view token) {
  JsonInteger integer;
  const char* at = token.data();
  const char* const end = at + token.size();
  const NumberResult result = ReadInteger(&at, end, &integer);
  if (at != end) {
    return "not an integer";
  }
  switch (result) {
    case NumberResult::kOk:
      return (integer.negative ? "-" : "") + std::to_string(integer.magnitude);
    case NumberResult::kMalformed:
      return "malformed";
    case NumberResult::kOutOfRange:
      return "out of range";
  }
  return "";
}

std::string Double(std::string_view token) {
  double value;
  const char* at = token.data();
  const char* const end = at + token.size();
  if (ReadDouble(&at, end, &value) != NumberResult::kOk || at != end) {
    return "malformed";
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%.17g", value);
  return text;
}

std::string Unescaped(std::string_view escaped) {
  std::string out(escaped.size(), '\0');
  const int64_t size = Unescape(escaped, out.data());
  return size < 0 ? "malformed" : out.substr(0, static_cast<size_t>(size));
}

TEST(ReadIntegerTakesAllOf64Bits) {
  EXPECT_EQ(Integer("0"), "0");
  EXPECT_EQ(Integer("-0"), "-0");
  EXPECT_EQ(Integer("9999999999999999999"), "9999999999999999999");
  EXPECT_EQ(Integer("10000000000000000000"), "10000000000000000000");
  EXPECT_EQ(Integer("18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(Integer("18446744073709551616"), "out of range");
  EXPECT_EQ(Integer("19999999999999999999"), "out of range");
  EXPECT_EQ(Integer("20000000000000000000"), "out of range");
  EXPECT_EQ(Integer("99999999999999999999"), "out of range");
  EXPECT_EQ(Integer("100000000000000000000"), "out of range");
}

TEST(ReadIntegerRefusesWhatIsNone) {
  EXPECT_EQ(Integer("01"), "malformed");
  EXPECT_EQ(Integer("-01"), "malformed");
  EXPECT_EQ(Integer("-"), "malformed");
  EXPECT_EQ(Integer("1.0"), "not an integer");
  EXPECT_EQ(Integer("1e3"), "not an integer");
  EXPECT_EQ(Integer("+1"), "not an integer");
}

TEST(ReadDoubleGivesTheNearestValue) {
  EXPECT_EQ(Double("0"), "0");
  EXPECT_EQ(Double("-0"), "0");
  EXPECT_EQ(Double("-0.0"), "-0");
  EXPECT_EQ(Double("0.1"), "0.10000000000000001");
  EXPECT_EQ(Double("123456.789e-3"), "123.456789");
  EXPECT_EQ(Double("9007199254740993"), "9007199254740992");
  EXPECT_EQ(Double("9007199254740993.00000000000000000001"), "9007199254740994");
  EXPECT_EQ(Double("1.7976931348623157e308"), "1.7976931348623157e+308");
  EXPECT_EQ(Double("4.9e-324"), "4.9406564584124654e-324");
  EXPECT_EQ(Double("2.4703282292062327e-324"), "0");
  EXPECT_EQ(Double("-1e-400"), "-0");
  EXPECT_EQ(Double("0e999999999999999999999"), "0");
  EXPECT_EQ(Double("0." + std::string(400, '0') + "1e405"), "10000");
  EXPECT_EQ(Double("1" + std::string(400, '0') + "e-400"), "1");
  EXPECT_EQ(Double("1e-999999999999999999999"), "0");
}

TEST(ReadDoubleRefusesWhatIsNoNumberOrInfinite) {
  for (const char* token : {"",          "-",     "+1",     "01",      "-01",
                            ".5",        "1.",    "1.e5",   "1e",      "1e+",
                            "1e5.0",     "0x10",  "1a",     "NaN",     "Infinity",
                            "-Infinity", "1e400", "-1e400", "1.8e308", "1e999999999999999999999",
                            "1 2"}) {
    EXPECT_EQ(Double(token), "malformed");
  }
  EXPECT_EQ(Double("1" + std::string(309, '0')), "malformed");
}

TEST(UnescapeResolvesEveryEscape) {
  EXPECT_EQ(Unescaped(R"(a\"\\\/\b\f\n\r\tz)"), "a\"\\/\b\f\n\r\tz");
  EXPECT_EQ(Unescaped(R"(\u0041\u00e9\u20AC\ud83d\uDE00)"), "Aé€😀");
  EXPECT_EQ(Unescaped(R"(\u0000)"), std::string(1, '\0'));
}

TEST(UnescapeRefusesWhatIsNone) {
  for (const char* escaped :
       {"\\", "\\x41", "\\u", "\\u12", "\\u12g4", "\\ud800", "\\ud800x", "\\ud800\\n", "\\udc00",
        "\\ud800\\u0041", "\\ud800\\ud800", "\\ud83d\\u"}) {
    EXPECT_EQ(Unescaped(escaped), "malformed");
  }
}

// What the plain readers make of `token` with `behind` after it must be what the exact ones do.
void ExpectPlainAgrees(const std::string& token, const std::string& behind) {
  const std::string text = token + behind;
  // Fills its memory to the last byte, so that a sanitizer sees what reads on.
  const std::vector<char> exact(text.begin(), text.end());
  const char* const end = exact.data() + exact.size();
  int64_t integer = 0;
  if (const char* at = ReadPlainInteger(exact.data(), end, &integer); at != nullptr) {
    EXPECT_EQ(at - exact.data(), static_cast<std::ptrdiff_t>(token.size()));
    EXPECT_EQ(std::to_string(integer), token == "-0" ? "0" : Integer(token));
  }
  double number = 0;
  if (const char* at = ReadPlainDouble(exact.data(), end, &number); at != nullptr) {
    EXPECT_EQ(at - exact.data(), static_cast<std::ptrdiff_t>(token.size()));
    char found[32];
    std::snprintf(found, sizeof(found), "%.17g", number);
    EXPECT_EQ(std::string(found), Double(token));
  }
}

TEST(ReadPlainNumbersAgreesWithTheExactWay) {
  const std::string digits = "90817263544536271809";
  for (const char* behind : {"", ",", "}", " ]", ",\"name\":12345678", "\xff\x8a\x80\xba\x7f:/9"}) {
    for (const char* sign : {"", "-"}) {
      for (const char* leading : {"", "0", "00"}) {
        for (size_t count = 0; count <= digits.size(); ++count) {
          const std::string whole = sign + (leading + digits.substr(0, count));
          ExpectPlainAgrees(whole, behind);
          for (size_t fraction = 0; fraction <= digits.size(); ++fraction) {
            ExpectPlainAgrees(whole + "." + digits.substr(0, fraction), behind);
          }
          for (const char* exponent : {"e", "E5", "e-3", ".5e1"}) {
            ExpectPlainAgrees(whole + exponent, behind);
          }
        }
      }
    }
  }
}

TEST(ReadPlainNumbersTakesTheOrdinary) {
  const auto integer = [](std::string_view text) {
    int64_t value = 0;
    const char* end = ReadPlainInteger(text.data(), text.data() + text.size(), &value);
    return end == nullptr ? "none" : std::to_string(value);
  };
  EXPECT_EQ(integer("0,"), "0");
  EXPECT_EQ(integer("-12345678,"), "-12345678");
  EXPECT_EQ(integer("123456789012345678}"), "123456789012345678");
  EXPECT_EQ(integer("1234567890123456789"), "none");
  EXPECT_EQ(integer("01"), "none");
  EXPECT_EQ(integer("-"), "none");
  EXPECT_EQ(integer("x"), "none");
  EXPECT_EQ(integer("1.0"), "none");
  EXPECT_EQ(integer("1e2"), "none");
}

}  // namespace
}  // namespace sabot
