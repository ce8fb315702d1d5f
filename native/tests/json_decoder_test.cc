#include "codec/json_decoder.h"

#include <random>

#include "arrow_text.h"
#include "testing.h"

namespace sabot {
namespace {

using testing::ColumnText;
using testing::DecimalField;
using testing::JsonTextField;
using testing::MakeField;
using testing::TimestampField;
using testing::UnitField;

// A decoder with a column for each field.
class Columns {
 public:
  explicit Columns(std::vector<Field> fields, UnknownFields unknown_fields = UnknownFields::kIgnore)
      : fields_(std::move(fields)), pool_(BufferPool::Make(1 << 20)) {
    std::vector<ColumnBuilder*> pointers;
    for (const Field& field : fields_) {
      builders_.push_back(MakeColumnBuilder(field, pool_));
      pointers.push_back(builders_.back().get());
    }
    decoder_ = std::make_unique<JsonDecoder>(fields_, pointers, unknown_fields);
  }

  JsonDecoder& decoder() { return *decoder_; }
  int64_t rows() const { return builders_.front()->length(); }
  bool AreAligned() const {
    for (const auto& builder : builders_) {
      if (builder->length() != rows()) {
        return false;
      }
    }
    return true;
  }

  // Decodes a copy that fills its memory to the last byte, so that a sanitizer sees what reads on.
  std::string Decode(std::string_view document) {
    const std::vector<char> exact(document.begin(), document.end());
    const auto failure = decoder_->Decode({exact.data(), exact.size()});
    is_new_field_ = failure && failure->is_new_field;
    return failure ? failure->field + ": " + failure->reason : "";
  }

  // Of the last document.
  bool is_new_field() const { return is_new_field_; }

  // The columns' values, separated by " | ".
  std::string Export() {
    std::string text;
    for (size_t i = 0; i < fields_.size(); ++i) {
      ArrowArray array;
      builders_[i]->Export(&array);
      text += (i == 0 ? "" : " | ") + ColumnText(fields_[i], array);
      array.release(&array);
    }
    return text;
  }

