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

// Fields that no schema names are counted by name, but a topic with random names must not eat memory.
constexpr size_t kMostUnknownNames = 10'000;
// The fast way compares the keys of a map pairwise; longer maps take the exact way, which hashes them.
constexpr size_t kMostKeysCompared = 32;

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
  // The name and the closing quote, as they stand in a document; for a name that is only ever written
  // with escapes a byte that no document has.
  std::string quoted;
  Column* column = nullptr;  // Null: only validated.
  bool known = false;
  std::string path;          // Of an unknown one.
  uint64_t count = 0;        // Of an unknown one: objects that had it.
  uint64_t object = 0;       // Number of the last object that had it.
  Name* next = nullptr;      // What came after it last time.
};

// The fields of one kind of object: the document or a struct.
struct JsonDecoder::Object {
  std::string path;
  int depth;                         // Of the object itself; the document is 1 deep.
  std::deque<Name> names;            // Addresses stay.
  std::vector<Name*> columns;        // Those to build, in order.
  std::vector<std::unique_ptr<Column>> owned;
  std::unordered_map<std::string_view, Name*> by_name;
  Name* first = nullptr;             // What came first last time.
  uint64_t count = 0;                // Objects so far: a number for each.
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
  at_ = tokens_.begin();
  end_ = tokens_.end();
  has_escapes_ = std::memchr(text_, '\\', value.size()) != nullptr;
  const int64_t rows = built_.empty() ? 0 : built_.front()->length();
  bool decoded = FastDocument();
  if (!decoded) {
    for (ColumnBuilder* builder : built_) {
      builder->Truncate(rows);
    }
    unknown_met_.clear();
    at_ = tokens_.begin();
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
std::string_view JsonDecoder::Scalar() const {
  const char* const begin = text_ + at_[0];
  const char* end = text_ + at_[1];
  while (end != begin && IsWhiteSpace(end[-1])) {
    --end;
  }
  return {begin, static_cast<size_t>(end - begin)};
}

// Between a string's closing quote and the next token is only white space.
std::string_view JsonDecoder::StringContents() const {
  const char* const begin = text_ + at_[0] + 1;
  const char* end = text_ + at_[1] - 1;
  while (*end != '"') {
    --end;
  }
  return {begin, static_cast<size_t>(end - begin)};
}

bool JsonDecoder::IsNull() const { return text_[*at_] == 'n' && Scalar() == "null"; }

bool JsonDecoder::HasEscape(std::string_view contents) const {
  return has_escapes_ && contents.find('\\') != std::string_view::npos;
}

bool JsonDecoder::ValidateString() const {
  const std::string_view contents = StringContents();
  if (!HasEscape(contents)) {
    return true;
  }
  std::string unescaped(contents.size(), '\0');
  return Unescape(contents, unescaped.data()) >= 0;
}

// Checks the value by the grammar. A `max_depth` ends it early; `deepest` gets the containers of the
// deepest value, this one's enclosing ones not counted.
bool JsonDecoder::ValidateValue(int max_depth, int* deepest) {
  const auto validate_scalar = [this] {
    const std::string_view token = Scalar();
    if (!IsNumberStart(token.front())) {
      return token == "true" || token == "false" || token == "null";
    }
    double ignored;
    return ParseDouble(token, &ignored) == NumberResult::kOk;
  };
  const auto validate_key = [this] {
    if (Peek() != '"' || !ValidateString()) {
      return false;
    }
    ++at_;
    if (Peek() != ':') {
      return false;
    }
    ++at_;
    return true;
  };

  containers_.clear();
  for (;;) {
    const char first = Peek();
    bool opened = false;
    if (first == '{' || first == '[') {
      ++at_;
      containers_.push_back(first);
      const int depth = static_cast<int>(containers_.size());
      if (depth > max_depth) {
        return false;
      }
      if (deepest != nullptr) {
        *deepest = std::max(*deepest, depth);
      }
      const bool empty = Peek() == (first == '{' ? '}' : ']');
      opened = !empty;
      if (empty) {
        ++at_;
        containers_.pop_back();
      }
    } else if (first == '\0' || !(first == '"' ? ValidateString() : validate_scalar())) {
      return false;
    } else {
      ++at_;
    }
    while (!opened) {
      if (containers_.empty()) {
        return true;
      }
      const char next = Peek();
      ++at_;
      if (next == ',') {
        break;
      }
      if (next != (containers_.back() == '{' ? '}' : ']')) {
        return false;
      }
      containers_.pop_back();
    }
    if (containers_.back() == '{' && !validate_key()) {
      return false;
    }
  }
}

void JsonDecoder::SkipValidated() {
  int depth = 0;
  do {
    const char c = text_[*at_++];
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
  } while (depth > 0);
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
      builder->Append(contents);
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

// Appends the value at `at_`, which is not null, to a column without children, and moves behind it.
JsonDecoder::Fit JsonDecoder::AppendLeaf(const Column& column) {
  const char first = Peek();
  Fit fit = Fit::kOtherKind;
  switch (column.type) {
    case TypeId::kString:
    case TypeId::kBinary:
    case TypeId::kTimestamp:
      if (first == '"') {
        fit = AppendText(column, StringContents());
      }
      break;
    case TypeId::kBool:
      if (first == 't' || first == 'f') {
        const bool value = first == 't';
        if (Scalar() != (value ? "true" : "false")) {
          return Fit::kMalformed;
        }
        column.As<BooleanBuilder>()->Append(value);
        fit = Fit::kFits;
      }
      break;
    default:
      if (!IsNumberStart(first)) {
        break;
      }
      const std::string_view token = Scalar();
      switch (column.type) {
        case TypeId::kInt8:
          fit = AppendInteger<int8_t>(column, token);
          break;
        case TypeId::kInt16:
          fit = AppendInteger<int16_t>(column, token);
          break;
        case TypeId::kInt32:
          fit = AppendInteger<int32_t>(column, token);
          break;
        case TypeId::kInt64:
          fit = AppendInteger<int64_t>(column, token);
          break;
        case TypeId::kUInt8:
          fit = AppendInteger<uint8_t>(column, token);
          break;
        case TypeId::kUInt16:
          fit = AppendInteger<uint16_t>(column, token);
          break;
        case TypeId::kUInt32:
          fit = AppendInteger<uint32_t>(column, token);
          break;
        case TypeId::kUInt64:
          fit = AppendInteger<uint64_t>(column, token);
          break;
        default: {
          double value;
          if (ParseDouble(token, &value) != NumberResult::kOk) {
            return Fit::kMalformed;
          }
          if (column.type == TypeId::kFloat64) {
            column.As<FixedWidthBuilder<double>>()->Append(value);
          } else if (const auto narrow = static_cast<float>(value); std::isinf(narrow)) {
            return Fit::kOutOfRange;
          } else {
            column.As<FixedWidthBuilder<float>>()->Append(narrow);
          }
          fit = Fit::kFits;
        }
      }
  }
  ++at_;
  return fit;
}

void JsonDecoder::AppendJsonText(const Column& column, const uint32_t* begin, const uint32_t* end) {
  auto* builder = column.As<BytesBuilder>();
  const size_t longest = *end - *begin;
  char* const out = builder->Reserve(longest);
  size_t size = 0;
  for (const uint32_t* token = begin; token != end; ++token) {
    const char* from = text_ + token[0];
    const char* to = text_ + token[1];
    while (IsWhiteSpace(to[-1])) {
      --to;
    }
    std::memcpy(out + size, from, static_cast<size_t>(to - from));
    size += static_cast<size_t>(to - from);
  }
  builder->Commit(size);
}

// --- the fast way --------------------------------------------------------------------------------

bool JsonDecoder::FastDocument() {
  // With a brace at the end no token but the last is without one behind it.
  if (text_[*at_] != '{' || text_[end_[-1]] != '}') {
    return false;
  }
  return FastObject(root_.get()) && at_ == end_;
}

bool JsonDecoder::FastObject(Object* object) {
  const uint64_t number = ++object->count;
  size_t filled = 0;
  ++at_;
  if (Peek() == '}') {
    ++at_;
  } else {
    Name** guess = &object->first;
    for (;;) {
      if (end_ - at_ < 4 || text_[at_[0]] != '"' || text_[at_[1]] != ':') {
        return false;
      }
      const char* const key = text_ + at_[0] + 1;
      const auto room = static_cast<size_t>(at_[1] - at_[0] - 1);
      Name* name = *guess;
      if (name == nullptr || name->quoted.size() > room ||
          std::memcmp(key, name->quoted.data(), name->quoted.size()) != 0) {
        const std::string_view contents = StringContents();
        if (HasEscape(contents)) {
          return false;
        }
        name = FindName(object, contents);
        if (name == nullptr) {
          return false;
        }
        *guess = name;
      }
      if (name->object == number) {
        return false;
      }
      name->object = number;
      at_ += 2;
      if (name->column != nullptr) {
        if (!FastValue(name->column)) {
          return false;
        }
        ++filled;
      } else {
        if (!name->known) {
          if (refuse_unknown_) {
            return false;
          }
          unknown_met_.push_back(name);
        }
        if (!ValidateValue(kMaxDepth - object->depth)) {
          return false;
        }
      }
      guess = &name->next;
      const char next = Peek();
      ++at_;
      if (next == '}') {
        break;
      }
      if (next != ',') {
        return false;
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
  return true;
}

bool JsonDecoder::FastValue(Column* column) {
  const char first = Peek();
  if (first == 'n') {
    if (!IsNull()) {
      return false;
    }
    ++at_;
    column->builder->AppendNull();
    return true;
  }
  if (column->json_text) {
    const uint32_t* const begin = at_;
    if (!ValidateValue(kMaxDepth - column->depth)) {
      return false;
    }
    AppendJsonText(*column, begin, at_);
    return true;
  }
  switch (column->type) {
    case TypeId::kStruct:
      if (first != '{' || !FastObject(column->object.get())) {
        return false;
      }
      column->As<StructBuilder>()->Commit();
      return true;
    case TypeId::kList:
      return first == '[' && FastList(column);
    case TypeId::kMap:
      return first == '{' && FastMap(column);
    default:
      return AppendLeaf(*column) == Fit::kFits;
  }
}

bool JsonDecoder::FastList(Column* column) {
  ++at_;
  if (Peek() == ']') {
    ++at_;
  } else {
    for (;;) {
      if (!FastValue(column->item.get())) {
        return false;
      }
      const char next = Peek();
      ++at_;
      if (next == ']') {
        break;
      }
      if (next != ',') {
        return false;
      }
    }
  }
  column->As<ListBuilder>()->Commit();
  return true;
}

bool JsonDecoder::FastMap(Column* column) {
  auto* map = column->As<ListBuilder>();
  auto* entries = static_cast<StructBuilder*>(map->items());
  std::array<std::string_view, kMostKeysCompared> keys;
  size_t count = 0;
  ++at_;
  if (Peek() == '}') {
    ++at_;
  } else {
    for (;;) {
      if (end_ - at_ < 4 || text_[at_[0]] != '"' || text_[at_[1]] != ':') {
        return false;
      }
      const std::string_view key = StringContents();
      const auto known = keys.begin() + static_cast<std::ptrdiff_t>(count);
      if (count == keys.size() || HasEscape(key) || std::find(keys.begin(), known, key) != known) {
        return false;
      }
      keys[count++] = key;
      at_ += 2;
      column->keys->Append(key);
      if (!FastValue(column->item.get())) {
        return false;
      }
      entries->Commit();
      const char next = Peek();
      ++at_;
      if (next == '}') {
        break;
      }
      if (next != ',') {
        return false;
      }
    }
  }
  map->Commit();
  return true;
}

// --- the exact way -------------------------------------------------------------------------------

bool JsonDecoder::Fail(std::string reason) {
  failure_ = {"", std::move(reason)};
  return false;
}

bool JsonDecoder::ExactDocument() {
  int deepest = 0;
  if (!ValidateValue(std::numeric_limits<int>::max(), &deepest) || at_ != end_) {
    return Fail("malformed JSON");
  }
  if (deepest > kMaxDepth) {
    return Fail("nested deeper than 128 levels");
  }
  at_ = tokens_.begin();
  if (Peek() != '{') {
    return Fail(std::string("expected an object, found ") + KindOf(Peek()));
  }
  return ExactObject(root_.get());
}

// Reads the keys of the object at `at_` and where their values are; the last of equal keys counts, in
// the place of the first.
std::vector<JsonDecoder::Member> JsonDecoder::ReadMembers() {
  std::vector<Member> members;
  std::unordered_map<std::string, size_t> places;
  ++at_;
  while (text_[*at_] != '}') {
    if (text_[*at_] == ',') {
      ++at_;
    }
    const std::string_view contents = StringContents();
    std::string key(contents.size(), '\0');
    key.resize(static_cast<size_t>(Unescape(contents, key.data())));
    at_ += 2;
    const auto [place, is_new] = places.emplace(key, members.size());
    if (is_new) {
      members.push_back({std::move(key), at_});
    } else {
      members[place->second].value = at_;
    }
    SkipValidated();
  }
  ++at_;
  return members;
}

bool JsonDecoder::ExactObject(Object* object) {
  const std::vector<Member> members = ReadMembers();
  const uint32_t* const behind = at_;
  const uint64_t number = ++object->count;
  for (const Member& member : members) {
    at_ = member.value;
    Name* name = FindName(object, member.key);
    bool fits = true;
    if (name == nullptr || !name->known) {
      if (refuse_unknown_) {
        fits = Fail("unknown field");
      } else if (name != nullptr) {
        unknown_met_.push_back(name);
      }
    } else if (name->column != nullptr) {
      name->object = number;
      fits = ExactValue(name->column);
    }
    if (!fits) {
      failure_.field.insert(0, PathStep(member.key));
      return false;
    }
  }
  for (const Name* name : object->columns) {
    if (name->object != number) {
      name->column->builder->AppendNull();
    }
  }
  at_ = behind;
  return true;
}

bool JsonDecoder::FailKind(const Column& column) {
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
  return Fail("expected " + expected + ", found " + KindOf(Peek()));
}

bool JsonDecoder::ExactValue(Column* column) {
  const char first = Peek();
  if (first == 'n') {
    ++at_;
    column->builder->AppendNull();
    return true;
  }
  if (column->json_text) {
    const uint32_t* const begin = at_;
    SkipValidated();
    AppendJsonText(*column, begin, at_);
    return true;
  }
  switch (column->type) {
    case TypeId::kStruct:
      if (first != '{') {
        return FailKind(*column);
      }
      if (!ExactObject(column->object.get())) {
        return false;
      }
      column->As<StructBuilder>()->Commit();
      return true;
    case TypeId::kList:
      return first == '[' ? ExactList(column) : FailKind(*column);
    case TypeId::kMap:
      return first == '{' ? ExactMap(column) : FailKind(*column);
    default:
      break;
  }
  static constexpr std::array<const char*, 11> kTypeNames = {
      "bool",  "int8",   "int16",  "int32",  "int64",  "uint8",
      "uint16", "uint32", "uint64", "float32", "float64"};
  static constexpr std::array<const char*, 4> kTimestampNames = {
      "timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"};
  const std::string type = column->type == TypeId::kTimestamp
                               ? kTimestampNames.at(static_cast<size_t>(column->unit))
                               : static_cast<size_t>(column->type) < kTypeNames.size()
                                     ? kTypeNames.at(static_cast<size_t>(column->type))
                                     : "";
  const uint32_t* const begin = at_;
  switch (AppendLeaf(*column)) {
    case Fit::kFits:
      return true;
    case Fit::kOtherKind:
      at_ = begin;
      return FailKind(*column);
    case Fit::kNotInteger:
      return Fail("expected an integer, found a number with a fraction or an exponent");
    case Fit::kOutOfRange:
      return Fail("out of range for " + type);
    case Fit::kTooFine:
      return Fail("finer than " + type);
    case Fit::kNotInFormat:
      return Fail(column->type == TypeId::kBinary ? "not canonical base64"
                  : column->has_zone              ? "not an RFC 3339 timestamp"
                                                  : "not a timestamp without an offset");
    case Fit::kMalformed:
      break;
  }
  return Fail("malformed JSON");
}

bool JsonDecoder::ExactList(Column* column) {
  ++at_;
  for (size_t index = 0; text_[*at_] != ']'; ++index) {
    if (text_[*at_] == ',') {
      ++at_;
    }
    if (!ExactValue(column->item.get())) {
      failure_.field.insert(0, "[" + std::to_string(index) + "]");
      return false;
    }
  }
  ++at_;
  column->As<ListBuilder>()->Commit();
  return true;
}

bool JsonDecoder::ExactMap(Column* column) {
  auto* map = column->As<ListBuilder>();
  const std::vector<Member> members = ReadMembers();
  const uint32_t* const behind = at_;
  for (const Member& member : members) {
    at_ = member.value;
    column->keys->Append(member.key);
    if (!ExactValue(column->item.get())) {
      failure_.field.insert(0, PathStep(member.key));
      return false;
    }
    static_cast<StructBuilder*>(map->items())->Commit();
  }
  at_ = behind;
  map->Commit();
  return true;
}

}  // namespace sabot
