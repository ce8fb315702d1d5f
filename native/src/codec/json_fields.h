// What the two ways of the JSON decoder share: how documents map to columns.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "codec/json_decoder.h"

namespace sabot {

inline bool IsWhiteSpace(char c) {
  // One comparison for nearly all that is none.
  return static_cast<unsigned char>(c) <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t');
}

inline bool IsNumberStart(char first) { return first == '-' || (first >= '0' && first <= '9'); }

// Why a document is refused that is none.
inline constexpr char kMalformedJson[] = "malformed JSON";

// What a field adds to the path of its parent: .name, or ["na me"].
std::string PathStep(std::string_view name);

// Copies a valid JSON text without the white space between its tokens to `out`, which has room for
// all of it; returns the end.
char* CopyCompact(std::string_view text, char* out);

// How a value relates to its column.
enum class JsonDecoder::Fit : uint8_t {
  kFits,
  kOtherKind,
  kNotInteger,
  kOutOfRange,
  kTooFine,
  kNotInFormat,  // A string that is no timestamp, no decimal, no base64, ...
  kMalformed,    // No JSON.
};

// The kinds of columns that most values have.
enum class JsonDecoder::Common : uint8_t { kNone, kString, kInt64, kFloat64, kBool };

// How one column is read; `builder` has the class that its type implies.
struct JsonDecoder::Column {
  TypeId type;
  TimeUnit unit;
  bool has_zone;
  bool json_text;
  Common common = Common::kNone;
  int32_t precision;
  int32_t scale;
  int depth;  // How many containers enclose a value.
  ColumnBuilder* builder;
  std::unique_ptr<Object> object;  // Of a struct.
  std::unique_ptr<Column> item;    // Of a list, or the value of a map.
  BytesBuilder* keys = nullptr;    // Of a map.

  bool is_decimal() const { return type == TypeId::kDecimal128 || type == TypeId::kDecimal256; }
  template <typename Builder>
  Builder* As() const {
    return static_cast<Builder*>(builder);
  }
};

// A field name that an object may have, or that was met although it should not.
struct JsonDecoder::Name {
  std::string name;
  // The name in quotes and the colon, as they mostly stand in a document; for a name that is only
  // ever written with escapes a byte that no document has.
  std::string quoted;
  // The document is UTF-8 only if the name is, which nobody has looked at yet.
  bool non_ascii = false;
  Column* column = nullptr;  // Null: only validated.
  bool known = false;
  std::string path;      // Of an unknown one.
  uint64_t count = 0;    // Of an unknown one: objects that had it.
  uint64_t kept = 0;     // The count at the last KeepCounts.
  uint64_t object = 0;   // Number of the last object that had it.
  Name* next = nullptr;  // What came after it last time.
};

// The fields of one kind of object: the document or a struct.
struct JsonDecoder::Object {
  std::string path;
  int depth;                   // Of the object itself; the document is 1 deep.
  std::deque<Name> names;      // Addresses stay.
  std::vector<Name*> columns;  // Those to build, in order.
  std::vector<std::unique_ptr<Column>> owned;
  std::unordered_map<std::string_view, Name*> by_name;
  Name* first = nullptr;  // What came first last time.
  uint64_t count = 0;     // Objects so far: a number for each.
};

// What fields a value may have at any depth, whether they are built or not.
struct JsonDecoder::Known {
  TypeId type;
  std::unordered_map<std::string, std::unique_ptr<Known>> fields;  // Of a struct.
  std::unique_ptr<Known> item;  // Of a list, or the value of a map.
};

// A field as it stands in the document.
struct JsonDecoder::Member {
  std::string key;
  const uint32_t* value;
};

}  // namespace sabot
