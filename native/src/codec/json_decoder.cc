#include "codec/json_decoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "codec/json_scalars.h"
#include "codec/text_formats.h"

namespace sabot {
namespace {

// Fields that no schema names are counted by name, but a topic with random names must not eat
// memory.
constexpr size_t kMostUnknownNames = 10'000;
// The fast way compares the keys of a map pairwise; longer maps take the exact way, which hashes
// them.
constexpr size_t kMostKeysCompared = 32;

template <typename T>
bool EqualAt(const char* left, const char* right, size_t at) {
  T a;
  T b;
  std::memcpy(&a, left + at, sizeof(T));
  std::memcpy(&b, right + at, sizeof(T));
  return a == b;
}

// memcmp for the few bytes of a key, where the call costs more than the comparison.
bool EqualBytes(const char* left, const char* right, size_t size) {
  if (size >= 8) {
    for (size_t at = 0; at + 8 < size; at += 8) {
      if (!EqualAt<uint64_t>(left, right, at)) {
        return false;
      }
    }
    return EqualAt<uint64_t>(left, right, size - 8);
  }
  if (size >= 4) {
    return EqualAt<uint32_t>(left, right, 0) && EqualAt<uint32_t>(left, right, size - 4);
  }
  for (size_t at = 0; at < size; ++at) {
    if (left[at] != right[at]) {
      return false;
    }
  }
  return true;
}

bool IsWhiteSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

bool IsPlainName(std::string_view name) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !name.empty() && is_letter(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

// What a field adds to the path of its parent.
std::string PathStep(std::string_view name) {
  if (IsPlainName(name)) {
    return "." + std::string(name);
  }
  constexpr std::string_view kHex = "0123456789abcdef";
  constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t";
  constexpr std::string_view kShort = "\"\\bfnrt";
  std::string step = "[\"";
  for (const char c : name) {
    const size_t escape = kEscaped.find(c);
    if (escape != std::string_view::npos) {
      step += '\\';
      step += kShort[escape];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      step += "\\u00";
      step += kHex[static_cast<unsigned char>(c) >> 4];
      step += kHex[static_cast<unsigned char>(c) & 0xF];
    } else {
      step += c;
    }
  }
  return step + "\"]";
}

const char* KindOf(char first) {
  switch (first) {
    case '{':
      return "an object";
    case '[':
      return "an array";
    case '"':
      return "a string";
    case 't':
    case 'f':
      return "a boolean";
    case 'n':
      return "null";
    default:
      return "a number";
  }
}

// A type as pyarrow writes it; only those that can be out of range or too fine.
const char* TypeName(TypeId type, TimeUnit unit) {
  static constexpr std::array<const char*, 11> kNumbers = {"bool",   "int8",    "int16",  "int32",
                                                           "int64",  "uint8",   "uint16", "uint32",
                                                           "uint64", "float32", "float64"};
  static constexpr std::array<const char*, 4> kTimestamps = {"timestamp[s]", "timestamp[ms]",
                                                             "timestamp[us]", "timestamp[ns]"};
  return type == TypeId::kTimestamp ? kTimestamps.at(static_cast<size_t>(unit))
                                    : kNumbers.at(static_cast<size_t>(type));
}

bool IsNumberStart(char first) { return first == '-' || (first >= '0' && first <= '9'); }

}  // namespace

// How a value relates to its column.
enum class JsonDecoder::Fit : uint8_t {
  kFits,
  kOtherKind,
  kNotInteger,
  kOutOfRange,
  kTooFine,
  kNotInFormat,  // A string that is no timestamp, no base64.
  kMalformed,    // No JSON.
};

// How one column is read; `builder` has the class that its type implies.
struct JsonDecoder::Column {
  TypeId type;
  TimeUnit unit;
  bool has_zone;
  bool json_text;
  int depth;  // How many containers enclose a value.
  ColumnBuilder* builder;
  std::unique_ptr<Object> object;  // Of a struct.
  std::unique_ptr<Column> item;    // Of a list, or the value of a map.
  BytesBuilder* keys = nullptr;    // Of a map.

