#include "codec/json_encoder.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "arrow_text.h"
#include "codec/json_scalars.h"
#include "codec/text_formats.h"
#include "test_array.h"
#include "testing.h"

namespace sabot {
namespace {

using testing::DecimalField;
using testing::JsonTextField;
using testing::MakeField;
using testing::TestArray;
using testing::TimestampField;
using testing::UnitField;

// What the encoder makes of one row of a batch with one column, or why it does not.
std::string Row(const Field& field, TestArray* column, int64_t row = 0) {
  TestArray batch(column->array.length);
  batch.Add(static_cast<const void*>(nullptr));
  batch.Add(column);
  JsonEncoder encoder({field});
  encoder.Begin(batch.array);
  std::string out = "before";
  if (const auto failure = encoder.Encode(row, &out); failure.has_value()) {
    EXPECT_EQ(out, "before");
    return failure->field + ": " + failure->reason;
  }
  return out.substr(6);
}

template <typename T>
std::string Number(const Field& field, T value) {
  TestArray column(1);
  column.Add(static_cast<const void*>(nullptr));
  column.Add(&value);
  return Row(field, &column);
}

std::string Bytes(const Field& field, std::string_view value) {
  const int32_t offsets[] = {0, static_cast<int32_t>(value.size())};
  TestArray column(1);
  column.Add(static_cast<const void*>(nullptr));
  column.Add(offsets);
  column.Add(value.data());
  return Row(field, &column);
}

std::string Double(double value) {
  std::string out;
  AppendDouble(value, &out);
  return out;
}

TEST(AppendDoubleWritesTheShortestNumber) {
  EXPECT_EQ(Double(0.0), "0.0");
  EXPECT_EQ(Double(-0.0), "-0.0");
  EXPECT_EQ(Double(0.1), "0.1");
  EXPECT_EQ(Double(100), "100.0");
  EXPECT_EQ(Double(-12.5), "-12.5");
  EXPECT_EQ(Double(1e15), "1000000000000000.0");
  EXPECT_EQ(Double(1.5e15), "1500000000000000.0");
  EXPECT_EQ(Double(1e16), "1e+16");
  EXPECT_EQ(Double(1.25e17), "1.25e+17");
  EXPECT_EQ(Double(0.00001), "0.00001");
  EXPECT_EQ(Double(0.000001), "1e-6");
  EXPECT_EQ(Double(1.7976931348623157e308), "1.7976931348623157e+308");
  EXPECT_EQ(Double(5e-324), "5e-324");
}

TEST(NumbersAreWrittenAsTheyAreRead) {
  EXPECT_EQ(Number(MakeField("a", TypeId::kInt8), int8_t{-128}), R"({"a":-128})");
  EXPECT_EQ(Number(MakeField("a", TypeId::kUInt64), UINT64_MAX), R"({"a":18446744073709551615})");
  EXPECT_EQ(Number(MakeField("a", TypeId::kInt64), INT64_MIN), R"({"a":-9223372036854775808})");
  EXPECT_EQ(Number(MakeField("a", TypeId::kFloat32), 0.1F), R"({"a":0.1})");
  EXPECT_EQ(Number(MakeField("a", TypeId::kFloat64), std::numeric_limits<double>::infinity()),
            "$.a: not finite, for which JSON has no number");
  EXPECT_EQ(Number(MakeField("a", TypeId::kFloat32), std::numeric_limits<float>::quiet_NaN()),
            "$.a: not finite, for which JSON has no number");
}

TEST(TimesAreWrittenInTheDigitsOfTheirUnit) {
  EXPECT_EQ(Number(TimestampField("t", TimeUnit::kSecond, true), int64_t{0}),
            R"({"t":"1970-01-01T00:00:00Z"})");
  EXPECT_EQ(Number(TimestampField("t", TimeUnit::kMillisecond, false), int64_t{-1}),
            R"({"t":"1969-12-31T23:59:59.999"})");
  EXPECT_EQ(Number(TimestampField("t", TimeUnit::kNanosecond, true), INT64_MIN),
            R"({"t":"1677-09-21T00:12:43.145224192Z"})");
  EXPECT_EQ(Number(TimestampField("t", TimeUnit::kSecond, true), int64_t{253'402'300'799}),
            R"({"t":"9999-12-31T23:59:59Z"})");
  EXPECT_EQ(Number(TimestampField("t", TimeUnit::kSecond, true), int64_t{253'402'300'800}),
            "$.t: a year beyond 0001 to 9999");
  EXPECT_EQ(Number(TimestampField("t", TimeUnit::kSecond, true), int64_t{-62'135'596'801}),
            "$.t: a year beyond 0001 to 9999");
  EXPECT_EQ(Number(MakeField("d", TypeId::kDate32), int32_t{19'782}), R"({"d":"2024-02-29"})");
  EXPECT_EQ(Number(MakeField("d", TypeId::kDate64), int64_t{-86'400'000}), R"({"d":"1969-12-31"})");
  EXPECT_EQ(Number(MakeField("d", TypeId::kDate64), int64_t{1}), "$.d: not a whole day");
  EXPECT_EQ(Number(UnitField("t", TypeId::kTime32, TimeUnit::kSecond), int32_t{86'399}),
            R"({"t":"23:59:59"})");
  EXPECT_EQ(Number(UnitField("t", TypeId::kTime64, TimeUnit::kMicrosecond), int64_t{1}),
            R"({"t":"00:00:00.000001"})");
  EXPECT_EQ(Number(UnitField("t", TypeId::kTime32, TimeUnit::kSecond), int32_t{86'400}),
            "$.t: not a time of day");
}

// Every day there is, by way of the parser.
TEST(DatesAreReadBackAsTheSameDay) {
  for (int64_t day = -719'162; day <= 2'932'896; ++day) {
    std::string text;
    int64_t read = 0;
    if (!AppendDate(day, &text) || ParseDate(text, &read) != FormatResult::kOk || read != day) {
      EXPECT_EQ(text, std::to_string(day));
      return;
    }
  }
}

std::string Decimal(int32_t scale, int64_t value) {
  const auto low = static_cast<uint64_t>(value);
  return Number(DecimalField("n", TypeId::kDecimal128, 38, scale),
                Decimal128{low, value < 0 ? ~uint64_t{0} : 0});
}

TEST(DecimalsAreWrittenWithAllDigitsOfTheirScale) {
  EXPECT_EQ(Decimal(2, 1230), R"({"n":12.30})");
  EXPECT_EQ(Decimal(2, -5), R"({"n":-0.05})");
  EXPECT_EQ(Decimal(2, 0), R"({"n":0.00})");
  EXPECT_EQ(Decimal(0, 7), R"({"n":7})");
  EXPECT_EQ(Decimal(-3, 12), R"({"n":12000})");
  EXPECT_EQ(Decimal(-3, 0), R"({"n":0})");
  EXPECT_EQ(Number(DecimalField("n", TypeId::kDecimal128, 38, 0),
                   Decimal128{0x098a223fffffffff, 0x4b3b4ca85a86c47a}),
            R"({"n":99999999999999999999999999999999999999})");
}

TEST(StringsAreEscapedAndChecked) {
  EXPECT_EQ(Bytes(MakeField("s", TypeId::kString), "a\"\\\n\x01\x7f/\xc3\xa9"),
            "{\"s\":\"a\\\"\\\\\\n\\u0001\x7f/\xc3\xa9\"}");
  EXPECT_EQ(Bytes(MakeField("s", TypeId::kString), "\xff"), "$.s: invalid UTF-8");
  EXPECT_EQ(Bytes(MakeField("b c", TypeId::kString), "\xff"), R"($["b c"]: invalid UTF-8)");
  EXPECT_EQ(Bytes(MakeField("b", TypeId::kBinary), ""), R"({"b":""})");
  EXPECT_EQ(Bytes(MakeField("b", TypeId::kBinary), "\xff"), R"({"b":"/w=="})");
  EXPECT_EQ(Bytes(MakeField("b", TypeId::kBinary), "ab"), R"({"b":"YWI="})");
  EXPECT_EQ(Bytes(MakeField("b", TypeId::kBinary), "abc"), R"({"b":"YWJj"})");
}

TEST(JsonTextIsWrittenAsItIsIfItIsOneText) {
  const Field field = JsonTextField("x");
  EXPECT_EQ(Bytes(field, R"({"a": [1, 2.50]})"), R"({"x":{"a": [1, 2.50]}})");
  EXPECT_EQ(Bytes(field, "null"), R"({"x":null})");
  for (const char* text : {"", "1,2", R"(1,"y":2)", "}", R"(1},{"y":2)", "1],[2", "NaN", "1 2"}) {
    EXPECT_EQ(Bytes(field, text), "$.x: malformed JSON");
  }
  // With the row's own object as many levels as are read.
  EXPECT_EQ(Bytes(field, std::string(127, '[') + std::string(127, ']')).substr(0, 6), R"({"x":[)");
  EXPECT_EQ(Bytes(field, std::string(128, '[') + std::string(128, ']')),
            "$.x: nested deeper than 128 levels");
}

// list<struct<s: string>> and map<string, int64>, with offsets and nulls, of which rows from the
// second on are looked at.
TEST(NestedValuesOfASliceAreFoundByTheirOffsets) {
  const int32_t text_offsets[] = {0, 1, 1, 2, 3};
  const uint8_t text_valid = 0b1101;
  TestArray text(4);
  text.Add(&text_valid);
  text.Add(text_offsets);
  text.Add("abc");
  TestArray item(4);
  item.Add(static_cast<const void*>(nullptr));
  item.Add(&text);
  const int32_t list_offsets[] = {0, 1, 3, 3, 4};
  const uint8_t list_valid = 0b1011;
  TestArray list(3);
  list.array.offset = 1;
  list.Add(&list_valid);
  list.Add(list_offsets);
  list.Add(&item);
  const Field items = MakeField("item", TypeId::kStruct, {MakeField("s", TypeId::kString)});
  const Field lists = MakeField("l", TypeId::kList, {items});
  EXPECT_EQ(Row(lists, &list, 0), R"({"l":[{"s":null},{"s":"b"}]})");
  EXPECT_EQ(Row(lists, &list, 1), R"({"l":null})");
  EXPECT_EQ(Row(lists, &list, 2), R"({"l":[{"s":"c"}]})");

  const int32_t key_offsets[] = {0, 1, 2, 3, 4};
  TestArray key(4);
  key.Add(static_cast<const void*>(nullptr));
  key.Add(key_offsets);
  key.Add("kxyx");
  const int64_t numbers[] = {1, 2, 3, 4};
  TestArray number(4);
  number.Add(static_cast<const void*>(nullptr));
  number.Add(numbers);
  TestArray entry(4);
  entry.Add(static_cast<const void*>(nullptr));
  entry.Add(&key);
  entry.Add(&number);
  const int32_t map_offsets[] = {0, 1, 3, 4};
  TestArray map(3);
  map.Add(static_cast<const void*>(nullptr));
  map.Add(map_offsets);
  map.Add(&entry);
  const Field entries =
      MakeField("entries", TypeId::kStruct,
                {MakeField("key", TypeId::kString), MakeField("value", TypeId::kInt64)});
  const Field maps = MakeField("m", TypeId::kMap, {entries});
  EXPECT_EQ(Row(maps, &map, 1), R"({"m":{"x":2,"y":3}})");
  const int32_t all[] = {0, 4};
  TestArray whole(1);
  whole.Add(static_cast<const void*>(nullptr));
  whole.Add(all);
  whole.Add(&entry);
  EXPECT_EQ(Row(maps, &whole), "$.m: a key that comes twice");
}

}  // namespace
}  // namespace sabot
