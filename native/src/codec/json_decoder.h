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
#include "codec/json_tokens.h"
#include "status.h"

namespace sabot {

// Decodes documents in two ways. The fast one walks the tokens once, checks the grammar, and
// appends on the way; it takes only what is ordinary. Whatever is not (an error, a duplicate key,
// an escaped key) takes the row back, and the exact one decides: first whether the document is
// well-formed, then how deep it is, then its fields in document order. So the fast way never needs
// to know what is wrong.
//
// Belongs to one thread at a time.
class JsonDecoder {
 public:
  static constexpr int kMaxDepth = 128;

  // `columns` has a builder per field, or null where the field is known but not built. The builders
  // outlive the decoder; their lengths stay equal.
  JsonDecoder(const std::vector<Field>& fields, const std::vector<ColumnBuilder*>& columns,
              bool refuse_unknown);
  ~JsonDecoder();
  JsonDecoder(const JsonDecoder&) = delete;
  JsonDecoder& operator=(const JsonDecoder&) = delete;

  // Appends a row to each built column, or leaves them as they were and returns why.
  std::optional<DecodeFailure> Decode(std::string_view value);

  // In how many objects each unknown field was met, by path. Rejected documents do not count.
  std::vector<std::pair<std::string, uint64_t>> UnknownFields() const;
  // Grows with every count, so that a copy is needed only when there is news.
  uint64_t unknown_field_total() const { return unknown_total_; }

 private:
  struct Column;
  struct Name;
  struct Object;
  struct Member;
  enum class Fit : uint8_t;

  std::unique_ptr<Column> MakeColumn(const Field& field, ColumnBuilder* builder,
                                     const std::string& path, int depth);
  std::unique_ptr<Object> MakeObject(const std::vector<Field>& fields,
                                     const std::vector<ColumnBuilder*>& builders,
                                     const std::string& path, int depth);

  // A token's place in the index. Readers take the one they begin at and return the one behind what
  // they read, or null if they fail; the place stays in a register that way.
  using Token = const uint32_t*;

  // The fast way. Null: not ordinary.
  bool FastDocument();
  Token FastObject(Object* object, Token at);
  Token FastValue(const Column& column, Token at);
  Token FastList(const Column& column, Token at);
  Token FastMap(const Column& column, Token at);

  // The exact way. Null: `failure_` says why; paths are completed on the way out.
  bool ExactDocument();
  Token ExactObject(Object* object, Token at);
  Token ExactValue(const Column& column, Token at);
  Token ExactList(const Column& column, Token at);
  Token ExactMap(const Column& column, Token at);
  std::vector<Member> ReadMembers(Token* at) const;
  Token FailKind(const Column& column, Token at);
  Token Fail(std::string reason);

  // Both ways.
  char Peek(Token at) const { return at < end_ ? text_[*at] : '\0'; }
  std::string_view Scalar(Token at) const;
  std::string_view StringContents(Token at) const;
  bool HasEscape(std::string_view contents) const;
  bool ValidateString(Token at);
  Token ValidateValue(Token at, int max_depth, int* deepest = nullptr);
  Token SkipValidated(Token at) const;
  // For the value at `at`, a single token that is not null.
  Fit AppendLeaf(const Column& column, Token at);
  Fit AppendText(const Column& column, std::string_view contents);
  template <typename T>
  Fit AppendInteger(const Column& column, std::string_view token);
  void AppendJsonText(const Column& column, Token begin, Token end);
  static Name* AddName(Object* object, std::string_view name);
  Name* FindName(Object* object, std::string_view name);

  const bool refuse_unknown_;
  JsonTokens tokens_;
  std::unique_ptr<Object> root_;
  std::vector<ColumnBuilder*> built_;

  // The document at hand.
  const char* text_ = nullptr;
  const char* text_end_ = nullptr;
  Token end_ = nullptr;
  bool has_escapes_ = false;
  DecodeFailure failure_;

  std::vector<char> containers_;    // Open ones while validating.
  std::string scratch_;             // For strings that are only checked or taken apart.
  std::vector<Name*> unknown_met_;  // In this document; an entry per object.
  size_t unknown_names_ = 0;
  uint64_t unknown_total_ = 0;
};

}  // namespace sabot
