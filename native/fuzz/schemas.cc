#include "schemas.h"

#include <array>
#include <utility>

#include "arrow_text.h"

namespace sabot::fuzz {
namespace {

using testing::DecimalField;
using testing::JsonTextField;
using testing::MakeField;
using testing::TimestampField;
using testing::UnitField;

Field ListField(std::string name, Field item) {
  return MakeField(std::move(name), TypeId::kList, {std::move(item)});
}

Field MapField(std::string name, Field value) {
  Field entry =
      MakeField("entries", TypeId::kStruct, {MakeField("key", TypeId::kString), std::move(value)});
  return MakeField(std::move(name), TypeId::kMap, {std::move(entry)});
}

std::vector<Field> OfHostileDocuments() {
  return {
      MakeField("b", TypeId::kBool),
      MakeField("i8", TypeId::kInt8),
      MakeField("i16", TypeId::kInt16),
      MakeField("i32", TypeId::kInt32),
      MakeField("i64", TypeId::kInt64),
      MakeField("u8", TypeId::kUInt8),
      MakeField("u16", TypeId::kUInt16),
      MakeField("u32", TypeId::kUInt32),
      MakeField("u64", TypeId::kUInt64),
      MakeField("f32", TypeId::kFloat32),
      MakeField("f64", TypeId::kFloat64),
      MakeField("s", TypeId::kString),
      JsonTextField("j"),
      MakeField("bin", TypeId::kBinary),
      TimestampField("ts", TimeUnit::kMicrosecond, true),
      TimestampField("ts_s", TimeUnit::kSecond, true),
      TimestampField("ts_ns", TimeUnit::kNanosecond, true),
      TimestampField("ts_berlin", TimeUnit::kMillisecond, true),
      TimestampField("local", TimeUnit::kMillisecond, false),
      MakeField("d32", TypeId::kDate32),
      MakeField("d64", TypeId::kDate64),
      UnitField("t_s", TypeId::kTime32, TimeUnit::kSecond),
      UnitField("t_ms", TypeId::kTime32, TimeUnit::kMillisecond),
      UnitField("t_us", TypeId::kTime64, TimeUnit::kMicrosecond),
      UnitField("t_ns", TypeId::kTime64, TimeUnit::kNanosecond),
      UnitField("dur", TypeId::kDuration, TimeUnit::kMillisecond),
      DecimalField("dec", TypeId::kDecimal128, 10, 2),
      DecimalField("dec38", TypeId::kDecimal128, 38, 0),
      DecimalField("dec76", TypeId::kDecimal256, 76, 38),
      DecimalField("tens", TypeId::kDecimal128, 3, -1),
      DecimalField("tiny", TypeId::kDecimal256, 3, 3),
      // Dictionary columns are built as their values.
      MakeField("cat", TypeId::kString),
      MakeField("cat_i", TypeId::kInt16),
      MakeField(
          "o", TypeId::kStruct,
          {MakeField("x", TypeId::kInt64), JsonTextField("j"),
           MakeField("in", TypeId::kStruct, {MakeField("y", TypeId::kBool)}),
           TimestampField("ts", TimeUnit::kMicrosecond, true), MakeField("cat", TypeId::kString)}),
      ListField("l", MakeField("item", TypeId::kInt32)),
      ListField("ll", ListField("item", MakeField("item", TypeId::kString))),
      ListField("lj", JsonTextField("item")),
      ListField("lo",
                MakeField("item", TypeId::kStruct,
                          {MakeField("k", TypeId::kString), MakeField("v", TypeId::kFloat64)})),
      ListField("lcat", MakeField("item", TypeId::kBinary)),
      MapField("m", MakeField("value", TypeId::kInt64)),
      MapField("mcat", MakeField("value", TypeId::kString)),
      MapField("mo", MakeField("value", TypeId::kStruct, {MakeField("x", TypeId::kFloat32)})),
      MakeField("a b", TypeId::kInt64),
      MakeField("größe", TypeId::kInt64),
      MakeField("", TypeId::kBool),
  };
}

// Small ones, because with few columns far more inputs are tried in a second.
std::vector<Field> Scalars() {
  return {MakeField("i", TypeId::kInt64),
          MakeField("u", TypeId::kUInt8),
          MakeField("f", TypeId::kFloat64),
          MakeField("g", TypeId::kFloat32),
          MakeField("s", TypeId::kString),
          MakeField("b", TypeId::kBool),
          JsonTextField("j"),
          MakeField("x", TypeId::kBinary)};
}

std::vector<Field> Times() {
  return {TimestampField("t", TimeUnit::kMillisecond, true),
          TimestampField("n", TimeUnit::kNanosecond, false),
          MakeField("d", TypeId::kDate32),
          MakeField("e", TypeId::kDate64),
          UnitField("h", TypeId::kTime32, TimeUnit::kSecond),
          UnitField("i", TypeId::kTime64, TimeUnit::kNanosecond),
          UnitField("u", TypeId::kDuration, TimeUnit::kSecond)};
}

std::vector<Field> Decimals() {
  return {DecimalField("a", TypeId::kDecimal128, 5, 2),
          DecimalField("b", TypeId::kDecimal128, 38, 38),
          DecimalField("c", TypeId::kDecimal256, 76, 0),
          DecimalField("d", TypeId::kDecimal256, 76, -20),
          DecimalField("e", TypeId::kDecimal128, 1, 0),
          ListField("l", DecimalField("item", TypeId::kDecimal128, 38, 10))};
}

std::vector<Field> Nested() {
  Field point = MakeField(
      "item", TypeId::kStruct,
      {MakeField("k", TypeId::kString),
       MapField("m", ListField("value", MakeField("item", TypeId::kBool))), JsonTextField("j")});
  return {MakeField("o", TypeId::kStruct,
                    {MakeField("p", TypeId::kStruct, {MakeField("q", TypeId::kInt8)}),
                     ListField("l", MakeField("item", TypeId::kInt64))}),
          ListField("l", point), MapField("m", point),
          ListField("n", ListField("item", ListField("item", MakeField("item", TypeId::kString)))),
          MakeField("e", TypeId::kStruct)};
}

std::vector<Field> OddNames() {
  return {MakeField("", TypeId::kInt64),
          MakeField("é😀", TypeId::kString),
          MakeField("\"", TypeId::kInt8),
          MakeField("\\", TypeId::kInt8),
          MakeField("a\nb", TypeId::kBool),
          MakeField("a", TypeId::kInt32),
          MakeField("aa", TypeId::kInt32),
          MakeField("a name of more than thirty-two letters", TypeId::kInt32)};
}

}  // namespace

const std::vector<std::vector<Field>>& Schemas() {
  static const std::vector<std::vector<Field>> schemas = {
      OfHostileDocuments(), Scalars(), Times(), Decimals(), Nested(), OddNames(), {}};
  return schemas;
}

Codec JsonCodec(size_t schema, size_t unknown_fields) {
  constexpr std::array<UnknownFields, 4> kWays = {UnknownFields::kIgnore, UnknownFields::kRescue,
                                                  UnknownFields::kFail, UnknownFields::kEvolve};
  Codec codec{Codec::Format::kJson, Schemas().at(schema % Schemas().size()),
              kWays.at(unknown_fields % kWays.size())};
  if (codec.unknown_fields == UnknownFields::kRescue) {
    codec.fields.push_back(MakeField("_rescued", TypeId::kString));
  }
  return codec;
}

}  // namespace sabot::fuzz
