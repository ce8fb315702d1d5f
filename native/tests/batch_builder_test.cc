#include "batch_builder.h"

#include "arrow_text.h"
#include "testing.h"

namespace sabot {
namespace {

using testing::ColumnText;
using testing::MakeField;

Codec JsonOf(std::vector<Field> fields, UnknownFields unknown_fields = UnknownFields::kIgnore) {
  return {Codec::Format::kJson, std::move(fields), unknown_fields};
}

Codec StringCodec() { return {Codec::Format::kString, {MakeField("value", TypeId::kString)}}; }

Codec BytesCodec() { return {Codec::Format::kBytes, {MakeField("value", TypeId::kBinary)}}; }

// Builds batches of two columns; `fields` are theirs.
class Batch {
 public:
  Batch(Codec value_codec, Codec key_codec, std::vector<Field> fields)
      : fields_(std::move(fields)) {
    BatchOptions options;
    for (const Field& field : fields_) {
      options.columns.push_back(field.name);
    }
    options.value_codec = std::move(value_codec);
    options.key_codec = std::move(key_codec);
    auto made = BatchBuilder::Make(std::move(options), BufferPool::Make(1 << 20));
    if (!made.ok()) {
      testing::Fail(__FILE__, __LINE__) << made.status().message() << '\n';
    }
    builder_ = std::move(made.value());
  }

  // Appends a record whose key and value fill their memory to the last byte.
  std::string Append(std::optional<std::string_view> value,
                     std::optional<std::string_view> key = std::nullopt) {
    std::vector<char> key_memory;
    std::vector<char> value_memory;
    const auto copy = [](const auto& given, std::vector<char>* memory) {
      if (!given.has_value()) {
        return given;
      }
      memory->assign(given->begin(), given->end());
      return std::optional<std::string_view>({memory->data(), memory->size()});
    };
    Record record;
    record.value = copy(value, &value_memory);
    record.key = copy(key, &key_memory);
    const auto failure = builder_->Append(record);
    return failure ? failure->field + ": " + failure->reason : "";
  }

  BatchBuilder& builder() { return *builder_; }

  std::string Export() {
    ArrowArray array;
    builder_->Export(&array);
    std::string text;
    for (size_t i = 0; i < fields_.size(); ++i) {
      EXPECT_EQ(array.children[i]->length, array.length);
      text += (i == 0 ? "" : " | ") + ColumnText(fields_[i], *array.children[i]);
    }
    array.release(&array);
    return text;
  }

  std::string UnknownFieldCounts() const {
    std::string counts;
    for (const auto& [path, count] : builder_->UnknownFieldCounts()) {
      if (count != 0) {
        counts += path + "=" + std::to_string(count) + " ";
      }
    }
    return counts;
  }

