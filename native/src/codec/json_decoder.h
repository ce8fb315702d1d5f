// JSON objects to Arrow columns, exactly as docs/json.md has it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "arrow/column_builder.h"
#include "arrow/field.h"
#include "codec/codec.h"
#include "codec/json_tokens.h"
#include "codec/text_formats.h"
#include "status.h"

namespace sabot {

// Decodes documents in two ways. The fast one reads the text once from front to back, checks the
// grammar, and appends on the way; it takes only what is ordinary. Whatever is not (an error, a
// duplicate key, an escaped key) takes the row back, and the exact one decides on simdjson's
// tokens: first whether the document is well-formed, then how deep it is, then its fields in
// document order. So the fast way never needs to know what is wrong, and small records are not
// indexed first, which costs as much as everything else.
//
// Belongs to one thread at a time.
class JsonDecoder final : public Decoder {
 public:
  static constexpr int kMaxDepth = 128;

  // See MakeDecoder.
  JsonDecoder(const std::vector<Field>& fields, const std::vector<ColumnBuilder*>& columns,
              UnknownFields unknown_fields = UnknownFields::kIgnore, std::string_view root = "$");
  ~JsonDecoder() override;

  std::optional<DecodeFailure> Decode(std::string_view value) override;
  std::vector<std::pair<std::string, uint64_t>> UnknownFieldCounts() const override;
  uint64_t unknown_field_changes() const override { return unknown_changes_; }
  void UncountLast() override;
  void KeepCounts() override;
  void DropCounts() override;

 private:
  struct Column;
  struct Name;
  struct Object;
  struct Member;
  struct Known;
  enum class Fit : uint8_t;
  enum class Common : uint8_t;

  std::unique_ptr<Column> MakeColumn(const Field& field, ColumnBuilder* builder,
                                     const std::string& path, int depth);
  std::unique_ptr<Object> MakeObject(const std::vector<Field>& fields,
                                     const std::vector<ColumnBuilder*>& builders,
                                     const std::string& path, int depth);

  // The fast way: each reader takes the place of its first character and returns the place behind
  // what it read, or null: not ordinary.
  bool FastDocument();
  const char* FastObject(Object* object, const char* at);
  [[gnu::noinline]] const char* FastName(Object* object, const char* at, Name** name);
  [[gnu::nonnull]] const char* FastValue(const Column& column, const char* at);
  [[gnu::noinline, gnu::nonnull]] const char* FastAnyValue(const Column& column, const char* at);
  const char* FastString(BytesBuilder* builder, const char* at);
  const char* FastList(const Column& column, const char* at);
  const char* FastMap(const Column& column, const char* at);
  const char* FastSkip(const char* at, int depth_left);

  // The exact way: the same on tokens. Null: `failure_` says why; paths are completed on the way
  // out.
  using Token = const uint32_t*;
  bool ExactDocument();
  Token ExactObject(Object* object, Token at);
  Token ExactValue(const Column& column, Token at);
  Token ExactList(const Column& column, Token at);
  Token ExactMap(const Column& column, Token at);
  std::vector<Member> ReadMembers(Token* at) const;
  static std::string TypeName(const Column& column);
  static std::string FormatError(const Column& column);
  Token FailKind(const Column& column, Token at);
  Token Fail(std::string reason);
  char TokenAt(Token at) const { return at < tokens_.end() ? text_[*at] : '\0'; }
  std::string_view Scalar(Token at) const;
  std::string_view StringContents(Token at) const;
  bool ValidateString(std::string_view contents);
  Token Validate(Token at, int* deepest);
  Token SkipValidated(Token at) const;

  // Behind either way, for a document that is valid: keeps its unknown fields. False: it cannot be
  // indexed.
  bool Rescue(std::string_view value, bool is_indexed);
  Token RescueValue(const Known& known, Token at);
  std::unique_ptr<Known> MakeKnown(const Field& field, bool is_built);

  // Both ways.
  char Peek(const char* at) const { return at != text_end_ ? *at : '\0'; }
  const char* SkipSpace(const char* at) const;
  bool Stands(const char* at, std::string_view word) const;
  const char* ReadString(const char* at, std::string_view* contents, bool* has_escapes);
  // For a value that is not null in a column without children. Null: `fit` says why.
  const char* AppendLeaf(const Column& column, const char* at, Fit* fit);
  template <typename T>
  Fit AppendInteger(const Column& column, const char** at);
  Fit AppendText(const Column& column, std::string_view contents, bool has_escapes);
  // Apart from the others, which are inlined: these are rare, and large.
  [[gnu::noinline]] Fit AppendParsed(const Column& column, std::string_view contents,
                                     bool has_escapes);
  [[gnu::noinline]] Fit AppendDecimalNumber(const Column& column, const char** at);
  static Fit FitOf(FormatResult result);
  static Fit AppendDecimal(const Column& column, std::string_view text);
  static void AppendJsonText(BytesBuilder* builder, std::string_view text);
  bool RefusesUnknown(const Object* object, std::string_view name) const;
  static Name* AddName(Object* object, std::string_view name);
  // Calls `visit` with every name of an object, and of those in its columns.
  template <typename Visit>
  static void VisitNames(Object* object, const Visit& visit);
  Name* FindName(Object* object, std::string_view name);

  const UnknownFields unknown_fields_;
  JsonTokens tokens_;
  std::unique_ptr<Object> root_;
  std::vector<ColumnBuilder*> built_;
  BytesBuilder* rescued_ = nullptr;  // Null where unknown fields are not kept.
  std::unique_ptr<Known> known_;     // Where they are.
  bool hides_unknown_ = false;       // Whether a column that is not built may have such fields.

  // The document at hand.
  const char* text_ = nullptr;
  const char* text_end_ = nullptr;
  bool has_non_ascii_ = false;  // Seen by the fast way.
  DecodeFailure failure_;

  std::vector<char> containers_;  // Open ones while validating.
  std::string scratch_;           // For strings that are only checked or taken apart.
  std::string path_;              // Of the value that is being looked at for unknown fields.
  std::string rescued_text_;
  std::vector<Name*> unknown_met_;  // In this document; an entry per object.
  size_t unknown_names_ = 0;
  uint64_t unknown_changes_ = 0;
  uint64_t unknown_kept_ = 0;  // Changes up to the last KeepCounts.
};

}  // namespace sabot