 private:
  std::vector<Field> fields_;
  std::shared_ptr<BufferPool> pool_;
  std::vector<std::unique_ptr<ColumnBuilder>> builders_;
  std::unique_ptr<JsonDecoder> decoder_;
  bool is_new_field_ = false;
};

std::vector<Field> ManyFields() {
  return {
      MakeField("i", TypeId::kInt64),
      MakeField("f", TypeId::kFloat64),
      MakeField("s", TypeId::kString),
      MakeField("b", TypeId::kBool),
      JsonTextField("j"),
      TimestampField("t", TimeUnit::kMillisecond, true),
      MakeField("bin", TypeId::kBinary),
      MakeField("d", TypeId::kDate32),
      UnitField("tm", TypeId::kTime64, TimeUnit::kMicrosecond),
      UnitField("du", TypeId::kDuration, TimeUnit::kNanosecond),
      DecimalField("dec", TypeId::kDecimal128, 5, 2),
      DecimalField("wide", TypeId::kDecimal256, 40, 0),
      MakeField("o", TypeId::kStruct,
                {MakeField("x", TypeId::kInt8),
                 MakeField("l", TypeId::kList, {MakeField("item", TypeId::kString)})}),
      MakeField(
          "m", TypeId::kMap,
          {MakeField("entries", TypeId::kStruct,
                     {MakeField("key", TypeId::kString), MakeField("value", TypeId::kUInt16)})})};
}

constexpr std::string_view kOrdinary =
    R"({"i":-7,"f":2.5,"s":"é","b":true,"j":{"a":[1, "x"]},"t":"1970-01-01T00:00:01Z",)"
    R"("bin":"TWFu","d":"1970-01-03","tm":"00:00:01","du":-5,"dec":2.55,"wide":"-1","o":{"x":1,"l":["p",null,"q"]},"m":{"k":1,"n":2}})";
constexpr std::string_view kOrdinaryRow =
    R"(-7 | 2.5 | "é" | true | "{"a":[1,"x"]}" | 1000 | "Man" | 2 | 1000000 | -5 | 0:ff |)"
    R"( ffffffffffffffff:ffffffffffffffff:ffffffffffffffff:ffffffffffffffff |)"
    R"( {x:1,l:["p",null,"q"]} |)"
    R"( [{key:"k",value:1},{key:"n",value:2}])";

TEST(DecodeOrdinaryDocumentFillsEveryColumn) {
  Columns columns(ManyFields());
  EXPECT_EQ(columns.Decode(kOrdinary), "");
  EXPECT_EQ(columns.Export(), kOrdinaryRow);
}

TEST(DecodeTheExactWayGivesTheSameRow) {
  Columns columns(ManyFields());
  // An escaped key is not ordinary.
  std::string document(kOrdinary);
  document.replace(0, 4, R"({"\u0069")");
  EXPECT_EQ(columns.Decode(document), "");
  EXPECT_EQ(columns.Export(), kOrdinaryRow);
}

TEST(DecodeMissingFieldsAndNullsGivesNulls) {
  Columns columns({MakeField("a", TypeId::kInt64), MakeField("b", TypeId::kString)});
  EXPECT_EQ(columns.Decode("{}"), "");
  EXPECT_EQ(columns.Decode(R"( { "b" : null , "a" : 1 } )"), "");
  EXPECT_EQ(columns.Decode(R"({"b":"x"})"), "");
  EXPECT_EQ(columns.Export(), R"(null 1 null | null null "x")");
}

TEST(DecodeStringsOfEveryLengthTakesThemWhole) {
  for (size_t size = 0; size < 60; ++size) {
    const std::string plain(size, 'x');
    // The string in quotes, with `between` in the middle.
    const auto twice = [&](std::string_view between) {
      std::string text = "\"";
      return text.append(plain).append(between).append(plain).append("\"");
    };
    for (const std::string& behind : {std::string(), std::string(40, ' ')}) {
      Columns columns({MakeField("s", TypeId::kString)});
      const auto decode = [&](std::string_view value) {
        std::string text = "{\"s\":";
        return columns.Decode(text.append(value).append(behind).append("}"));
      };
      EXPECT_EQ(decode(twice("")), "");
      EXPECT_EQ(decode(twice("\\n")), "");
      EXPECT_EQ(decode(twice("é")), "");
      EXPECT_EQ(decode(twice("\n")), "$: malformed JSON");
      EXPECT_EQ(decode(twice("\xff")), "$: malformed JSON");
      EXPECT_EQ(columns.Decode(std::string("{\"s\":\"").append(plain)), "$: malformed JSON");
      std::string expected = twice("");
      expected.append(" ").append(twice("\n")).append(" ").append(twice("é"));
      EXPECT_EQ(columns.Export(), expected);
    }
  }
}

TEST(DecodeDuplicateKeysTakesTheLastInThePlaceOfTheFirst) {
  Columns columns(
      {MakeField("a", TypeId::kInt64),
       MakeField("m", TypeId::kMap,
                 {MakeField("", TypeId::kStruct,
                            {MakeField("k", TypeId::kString), MakeField("v", TypeId::kInt8)})})});
  EXPECT_EQ(columns.Decode(R"({"a":"no number","a":2})"), "");
  EXPECT_EQ(columns.Decode(R"({"m":{"x":1,"y":2,"\u0078":3}})"), "");
  EXPECT_EQ(columns.Decode(R"({"a":1,"m":[],"a":false})"),
            "$.a: expected an integer, found a boolean");
  EXPECT_EQ(columns.Export(), R"(2 null | null [{k:"x",v:3},{k:"y",v:2}])");
}

TEST(DecodeMapOfManyKeysKeepsTheirOrder) {
  Columns columns(
      {MakeField("m", TypeId::kMap,
                 {MakeField("", TypeId::kStruct,
                            {MakeField("k", TypeId::kString), MakeField("v", TypeId::kInt8)})})});
  std::string document = R"({"m":{)";
  std::string expected = "[";
  for (int i = 0; i < 100; ++i) {
    document += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":1";
    expected += (i == 0 ? "{k:\"k" : ",{k:\"k") + std::to_string(i) + "\",v:1}";
  }
  EXPECT_EQ(columns.Decode(document + "}}"), "");
  EXPECT_EQ(columns.Export(), expected + "]");
}

TEST(DecodeMalformedDocumentsRefusesThem) {
  Columns columns(ManyFields());
  for (const std::string_view document : {"",
                                          " ",
                                          "{",
                                          "}",
                                          "{]",
                                          "[}",
                                          "{\"i\"",
                                          "{\"i\":",
                                          "{\"i\":1",
                                          "{\"i\":1,",
                                          "{\"i\":1,}",
                                          "{,}",
                                          "{\"i\" 1}",
                                          "{\"i\",1}",
                                          "{1:1}",
                                          "{i:1}",
                                          "{'i':1}",
                                          "{\"i\":1}}",
                                          "{\"i\":1}x",
                                          "{\"i\":1}{}",
                                          "{\"i\":01}",
                                          "{\"i\":-}",
                                          "{\"i\":1.}",
                                          "{\"i\":1e400}",
                                          "{\"i\":NaN}",
                                          "{\"b\":tru}",
                                          "{\"b\":trueish}",
                                          "{\"b\":nul}",
                                          "{\"z\":nulL}",
                                          "{\"z\":1e400}",
                                          "{\"z\":\"\\x\"}",
                                          "{\"z\":\"\\ud800\"}",
                                          "{\"z\":\"\\u12\"}",
                                          "{\"s\":\"\x01\"}",
                                          "{\"z\":\"\xff\"}",
                                          "{\"\\ud800\":1}",
                                          "\xef\xbb\xbf{}",
                                          "{\"z\":[1,]}",
                                          "{\"z\":[1 2]}",
                                          "{\"z\":{\"a\"}}",
                                          "{\"s\":\"x}",
                                          "{\"s\":\"x\\\"}",
                                          "{\"a\":1\"b\":2}",
                                          "{\"a\":\"x\"1}",
                                          "{\"o\":{\"x\":1}",
                                          "{\"m\":{\"k\":}}",
                                          "{\"i\":\"x\",\"z\":}",
                                          "{\"i\":1\\\"a\":2}",
                                          "{\"i\":1\x0c}",
                                          "{\"i\"\x1a 1}",
                                          "[1,",
                                          "nul",
                                          "-",
                                          "\"x",
                                          "{\"j\":[}",
                                          "{\"i\":1 \"\"}"}) {
    const std::string verdict = columns.Decode(document);
    if (verdict != "$: malformed JSON") {
      testing::Fail(__FILE__, __LINE__) << document << " gives '" << verdict << "'\n";
    }
  }
  EXPECT_EQ(columns.rows(), 0);
  EXPECT(columns.AreAligned());
  EXPECT_EQ(columns.Decode(kOrdinary), "");
  EXPECT_EQ(columns.Export(), kOrdinaryRow);
}

TEST(DecodeUnfitDocumentsNamesTheFirstField) {
  Columns columns(ManyFields());
  EXPECT_EQ(columns.Decode("[]"), "$: expected an object, found an array");
  EXPECT_EQ(columns.Decode("12"), "$: expected an object, found a number");
  EXPECT_EQ(columns.Decode(R"({"i":"1","f":true})"), "$.i: expected an integer, found a string");
  EXPECT_EQ(columns.Decode(R"({"i":1.0})"),
            "$.i: expected an integer, found a number with a fraction or an exponent");
  EXPECT_EQ(columns.Decode(R"({"i":9223372036854775808})"), "$.i: out of range for int64");
  EXPECT_EQ(columns.Decode(R"({"f":"1"})"), "$.f: expected a number, found a string");
  EXPECT_EQ(columns.Decode(R"({"s":1})"), "$.s: expected a string, found a number");
  EXPECT_EQ(columns.Decode(R"({"b":{}})"), "$.b: expected a boolean, found an object");
  EXPECT_EQ(columns.Decode(R"({"t":"x"})"), "$.t: not an RFC 3339 timestamp");
  EXPECT_EQ(columns.Decode(R"({"t":"1970-01-01T00:00:01.0001Z"})"),
            "$.t: finer than timestamp[ms]");
  EXPECT_EQ(columns.Decode(R"({"bin":"x"})"), "$.bin: not canonical base64");
  EXPECT_EQ(columns.Decode(R"({"d":"1970-01-32"})"), "$.d: not a date YYYY-MM-DD");
  EXPECT_EQ(columns.Decode(R"({"d":1})"), "$.d: expected a string, found a number");
  EXPECT_EQ(columns.Decode(R"({"tm":"24:00:00"})"), "$.tm: not a time hh:mm:ss[.fraction]");
  EXPECT_EQ(columns.Decode(R"({"tm":"00:00:00.0000001"})"), "$.tm: finer than time64[us]");
  EXPECT_EQ(columns.Decode(R"({"du":9223372036854775808})"), "$.du: out of range for duration[ns]");
  EXPECT_EQ(columns.Decode(R"({"dec":1.001})"), "$.dec: finer than decimal128(5, 2)");
  EXPECT_EQ(columns.Decode(R"({"dec":"1000"})"), "$.dec: out of range for decimal128(5, 2)");
  EXPECT_EQ(columns.Decode(R"({"dec":"1,5"})"), "$.dec: not a decimal number");
  EXPECT_EQ(columns.Decode(R"({"dec":false})"),
            "$.dec: expected a number or a string, found a boolean");
  EXPECT_EQ(columns.Decode(R"({"dec":1.})"), "$: malformed JSON");
  EXPECT_EQ(columns.Decode(R"({"wide":[]})"),
            "$.wide: expected a number or a string, found an array");
  EXPECT_EQ(columns.Decode(R"({"o":[]})"), "$.o: expected an object, found an array");
  EXPECT_EQ(columns.Decode(R"({"o":{"x":-129}})"), "$.o.x: out of range for int8");
  EXPECT_EQ(columns.Decode(R"({"o":{"l":["a",1]}})"),
            "$.o.l[1]: expected a string, found a number");
  EXPECT_EQ(columns.Decode(R"({"m":{"a b":-1}})"), "$.m[\"a b\"]: out of range for uint16");
  EXPECT_EQ(columns.rows(), 0);
  EXPECT(columns.AreAligned());
}

TEST(DecodeDepthBeyondTheLimitRefusesIt) {
  Columns columns({JsonTextField("j")});
  const auto nested = [](size_t depth) {
    return R"({"j":)" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_EQ(columns.Decode(nested(128)), "");
  EXPECT_EQ(columns.Decode(nested(129)), "$: nested deeper than 128 levels");
  EXPECT_EQ(columns.Decode(nested(100'000)), "$: nested deeper than 128 levels");
  EXPECT_EQ(columns.Decode(nested(100'000) + "]"), "$: malformed JSON");
  EXPECT_EQ(columns.Decode(std::string(100'000, '[')), "$: malformed JSON");
}

TEST(DecodeUnknownFieldsCountsThemByPath) {
  Columns columns({MakeField("o", TypeId::kList,
                             {MakeField("", TypeId::kStruct, {MakeField("x", TypeId::kInt8)})})});
  EXPECT_EQ(columns.Decode(R"({"o":[{"x":1,"y":1},{"y":{"z":1}}],"u v":[1]})"), "");
  EXPECT_EQ(columns.Decode(R"({"u v":1,"u v":2})"), "");
  EXPECT_EQ(columns.Decode(R"({"u v":1,"o":2})"), "$.o: expected an array, found a number");
  std::string counts;
  for (const auto& [path, count] : columns.decoder().UnknownFieldCounts()) {
    counts += path + "=" + std::to_string(count) + " ";
  }
  EXPECT_EQ(counts, "$[\"u v\"]=2 $.o[].y=2 ");
}

TEST(DecodeUnknownFieldsRefusedNamesThem) {
  Columns columns({MakeField("a", TypeId::kInt8)}, UnknownFields::kFail);
  EXPECT_EQ(columns.Decode(R"({"a":1,"b":1})"), "$.b: unknown field");
  EXPECT_EQ(columns.Decode(R"({"b":1,"a":"x"})"), "$.b: unknown field");
  EXPECT_EQ(columns.Decode(R"({"b":1,"a":})"), "$: malformed JSON");
  EXPECT_EQ(columns.Decode(R"({"a":1})"), "");
}

TEST(DecodeEvolvingRefusesUnknownFieldsThatCanBeColumns) {
  Columns columns({MakeField("o", TypeId::kStruct, {MakeField("x", TypeId::kInt8)})},
                  UnknownFields::kEvolve);
  EXPECT_EQ(columns.Decode(R"({"o":{"x":1,"y":1},"_kafka_x":1,"a\u0000":1})"), "");
  EXPECT_EQ(columns.Decode(R"({"o":{"y":1},"u v":1})"), "$[\"u v\"]: unknown field");
  EXPECT(columns.is_new_field());
  EXPECT_EQ(columns.Decode(R"({"o":1,"u":1})"), "$.o: expected an object, found a number");
  EXPECT(!columns.is_new_field());
  EXPECT_EQ(columns.Decode("{\"" + std::string(300, 'n') + "\":1}").substr(0, 5), "$.nnn");
  EXPECT(columns.is_new_field());
  EXPECT_EQ(columns.decoder().UnknownFieldCounts().size(), 3U);
}

TEST(DecodeRescuingKeepsUnknownFieldsUnderTheirPaths) {
  const Field item = MakeField("", TypeId::kStruct, {MakeField("x", TypeId::kInt8)});
  Columns columns(
      {MakeField("l", TypeId::kList, {item}),
       MakeField("m", TypeId::kMap,
                 {MakeField("", TypeId::kStruct, {MakeField("k", TypeId::kString), item})}),
       JsonTextField("j"), MakeField("_rescued", TypeId::kString)},
      UnknownFields::kRescue);
  EXPECT_EQ(columns.Decode(R"({"l":[{"x":1},{"y":[ 1 , "a b" ]}],"z":null})"), "");
  EXPECT_EQ(columns.Decode(R"({"m":{"a b":{"y":1}},"j":{"y":1},"\u007a":{"y":1}})"), "");
  EXPECT_EQ(columns.Decode(R"({"q\n":1,"z":2,"q\n":-0})"), "");
  EXPECT_EQ(columns.Decode(R"({"z":1,"l":1})"), "$.l: expected an array, found a number");
  EXPECT_EQ(columns.Decode(R"({"z":1,)"), "$: malformed JSON");
  EXPECT_EQ(columns.Decode(R"({"l":[]})"), "");
  EXPECT(columns.AreAligned());
  const std::string text = columns.Export();
  EXPECT_EQ(text.substr(text.rfind(" | ") + 3), R"("{"$.l[1].y":[1,"a b"],"$.z":null}" )"
                                                R"("{"$.m[\"a b\"].y":1,"$.z":{"y":1}}" )"
                                                R"("{"$[\"q\\n\"]":-0,"$.z":2}" null)");
}

TEST(DecodeRandomNamesBoundsWhatIsRemembered) {
  Columns columns({MakeField("a", TypeId::kInt8)});
  for (int i = 0; i < 20'000; ++i) {
    EXPECT_EQ(columns.Decode("{\"a\":1,\"k" + std::to_string(i) + "\":1}"), "");
  }
  EXPECT_EQ(columns.rows(), 20'000);
  EXPECT_EQ(columns.decoder().UnknownFieldCounts().size(), 10'000U);
}

TEST(DecodeLongNamesCountsNone) {
  Columns columns({MakeField("a", TypeId::kInt8)});
  for (const size_t length : {256U, 257U}) {
    EXPECT_EQ(columns.Decode("{\"" + std::string(length, 'k') + "\":1,\"a\":1}"), "");
  }
  EXPECT_EQ(columns.decoder().UnknownFieldCounts().size(), 1U);
  EXPECT_EQ(columns.Export(), "1 1");
}

TEST(DecodeNameThatIsNoUtf8AgainRefusesItAgain) {
  // The second time the name is one that was met before.
  Columns columns({MakeField("a", TypeId::kInt8)});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(columns.Decode("{\"\xff\":1}"), "$: malformed JSON");
  }
  EXPECT_EQ(columns.Decode("{\"é\":1,\"a\":2}"), "");
  EXPECT_EQ(columns.Decode("{\"é\":1,\"a\":3}"), "");
  EXPECT_EQ(columns.Export(), "2 3");
}

TEST(DecodeNamesThatNeedEscapesFindsTheirColumns) {
  Columns columns({MakeField("a\\b", TypeId::kInt8), MakeField("\"", TypeId::kInt8),
                   MakeField("", TypeId::kInt8)});
  EXPECT_EQ(columns.Decode(R"({"a\\b":1,"\u0022":2,"":3})"), "");
  EXPECT_EQ(columns.Decode(R"({"a\b":1})"), "");
  EXPECT_EQ(columns.Export(), "1 null | 2 null | 3 null");
}

TEST(DecodeMutatedDocumentsKeepsColumnsAligned) {
  Columns columns(ManyFields());
  // The same documents in every run.
  std::mt19937 random(20'240'517);  // NOLINT(bugprone-random-generator-seed)
  const std::string_view alphabet = "{}[]:,\"\\ \n019.eE-tfnullu\x80\xc3\x00z";
  for (int i = 0; i < 50'000; ++i) {
    std::string document(kOrdinary);
    for (auto changes = random() % 4 + 1; changes > 0; --changes) {
      const size_t at = random() % document.size();
      const char c = alphabet[random() % alphabet.size()];
      switch (random() % 3) {
        case 0:
          document[at] = c;
          break;
        case 1:
          document.insert(at, 1, c);
          break;
        default:
          document.erase(at, random() % 3 + 1);
      }
    }
    const int64_t rows = columns.rows();
    const bool decoded = columns.Decode(document).empty();
    EXPECT(columns.AreAligned());
    EXPECT_EQ(columns.rows(), rows + (decoded ? 1 : 0));
  }
  columns.Export();
  EXPECT_EQ(columns.Decode(kOrdinary), "");
  EXPECT_EQ(columns.Export(), kOrdinaryRow);
}

}  // namespace
}  // namespace sabot