  template <typename Builder>
  Builder* As() const {
    return static_cast<Builder*>(builder);
  }
};

// A field name that an object may have, or that was met although it should not.
struct JsonDecoder::Name {
  std::string name;
  // The name and the closing quote, as they stand in a document; for a name that is only ever
  // written with escapes a byte that no document has.
  std::string quoted;
  Column* column = nullptr;  // Null: only validated.
  bool known = false;
  std::string path;      // Of an unknown one.
  uint64_t count = 0;    // Of an unknown one: objects that had it.
  uint64_t object = 0;   // Number of the last object that had it.
  Name* next = nullptr;  // What came after it last time.

  // Whether it stands at `key`, where there is `room` up to the colon.
  bool StandsAt(const char* key, size_t room) const {
    return quoted.size() <= room && EqualBytes(key, quoted.data(), quoted.size());
  }
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

// A field as it stands in the document.
struct JsonDecoder::Member {
  std::string key;
  const uint32_t* value;
};

JsonDecoder::JsonDecoder(const std::vector<Field>& fields,
                         const std::vector<ColumnBuilder*>& columns, bool refuse_unknown)
    : refuse_unknown_(refuse_unknown), root_(MakeObject(fields, columns, "$", 1)) {
  for (ColumnBuilder* builder : columns) {
    if (builder != nullptr) {
      built_.push_back(builder);
    }
  }
}

JsonDecoder::~JsonDecoder() = default;

std::unique_ptr<JsonDecoder::Column> JsonDecoder::MakeColumn(const Field& field,
                                                             ColumnBuilder* builder,
                                                             const std::string& path, int depth) {
  auto column = std::make_unique<Column>();
  column->type = field.type;
  column->unit = field.unit;
  column->has_zone = field.has_zone;
  column->json_text = field.json_text;
  column->depth = depth;
  column->builder = builder;
  if (field.type == TypeId::kStruct) {
    auto* children = static_cast<StructBuilder*>(builder);
    std::vector<ColumnBuilder*> builders;
    for (size_t i = 0; i < field.children.size(); ++i) {
      builders.push_back(children->child(i));
    }
    column->object = MakeObject(field.children, builders, path, depth + 1);
  } else if (field.type == TypeId::kList) {
    ColumnBuilder* items = static_cast<ListBuilder*>(builder)->items();
    column->item = MakeColumn(field.children.front(), items, path + "[]", depth + 1);
  } else if (field.type == TypeId::kMap) {
    auto* entries = static_cast<StructBuilder*>(static_cast<ListBuilder*>(builder)->items());
    column->keys = static_cast<BytesBuilder*>(entries->child(0));
    column->item =
        MakeColumn(field.children.front().children[1], entries->child(1), path + "[]", depth + 1);
  }
  return column;
}

std::unique_ptr<JsonDecoder::Object> JsonDecoder::MakeObject(
    const std::vector<Field>& fields, const std::vector<ColumnBuilder*>& builders,
    const std::string& path, int depth) {
  auto object = std::make_unique<Object>();
  object->path = path;
  object->depth = depth;
  for (size_t i = 0; i < fields.size(); ++i) {
    Name* name = AddName(object.get(), fields[i].name);
    name->known = true;
    if (builders[i] != nullptr) {
      object->owned.push_back(
          MakeColumn(fields[i], builders[i], path + PathStep(fields[i].name), depth));
      name->column = object->owned.back().get();
      object->columns.push_back(name);
    }
  }
  return object;
}

JsonDecoder::Name* JsonDecoder::AddName(Object* object, std::string_view name) {
  Name& added = object->names.emplace_back();
  added.name = name;
  added.path = object->path + PathStep(name);
  const bool needs_escapes = std::any_of(name.begin(), name.end(), [](char c) {
    return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
  });
  added.quoted = needs_escapes ? std::string(1, '\x01') : added.name + '"';
  object->by_name.emplace(added.name, &added);
  return &added;
}

// Finds a name, or takes it up as an unknown one; null if there are too many of these.
JsonDecoder::Name* JsonDecoder::FindName(Object* object, std::string_view name) {
  const auto found = object->by_name.find(name);
  if (found != object->by_name.end()) {
    return found->second;
  }
  if (unknown_names_ == kMostUnknownNames) {
    return nullptr;
  }
  ++unknown_names_;
  return AddName(object, name);
}

std::vector<std::pair<std::string, uint64_t>> JsonDecoder::UnknownFields() const {
  std::vector<std::pair<std::string, uint64_t>> counts;
  const auto visit = [&counts](const auto& self, const Object& object) -> void {
    const auto visit_column = [&](const auto& again, const Column& column) -> void {
      if (column.object) {
        self(self, *column.object);
      }
      if (column.item) {
        again(again, *column.item);
      }
    };
    for (const Name& name : object.names) {
      if (name.count != 0) {
        counts.emplace_back(name.path, name.count);
      }
    }
    for (const auto& column : object.owned) {
      visit_column(visit_column, *column);
    }
  };
  visit(visit, *root_);
  return counts;
}

std::optional<DecodeFailure> JsonDecoder::Decode(std::string_view value) {
  unknown_met_.clear();
  const bool indexed = tokens_.Index(value);
  if (!indexed) {
    return DecodeFailure{"$", "malformed JSON"};
  }
  text_ = value.data();
  text_end_ = text_ + value.size();
  end_ = tokens_.end();
  has_escapes_ = std::memchr(text_, '\\', value.size()) != nullptr;
  const int64_t rows = built_.empty() ? 0 : built_.front()->length();
  bool decoded = FastDocument();
  if (!decoded) {
    for (ColumnBuilder* builder : built_) {
      builder->Truncate(rows);
    }
    unknown_met_.clear();
    decoded = ExactDocument();
  }
  if (!decoded) {
    for (ColumnBuilder* builder : built_) {
      builder->Truncate(rows);
    }
    unknown_met_.clear();
    failure_.field.insert(0, 1, '$');
    return std::move(failure_);
  }
  for (Name* name : unknown_met_) {
    ++name->count;
    ++unknown_total_;
  }
  unknown_met_.clear();
  return std::nullopt;
}

// --- tokens --------------------------------------------------------------------------------------

// A number, `true`, `false`, `null`, or what is none of them: up to the white space before the next
// token.
inline std::string_view JsonDecoder::Scalar(Token at) const {
  const char* const begin = text_ + at[0];
  const char* end = text_ + at[1];
  while (end != begin && IsWhiteSpace(end[-1])) {
    --end;
  }
  return {begin, static_cast<size_t>(end - begin)};
}

// Between a string's closing quote and the next token is only white space.
inline std::string_view JsonDecoder::StringContents(Token at) const {
  const char* const begin = text_ + at[0] + 1;
  const char* end = text_ + at[1] - 1;
  while (*end != '"') {
    --end;
  }
  return {begin, static_cast<size_t>(end - begin)};
}

inline bool JsonDecoder::HasEscape(std::string_view contents) const {
  return has_escapes_ && contents.find('\\') != std::string_view::npos;
}

bool JsonDecoder::ValidateString(Token at) {
  const std::string_view contents = StringContents(at);
  if (!HasEscape(contents)) {
    return true;
  }
  scratch_.resize(contents.size());
  return Unescape(contents, scratch_.data()) >= 0;
}

// Checks the value by the grammar. A `max_depth` ends it early; `deepest` gets the containers of
// the deepest value, this one's enclosing ones not counted.
JsonDecoder::Token JsonDecoder::ValidateValue(Token at, int max_depth, int* deepest) {
  const auto is_scalar = [this](Token scalar) {
    const std::string_view token = Scalar(scalar);
    if (!IsNumberStart(token.front())) {
      return token == "true" || token == "false" || token == "null";
    }
    double ignored;
    return ParseDouble(token, &ignored) == NumberResult::kOk;
  };

  containers_.clear();
  for (;;) {
    const char first = Peek(at);
    bool opened = false;
    if (first == '{' || first == '[') {
      ++at;
      containers_.push_back(first);
      const int depth = static_cast<int>(containers_.size());
      if (depth > max_depth) {
        return nullptr;
      }
      if (deepest != nullptr) {
        *deepest = std::max(*deepest, depth);
      }
      const bool empty = Peek(at) == (first == '{' ? '}' : ']');
      opened = !empty;
      if (empty) {
        ++at;
        containers_.pop_back();
      }
    } else if (first == '\0' || !(first == '"' ? ValidateString(at) : is_scalar(at))) {
      return nullptr;
    } else {
      ++at;
    }
    while (!opened) {
      if (containers_.empty()) {
        return at;
      }
      const char next = Peek(at);
      ++at;
      if (next == ',') {
        break;
      }
      if (next != (containers_.back() == '{' ? '}' : ']')) {
        return nullptr;
      }
      containers_.pop_back();
    }
    if (containers_.back() == '{') {
      if (Peek(at) != '"' || Peek(at + 1) != ':' || !ValidateString(at)) {
        return nullptr;
      }
      at += 2;
    }
  }
}

JsonDecoder::Token JsonDecoder::SkipValidated(Token at) const {
  int depth = 0;
  do {
    const char c = text_[*at++];
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
  } while (depth > 0);
  return at;
}

// --- values without fields -----------------------------------------------------------------------

template <typename T>
JsonDecoder::Fit JsonDecoder::AppendInteger(const Column& column, std::string_view token) {
  JsonInteger integer;
  switch (ParseInteger(token, &integer)) {
    case NumberResult::kOk:
      break;
    case NumberResult::kOutOfRange:
      return Fit::kOutOfRange;
    case NumberResult::kNotInteger:
      return Fit::kNotInteger;
    case NumberResult::kMalformed:
      return Fit::kMalformed;
  }
  constexpr auto kHighest = static_cast<uint64_t>(std::numeric_limits<T>::max());
  constexpr uint64_t kLowest = std::numeric_limits<T>::is_signed ? kHighest + 1 : 0;
  if (integer.magnitude > (integer.negative ? kLowest : kHighest)) {
    return Fit::kOutOfRange;
  }
  const uint64_t value = integer.negative ? 0 - integer.magnitude : integer.magnitude;
  column.As<FixedWidthBuilder<T>>()->Append(static_cast<T>(value));
  return Fit::kFits;
}

JsonDecoder::Fit JsonDecoder::AppendText(const Column& column, std::string_view contents) {
  if (column.type == TypeId::kString) {
    auto* builder = column.As<BytesBuilder>();
    if (!HasEscape(contents)) {
      builder->Append(contents, text_end_);
      return Fit::kFits;
    }
    const int64_t size = Unescape(contents, builder->Reserve(contents.size()));
    if (size < 0) {
      return Fit::kMalformed;
    }
    builder->Commit(static_cast<size_t>(size));
    return Fit::kFits;
  }
  if (HasEscape(contents)) {
    scratch_.resize(contents.size());
    const int64_t size = Unescape(contents, scratch_.data());
    if (size < 0) {
      return Fit::kMalformed;
    }
    contents = std::string_view(scratch_).substr(0, static_cast<size_t>(size));
  }
  if (column.type == TypeId::kBinary) {
    auto* builder = column.As<BytesBuilder>();
    const int64_t size = DecodeBase64(contents, builder->Reserve(contents.size()));
    if (size < 0) {
      return Fit::kNotInFormat;
    }
    builder->Commit(static_cast<size_t>(size));
    return Fit::kFits;
  }
  int64_t value;
  switch (ParseTimestamp(contents, column.unit, column.has_zone, &value)) {
    case TimestampResult::kOk:
      break;
    case TimestampResult::kMalformed:
      return Fit::kNotInFormat;
    case TimestampResult::kTooFine:
      return Fit::kTooFine;
    case TimestampResult::kOutOfRange:
      return Fit::kOutOfRange;
  }
  column.As<FixedWidthBuilder<int64_t>>()->Append(value);
  return Fit::kFits;
}

JsonDecoder::Fit JsonDecoder::AppendLeaf(const Column& column, Token at) {
  const char first = text_[*at];
  switch (column.type) {
    case TypeId::kString:
    case TypeId::kBinary:
    case TypeId::kTimestamp:
      return first == '"' ? AppendText(column, StringContents(at)) : Fit::kOtherKind;
    case TypeId::kBool: {
      const bool value = first == 't';
      if (!value && first != 'f') {
        return Fit::kOtherKind;
      }
      const std::string_view token = Scalar(at);
      const std::string_view expected = value ? "true" : "false";
      if (token.size() != expected.size() ||
          !EqualBytes(token.data(), expected.data(), expected.size())) {
        return Fit::kMalformed;
      }
      column.As<BooleanBuilder>()->Append(value);
      return Fit::kFits;
    }
    default:
      break;
  }
  if (!IsNumberStart(first)) {
    return Fit::kOtherKind;
  }
  const std::string_view token = Scalar(at);
  switch (column.type) {
    case TypeId::kInt8:
      return AppendInteger<int8_t>(column, token);
    case TypeId::kInt16:
      return AppendInteger<int16_t>(column, token);
    case TypeId::kInt32:
      return AppendInteger<int32_t>(column, token);
    case TypeId::kInt64:
      return AppendInteger<int64_t>(column, token);
    case TypeId::kUInt8:
      return AppendInteger<uint8_t>(column, token);
    case TypeId::kUInt16:
      return AppendInteger<uint16_t>(column, token);
    case TypeId::kUInt32:
      return AppendInteger<uint32_t>(column, token);
    case TypeId::kUInt64:
      return AppendInteger<uint64_t>(column, token);
    default:
      break;
  }
  double value;
  if (ParseDouble(token, &value) != NumberResult::kOk) {
    return Fit::kMalformed;
  }
  if (column.type == TypeId::kFloat64) {
    column.As<FixedWidthBuilder<double>>()->Append(value);
    return Fit::kFits;
  }
  const auto narrow = static_cast<float>(value);
  if (std::isinf(narrow)) {
    return Fit::kOutOfRange;
  }
  column.As<FixedWidthBuilder<float>>()->Append(narrow);
  return Fit::kFits;
}

void JsonDecoder::AppendJsonText(const Column& column, Token begin, Token end) {
  auto* builder = column.As<BytesBuilder>();
  char* const out = builder->Reserve(*end - *begin);
  size_t size = 0;
  for (Token at = begin; at != end; ++at) {
    const std::string_view token = Scalar(at);
    std::memcpy(out + size, token.data(), token.size());
    size += token.size();
  }
  builder->Commit(size);
}

// --- the fast way --------------------------------------------------------------------------------

bool JsonDecoder::FastDocument() {
  // With a brace at the end no token but the last is without one behind it.
  const Token begin = tokens_.begin();
  if (text_[*begin] != '{' || text_[end_[-1]] != '}') {
    return false;
  }
  return FastObject(root_.get(), begin) == end_;
}

JsonDecoder::Token JsonDecoder::FastObject(Object* object, Token at) {
  const uint64_t number = ++object->count;
  size_t filled = 0;
  ++at;
  if (Peek(at) == '}') {
    ++at;
  } else {
    for (Name** guess = &object->first;;) {
      if (end_ - at < 4 || text_[at[0]] != '"' || text_[at[1]] != ':') {
        return nullptr;
      }
      Name* name = *guess;
      if (name == nullptr || !name->StandsAt(text_ + at[0] + 1, at[1] - at[0] - 1)) {
        const std::string_view contents = StringContents(at);
        name = HasEscape(contents) ? nullptr : FindName(object, contents);
        if (name == nullptr) {
          return nullptr;
        }
        *guess = name;
      }
      guess = &name->next;
      if (name->object == number) {
        return nullptr;
      }
      name->object = number;
      at += 2;
      if (name->column != nullptr) {
        ++filled;
        at = FastValue(*name->column, at);
      } else {
        if (!name->known) {
          if (refuse_unknown_) {
            return nullptr;
          }
          unknown_met_.push_back(name);
        }
        at = ValidateValue(at, kMaxDepth - object->depth);
      }
      if (at == nullptr) {
        return nullptr;
      }
      const char next = Peek(at++);
      if (next == '}') {
        break;
      }
      if (next != ',') {
        return nullptr;
      }
    }
  }
  if (filled != object->columns.size()) {
    for (const Name* name : object->columns) {
      if (name->object != number) {
        name->column->builder->AppendNull();
      }
    }
  }
  return at;
}

JsonDecoder::Token JsonDecoder::FastValue(const Column& column, Token at) {
  if (at >= end_) {
    return nullptr;
  }
  const char first = text_[*at];
  if (first == 'n') {
    if (Scalar(at) != "null") {
      return nullptr;
    }
    column.builder->AppendNull();
    return at + 1;
  }
  if (column.json_text) {
    const Token behind = ValidateValue(at, kMaxDepth - column.depth);
    if (behind != nullptr) {
      AppendJsonText(column, at, behind);
    }
    return behind;
  }
  switch (column.type) {
    case TypeId::kStruct:
      at = first == '{' ? FastObject(column.object.get(), at) : nullptr;
      if (at != nullptr) {
        column.As<StructBuilder>()->Commit();
      }
      return at;
    case TypeId::kList:
      return first == '[' ? FastList(column, at) : nullptr;
    case TypeId::kMap:
      return first == '{' ? FastMap(column, at) : nullptr;
    default:
      return AppendLeaf(column, at) == Fit::kFits ? at + 1 : nullptr;
  }
}

JsonDecoder::Token JsonDecoder::FastList(const Column& column, Token at) {
  ++at;
  if (Peek(at) == ']') {
    ++at;
  } else {
    for (;;) {
      at = FastValue(*column.item, at);
      if (at == nullptr) {
        return nullptr;
      }
      const char next = Peek(at++);
      if (next == ']') {
        break;
      }
      if (next != ',') {
        return nullptr;
      }
    }
  }
  column.As<ListBuilder>()->Commit();
  return at;
}

JsonDecoder::Token JsonDecoder::FastMap(const Column& column, Token at) {
  auto* map = column.As<ListBuilder>();
  auto* entries = static_cast<StructBuilder*>(map->items());
  std::array<std::string_view, kMostKeysCompared> keys;
  size_t count = 0;
  ++at;
  if (Peek(at) == '}') {
    ++at;
  } else {
    for (;;) {
      if (end_ - at < 4 || text_[at[0]] != '"' || text_[at[1]] != ':') {
        return nullptr;
      }
      const std::string_view key = StringContents(at);
      const auto known = keys.begin() + static_cast<std::ptrdiff_t>(count);
      if (count == keys.size() || HasEscape(key) || std::find(keys.begin(), known, key) != known) {
        return nullptr;
      }
      keys[count++] = key;
      column.keys->Append(key, text_end_);
      at = FastValue(*column.item, at + 2);
      if (at == nullptr) {
        return nullptr;
      }
      entries->Commit();
      const char next = Peek(at++);
      if (next == '}') {
        break;
      }
      if (next != ',') {
        return nullptr;
      }
    }
  }
  map->Commit();
  return at;
}

// --- the exact way -------------------------------------------------------------------------------

JsonDecoder::Token JsonDecoder::Fail(std::string reason) {
  failure_ = {"", std::move(reason)};
  return nullptr;
}

bool JsonDecoder::ExactDocument() {
  const Token begin = tokens_.begin();
  int deepest = 0;
  if (ValidateValue(begin, std::numeric_limits<int>::max(), &deepest) != end_) {
    return Fail("malformed JSON") != nullptr;
  }
  if (deepest > kMaxDepth) {
    return Fail("nested deeper than 128 levels") != nullptr;
  }
  if (Peek(begin) != '{') {
    return Fail(std::string("expected an object, found ") + KindOf(Peek(begin))) != nullptr;
  }
  return ExactObject(root_.get(), begin) != nullptr;
}

// Reads the keys of the object at `at`, which moves behind it, and where their values are; the last
// of equal keys counts, in the place of the first.
std::vector<JsonDecoder::Member> JsonDecoder::ReadMembers(Token* at) const {
  std::vector<Member> members;
  std::unordered_map<std::string, size_t> places;
  Token token = *at + 1;
  while (text_[*token] != '}') {
    if (text_[*token] == ',') {
      ++token;
    }
    const std::string_view contents = StringContents(token);
    std::string key(contents.size(), '\0');
    key.resize(static_cast<size_t>(Unescape(contents, key.data())));
    token += 2;
    const auto [place, is_new] = places.emplace(key, members.size());
    if (is_new) {
      members.push_back({std::move(key), token});
    } else {
      members[place->second].value = token;
    }
    token = SkipValidated(token);
  }
  *at = token + 1;
  return members;
}

JsonDecoder::Token JsonDecoder::ExactObject(Object* object, Token at) {
  const std::vector<Member> members = ReadMembers(&at);
  const uint64_t number = ++object->count;
  for (const Member& member : members) {
    Name* name = FindName(object, member.key);
    Token behind = member.value;
    if (name == nullptr || !name->known) {
      if (refuse_unknown_) {
        behind = Fail("unknown field");
      } else if (name != nullptr) {
        unknown_met_.push_back(name);
      }
    } else if (name->column != nullptr) {
      name->object = number;
      behind = ExactValue(*name->column, member.value);
    }
    if (behind == nullptr) {
      failure_.field.insert(0, PathStep(member.key));
      return nullptr;
    }
  }
  for (const Name* name : object->columns) {
    if (name->object != number) {
      name->column->builder->AppendNull();
    }
  }
  return at;
}

JsonDecoder::Token JsonDecoder::FailKind(const Column& column, Token at) {
  std::string expected;
  switch (column.type) {
    case TypeId::kBool:
      expected = "a boolean";
      break;
    case TypeId::kFloat32:
    case TypeId::kFloat64:
      expected = "a number";
      break;
    case TypeId::kString:
    case TypeId::kBinary:
    case TypeId::kTimestamp:
      expected = "a string";
      break;
    case TypeId::kStruct:
    case TypeId::kMap:
      expected = "an object";
      break;
    case TypeId::kList:
      expected = "an array";
      break;
    default:
      expected = "an integer";
  }
  return Fail("expected " + expected + ", found " + KindOf(Peek(at)));
}

JsonDecoder::Token JsonDecoder::ExactValue(const Column& column, Token at) {
  const char first = Peek(at);
  if (first == 'n') {
    column.builder->AppendNull();
    return at + 1;
  }
  if (column.json_text) {
    const Token behind = SkipValidated(at);
    AppendJsonText(column, at, behind);
    return behind;
  }
  switch (column.type) {
    case TypeId::kStruct:
      if (first != '{') {
        return FailKind(column, at);
      }
      at = ExactObject(column.object.get(), at);
      if (at != nullptr) {
        column.As<StructBuilder>()->Commit();
      }
      return at;
    case TypeId::kList:
      return first == '[' ? ExactList(column, at) : FailKind(column, at);
    case TypeId::kMap:
      return first == '{' ? ExactMap(column, at) : FailKind(column, at);
    default:
      break;
  }
  switch (AppendLeaf(column, at)) {
    case Fit::kFits:
      return at + 1;
    case Fit::kOtherKind:
      return FailKind(column, at);
    case Fit::kNotInteger:
      return Fail("expected an integer, found a number with a fraction or an exponent");
    case Fit::kOutOfRange:
      return Fail(std::string("out of range for ") + TypeName(column.type, column.unit));
    case Fit::kTooFine:
      return Fail(std::string("finer than ") + TypeName(column.type, column.unit));
    case Fit::kNotInFormat:
      return Fail(column.type == TypeId::kBinary ? "not canonical base64"
                  : column.has_zone              ? "not an RFC 3339 timestamp"
                                                 : "not a timestamp without an offset");
    case Fit::kMalformed:
      break;
  }
  return Fail("malformed JSON");
}

JsonDecoder::Token JsonDecoder::ExactList(const Column& column, Token at) {
  ++at;
  for (size_t index = 0; text_[*at] != ']'; ++index) {
    if (text_[*at] == ',') {
      ++at;
    }
    at = ExactValue(*column.item, at);
    if (at == nullptr) {
      failure_.field.insert(0, "[" + std::to_string(index) + "]");
      return nullptr;
    }
  }
  column.As<ListBuilder>()->Commit();
  return at + 1;
}

JsonDecoder::Token JsonDecoder::ExactMap(const Column& column, Token at) {
  auto* map = column.As<ListBuilder>();
  for (const Member& member : ReadMembers(&at)) {
    column.keys->Append(member.key);
    if (ExactValue(*column.item, member.value) == nullptr) {
      failure_.field.insert(0, PathStep(member.key));
      return nullptr;
    }
    static_cast<StructBuilder*>(map->items())->Commit();
  }
  map->Commit();
  return at;
}

}  // namespace sabot