 private:
  std::vector<Field> fields_;
  std::unique_ptr<BatchBuilder> builder_;
};

const Field& Number() {
  static const Field field = MakeField("n", TypeId::kInt64);
  return field;
}

TEST(AppendBytesTakesEverything) {
  Batch batch(BytesCodec(), {}, BytesCodec().fields);
  EXPECT_EQ(batch.Append("a\xff"), "");
  EXPECT_EQ(batch.Append(std::nullopt), "");
  EXPECT_EQ(batch.Append(""), "");
  EXPECT_EQ(batch.Export(), "\"a\xff\" null \"\"");
}

TEST(AppendStringsRefusesWhatIsNoUtf8) {
  Batch batch(StringCodec(), {}, StringCodec().fields);
  EXPECT_EQ(batch.Append("é"), "");
  for (const char* text : {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80"}) {
    EXPECT_EQ(batch.Append(text), "$: invalid UTF-8");
  }
  EXPECT_EQ(batch.Append(std::nullopt), "");
  EXPECT_EQ(batch.Export(), "\"é\" null");
}

TEST(AppendKeysAsTheyAreNeedsNoDecoder) {
  Batch batch(JsonOf({Number()}), {}, {Number(), MakeField("_kafka_key", TypeId::kBinary)});
  EXPECT_EQ(batch.Append(R"({"n":1})", "\xff"), "");
  EXPECT_EQ(batch.Append(R"({"n":2})"), "");
  EXPECT_EQ(batch.Export(), "1 2 | \"\xff\" null");
}

TEST(AppendStringKeyThatIsNoUtf8TakesTheRowBack) {
  Batch batch(JsonOf({Number()}), StringCodec(),
              {Number(), MakeField("_kafka_key", TypeId::kString)});
  EXPECT_EQ(batch.Append(R"({"n":1})", "a"), "");
  EXPECT_EQ(batch.Append(R"({"n":2})", "\xff"), "key: invalid UTF-8");
  EXPECT_EQ(batch.Append(std::nullopt, "\xff"), "key: invalid UTF-8");
  EXPECT_EQ(batch.Append(R"({"n":3})"), "");
  EXPECT_EQ(batch.Append(std::nullopt, ""), "");
  EXPECT_EQ(batch.Export(), "1 3 null | \"a\" null \"\"");
}

TEST(AppendJsonKeysGivesAStruct) {
  const Codec keys = JsonOf({MakeField("id", TypeId::kInt8), MakeField("s", TypeId::kString)});
  Batch batch(JsonOf({Number()}), keys,
              {Number(), MakeField("_kafka_key", TypeId::kStruct, keys.fields)});
  EXPECT_EQ(batch.Append(R"({"n":1,"u":1})", R"({"id":1,"v":1})"), "");
  EXPECT_EQ(batch.Append(R"({"n":2,"u":1})", R"({"id":128,"v":1})"),
            "key.id: out of range for int8");
  EXPECT_EQ(batch.Append(R"({"n":"x","u":1})", R"({"id":"x","v":1})"),
            "$.n: expected an integer, found a string");
  EXPECT_EQ(batch.Append(R"({"n":3})", ""), "key: malformed JSON");
  EXPECT_EQ(batch.Append(R"({"n":4})"), "");
  EXPECT_EQ(batch.Append(std::nullopt, R"({"s":"x"})"), "");
  EXPECT_EQ(batch.UnknownFieldCounts(), "$.u=1 key.v=1 ");
  EXPECT_EQ(batch.Export(), "1 4 null | {id:1,s:null} null {id:null,s:\"x\"}");
}

TEST(AppendKeysThatAreNotBuiltValidatesThem) {
  Batch batch(JsonOf({Number()}), JsonOf({MakeField("id", TypeId::kInt8)}), {Number()});
  EXPECT_EQ(batch.Append(R"({"n":1})", R"({"id":"x"})"), "");
  EXPECT_EQ(batch.Append(R"({"n":2})", R"({"id")"), "key: malformed JSON");
  EXPECT_EQ(batch.Export(), "1");
}

TEST(AppendKeysOfNoFieldsThatAreNotBuiltValidatesThem) {
  Batch batch(JsonOf({Number()}), JsonOf({}), {Number()});
  EXPECT_EQ(batch.Append(R"({"n":1})", R"({"id":1})"), "");
  EXPECT_EQ(batch.Append(R"({"n":2})", R"({"id")"), "key: malformed JSON");
  EXPECT_EQ(batch.Export(), "1");
}

TEST(AppendHeadersGivesNamesThatAreUtf8) {
  const Field headers = MakeField(
      "_kafka_headers", TypeId::kList,
      {MakeField("item", TypeId::kStruct,
                 {MakeField("key", TypeId::kString), MakeField("value", TypeId::kBinary)})});
  BatchOptions options;
  options.columns = {"_kafka_headers"};
  options.value_codec = BytesCodec();
  auto builder = BatchBuilder::Make(std::move(options), BufferPool::Make(0));
  std::vector<Header> given;
  for (const std::string_view name : {"é\U0001F600", "\xff", "a\xc3", "\xc0\xaf!", "\xed\xa0\x80",
                                      "\xf0\x9f\x98", "\xe2\x82z", "\xf4\x90\x80\x80"}) {
    given.push_back({name, std::nullopt});
  }
  Record record;
  record.headers = &given;
  EXPECT(!builder.value()->Append(record).has_value());
  ArrowArray array;
  builder.value()->Export(&array);
  std::string expected = "[";
  // As bytes.decode("utf-8", "replace") has them.
  for (const char* name : {"é\U0001F600", "\uFFFD", "a\uFFFD", "\uFFFD\uFFFD!",
                           "\uFFFD\uFFFD\uFFFD", "\uFFFD", "\uFFFDz", "\uFFFD\uFFFD\uFFFD\uFFFD"}) {
    expected +=
        (expected.size() == 1 ? "{key:\"" : ",{key:\"") + std::string(name) + "\",value:null}";
  }
  EXPECT_EQ(ColumnText(headers, *array.children[0]), expected + "]");
  array.release(&array);
}

TEST(AppendRescuesUnknownFieldsInAnyOrderOfColumns) {
  const Field rescued = MakeField("_rescued", TypeId::kString);
  Batch batch(JsonOf({Number(), rescued}, UnknownFields::kRescue), {}, {rescued, Number()});
  EXPECT_EQ(batch.Append(R"({"n":1,"u":[ 1 ]})"), "");
  EXPECT_EQ(batch.Append(std::nullopt), "");
  EXPECT_EQ(batch.Append(R"({"n":2})"), "");
  EXPECT_EQ(batch.UnknownFieldCounts(), "");
  EXPECT_EQ(batch.Export(), R"("{"$.u":[1]}" null null | 1 null 2)");
}

TEST(AppendRescuingWithoutTheColumnCounts) {
  const Field rescued = MakeField("_rescued", TypeId::kString);
  Batch batch(JsonOf({Number(), rescued}, UnknownFields::kRescue), {}, {Number()});
  EXPECT_EQ(batch.Append(R"({"n":1,"u":[ 1 ]})"), "");
  EXPECT_EQ(batch.UnknownFieldCounts(), "$.u=1 ");
}

TEST(AppendAllOfAnotherBuilderCopiesItsRows) {
  const std::vector<Field> columns = {Number(), MakeField("_kafka_key", TypeId::kBinary)};
  Batch batch(JsonOf({Number()}), {}, columns);
  Batch other(JsonOf({Number()}), {}, columns);
  EXPECT_EQ(batch.Append(R"({"n":1})", "a"), "");
  EXPECT_EQ(other.Append(std::nullopt, "b"), "");
  EXPECT_EQ(other.Append(R"({"n":3})"), "");
  batch.builder().AppendAll(other.builder());
  EXPECT_EQ(batch.Append(R"({"n":4})", "d"), "");
  EXPECT_EQ(batch.Export(), R"(1 null 3 4 | "a" "b" null "d")");
  EXPECT_EQ(other.Export(), R"(null 3 | "b" null)");
}

TEST(DropCountsTakesBackWhatCameAfterKeepCounts) {
  const Codec keys = JsonOf({MakeField("id", TypeId::kInt8)});
  const Codec values = JsonOf({MakeField("s", TypeId::kStruct, {Number()})});
  Batch batch(values, keys, values.fields);
  EXPECT_EQ(batch.Append(R"({"s":{"u":1}})", R"({"v":1})"), "");
  batch.builder().KeepCounts();
  const uint64_t changes = batch.builder().unknown_field_changes();
  EXPECT_EQ(batch.Append(R"({"s":{"u":1,"w":1}})", R"({"v":1,"x":1})"), "");
  EXPECT_EQ(batch.UnknownFieldCounts(), "$.s.u=2 $.s.w=1 key.v=2 key.x=1 ");
  batch.builder().DropCounts();
  EXPECT_EQ(batch.UnknownFieldCounts(), "$.s.u=1 key.v=1 ");
  EXPECT(batch.builder().unknown_field_changes() != changes);
}

}  // namespace
}  // namespace sabot
