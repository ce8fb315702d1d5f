#include "codec/json_decoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "codec/json_fields.h"
#include "codec/json_scalars.h"
#include "codec/string_scan.h"
#include "codec/text_formats.h"

namespace sabot {
namespace {

// Fields that no schema names are counted by name, but a topic with random names must not eat
// memory.
constexpr size_t kMostUnknownNames = 10'000;
constexpr size_t kLongestUnknownName = 256;
// sabot_ray.schema.can_be_column says the same.
constexpr std::string_view kReservedPrefix = "_kafka_";
// The fast way compares the keys of a map pairwise; longer maps take the exact way, which hashes
// them.
constexpr size_t kMostKeysCompared = 32;
// Longer strings are measured first and copied then.
constexpr size_t kShortString = 64;

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

bool IsPlainName(std::string_view name) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !name.empty() && is_letter(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

}  // namespace

std::string PathStep(std::string_view name) {
  if (IsPlainName(name)) {
    return "." + std::string(name);
  }
  std::string step = "[";
  AppendQuoted(name, &step);
  return step + "]";
}

char* CopyCompact(std::string_view text, char* out) {
  bool in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string && c == '\\') {
      *out++ = c;
      *out++ = text[++at];
      continue;
    }
    in_string ^= c == '"';
    if (in_string || !IsWhiteSpace(c)) {
      *out++ = c;
    }
  }
  return out;
}

JsonDecoder::JsonDecoder(const std::vector<Field>& fields,
                         const std::vector<ColumnBuilder*>& columns, UnknownFields unknown_fields,
                         std::string_view root)
    : unknown_fields_(unknown_fields) {
  std::vector<Field> of_values = fields;
  if (unknown_fields == UnknownFields::kRescue) {
    rescued_ = static_cast<BytesBuilder*>(columns.back());
    of_values.pop_back();
  }
  root_ = MakeObject(of_values, columns, std::string(root), 1);
  for (ColumnBuilder* builder : columns) {
    if (builder != nullptr) {
      built_.push_back(builder);
    }
  }
  if (rescued_ != nullptr) {
    known_ = std::make_unique<Known>();
    known_->type = TypeId::kStruct;
    for (size_t i = 0; i < of_values.size(); ++i) {
      known_->fields[of_values[i].name] = MakeKnown(of_values[i], columns[i] != nullptr);
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
  column->precision = field.precision;
  column->scale = field.scale;
  column->json_text = field.json_text;
  column->depth = depth;
  column->builder = builder;
  if (!field.json_text) {
    column->common = field.type == TypeId::kString    ? Common::kString
                     : field.type == TypeId::kInt64   ? Common::kInt64
                     : field.type == TypeId::kFloat64 ? Common::kFloat64
                     : field.type == TypeId::kBool    ? Common::kBool
                                                      : Common::kNone;
  }
  if (field.type == TypeId::kStruct) {
    auto* children = static_cast<StructBuilder*>(builder);
    std::vector<ColumnBuilder*> builders;
    builders.reserve(field.children.size());
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

// Whether a field that the schema does not know ends the row.
bool JsonDecoder::RefusesUnknown(const Object* object, std::string_view name) const {
  if (unknown_fields_ != UnknownFields::kEvolve) {
    return unknown_fields_ == UnknownFields::kFail;
  }
  return object == root_.get() && name.substr(0, kReservedPrefix.size()) != kReservedPrefix &&
         name.find('\0') == std::string_view::npos;
}

JsonDecoder::Name* JsonDecoder::AddName(Object* object, std::string_view name) {
  Name& added = object->names.emplace_back();
  added.name = name;
  added.path = object->path + PathStep(name);
  const bool needs_escapes = std::any_of(name.begin(), name.end(), [](char c) {
    return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
  });
  added.quoted = needs_escapes ? std::string(1, '\x01') : '"' + added.name + "\":";
  added.non_ascii = std::any_of(name.begin(), name.end(),
                                [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
  object->by_name.emplace(added.name, &added);
  return &added;
}

// Finds a name, or takes it up as an unknown one; null if there are too many of these, or it is too
// long for one.
JsonDecoder::Name* JsonDecoder::FindName(Object* object, std::string_view name) {
  const auto found = object->by_name.find(name);
  if (found != object->by_name.end()) {
    return found->second;
  }
  if (unknown_names_ == kMostUnknownNames || name.size() > kLongestUnknownName) {
    return nullptr;
  }
  ++unknown_names_;
  return AddName(object, name);
}

template <typename Visit>
void JsonDecoder::VisitNames(Object* object, const Visit& visit) {
  for (Name& name : object->names) {
    visit(&name);
  }
  for (const auto& owned : object->owned) {
    for (const Column* column = owned.get(); column != nullptr; column = column->item.get()) {
      if (column->object) {
        VisitNames(column->object.get(), visit);
      }
    }
  }
}

std::vector<std::pair<std::string, uint64_t>> JsonDecoder::UnknownFieldCounts() const {
  std::vector<std::pair<std::string, uint64_t>> counts;
  VisitNames(root_.get(), [&counts](const Name* name) {
    if (name->count != 0) {
      counts.emplace_back(name->path, name->count);
    }
  });
  return counts;
}

void JsonDecoder::KeepCounts() {
  if (unknown_kept_ != unknown_changes_) {
    VisitNames(root_.get(), [](Name* name) { name->kept = name->count; });
    unknown_kept_ = unknown_changes_;
  }
}

void JsonDecoder::DropCounts() {
  if (unknown_kept_ != unknown_changes_) {
    VisitNames(root_.get(), [](Name* name) { name->count = name->kept; });
    unknown_kept_ = ++unknown_changes_;
  }
}

std::optional<DecodeFailure> JsonDecoder::Decode(std::string_view value) {
  unknown_met_.clear();
  text_ = value.data();
  text_end_ = text_ + value.size();
  const int64_t rows = built_.empty() ? 0 : built_.front()->length();
  const auto take_back = [&] {
    for (ColumnBuilder* builder : built_) {
      builder->Truncate(rows);
    }
    unknown_met_.clear();
  };
  const bool is_exact = !FastDocument();
  if (is_exact) {
    take_back();
    if (!tokens_.Index(value)) {
      return DecodeFailure{root_->path, kMalformedJson};
    }
    if (!ExactDocument()) {
      take_back();
      failure_.field.insert(0, root_->path);
      return std::move(failure_);
    }
  }
  if (rescued_ != nullptr && !Rescue(value, is_exact)) {
    take_back();
    return DecodeFailure{root_->path, kMalformedJson};
  }
  for (Name* name : unknown_met_) {
    ++name->count;
    ++unknown_changes_;
  }
  return std::nullopt;
}

void JsonDecoder::UncountLast() {
  for (Name* name : unknown_met_) {
    --name->count;
    ++unknown_changes_;
  }
  unknown_met_.clear();
}

// --- both ways -----------------------------------------------------------------------------------

inline const char* JsonDecoder::SkipSpace(const char* at) const {
  while (at != text_end_ && IsWhiteSpace(*at)) {
    ++at;
  }
  return at;
}

inline bool JsonDecoder::Stands(const char* at, std::string_view word) const {
  return static_cast<size_t>(text_end_ - at) >= word.size() &&
         EqualBytes(at, word.data(), word.size());
}

// Reads the string whose opening quote is at `at`; null if it does not end or has a control
// character. Escapes are not looked into.
inline const char* JsonDecoder::ReadString(const char* at, std::string_view* contents,
                                           bool* has_escapes) {
  const char* const begin = ++at;
  *has_escapes = false;
  for (;;) {
    at = FindSpecial(at, text_end_, &has_non_ascii_);
    if (at == text_end_) {
      return nullptr;
    }
    if (*at == '"') {
      *contents = {begin, static_cast<size_t>(at - begin)};
      return at + 1;
    }
    if (*at != '\\' || text_end_ - at < 2) {
      return nullptr;
    }
    *has_escapes = true;
    at += 2;
  }
}

template <typename T>
inline JsonDecoder::Fit JsonDecoder::AppendInteger(const Column& column, const char** at) {
  JsonInteger integer;
  const NumberResult result = ReadInteger(at, text_end_, &integer);
  if (result == NumberResult::kMalformed) {
    return Fit::kMalformed;
  }
  const char next = Peek(*at);
  if (next == '.' || next == 'e' || next == 'E') {
    return Fit::kNotInteger;
  }
  constexpr auto kHighest = static_cast<uint64_t>(std::numeric_limits<T>::max());
  constexpr uint64_t kLowest = std::numeric_limits<T>::is_signed ? kHighest + 1 : 0;
  if (result == NumberResult::kOutOfRange ||
      integer.magnitude > (integer.negative ? kLowest : kHighest)) {
    return Fit::kOutOfRange;
  }
  const uint64_t value = integer.negative ? 0 - integer.magnitude : integer.magnitude;
  column.As<FixedWidthBuilder<T>>()->Append(static_cast<T>(value));
  return Fit::kFits;
}

inline JsonDecoder::Fit JsonDecoder::AppendText(const Column& column, std::string_view contents,
                                                bool has_escapes) {
  if (column.type == TypeId::kString) {
    auto* builder = column.As<BytesBuilder>();
    if (!has_escapes) {
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
  return AppendParsed(column, contents, has_escapes);
}

// For strings that hold something else than text.
JsonDecoder::Fit JsonDecoder::AppendParsed(const Column& column, std::string_view contents,
                                           bool has_escapes) {
  if (has_escapes) {
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
  if (column.is_decimal()) {
    return AppendDecimal(column, contents);
  }
  int64_t value = 0;
  FormatResult result;
  switch (column.type) {
    case TypeId::kDate32:
    case TypeId::kDate64:
      result = ParseDate(contents, &value);
      break;
    case TypeId::kTime32:
    case TypeId::kTime64:
      result = ParseTime(contents, column.unit, &value);
      break;
    default:
      result = ParseTimestamp(contents, column.unit, column.has_zone, &value);
  }
  if (result != FormatResult::kOk) {
    return FitOf(result);
  }
  constexpr int64_t kMillisecondsPerDay = 86'400'000;
  switch (column.type) {
    case TypeId::kDate32:
    case TypeId::kTime32:
      column.As<FixedWidthBuilder<int32_t>>()->Append(static_cast<int32_t>(value));
      break;
    case TypeId::kDate64:
      column.As<FixedWidthBuilder<int64_t>>()->Append(value * kMillisecondsPerDay);
      break;
    default:
      column.As<FixedWidthBuilder<int64_t>>()->Append(value);
  }
  return Fit::kFits;
}

JsonDecoder::Fit JsonDecoder::FitOf(FormatResult result) {
  switch (result) {
    case FormatResult::kOk:
      return Fit::kFits;
    case FormatResult::kMalformed:
      return Fit::kNotInFormat;
    case FormatResult::kTooFine:
      return Fit::kTooFine;
    case FormatResult::kOutOfRange:
      return Fit::kOutOfRange;
  }
  return Fit::kMalformed;
}

// Appends the number at `at`, and moves behind it.
JsonDecoder::Fit JsonDecoder::AppendDecimalNumber(const Column& column, const char** at) {
  const char* const begin = *at;
  double ignored;
  if (ReadDouble(at, text_end_, &ignored) != NumberResult::kOk) {
    return Fit::kMalformed;
  }
  return AppendDecimal(column, {begin, static_cast<size_t>(*at - begin)});
}

// Appends a number or the contents of a string.
JsonDecoder::Fit JsonDecoder::AppendDecimal(const Column& column, std::string_view text) {
  Decimal256 value;
  const FormatResult result = ParseDecimal(text, column.precision, column.scale, &value);
  if (result != FormatResult::kOk) {
    return FitOf(result);
  }
  if (column.type == TypeId::kDecimal256) {
    column.As<FixedWidthBuilder<Decimal256>>()->Append(value);
  } else {
    column.As<FixedWidthBuilder<Decimal128>>()->Append({value[0], value[1]});
  }
  return Fit::kFits;
}

const char* JsonDecoder::AppendLeaf(const Column& column, const char* at, Fit* fit) {
  const char first = *at;
  *fit = Fit::kOtherKind;
  switch (column.type) {
    case TypeId::kDecimal128:
    case TypeId::kDecimal256:
      if (IsNumberStart(first)) {
        *fit = AppendDecimalNumber(column, &at);
        break;
      }
      [[fallthrough]];
    case TypeId::kString:
    case TypeId::kBinary:
    case TypeId::kTimestamp:
    case TypeId::kDate32:
    case TypeId::kDate64:
    case TypeId::kTime32:
    case TypeId::kTime64: {
      if (first != '"') {
        return nullptr;
      }
      std::string_view contents;
      bool has_escapes;
      at = ReadString(at, &contents, &has_escapes);
      *fit = at != nullptr ? AppendText(column, contents, has_escapes) : Fit::kMalformed;
      break;
    }
    case TypeId::kBool: {
      const bool value = first == 't';
      if (!value && first != 'f') {
        return nullptr;
      }
      const std::string_view word = value ? "true" : "false";
      if (!Stands(at, word)) {
        *fit = Fit::kMalformed;
        return nullptr;
      }
      column.As<BooleanBuilder>()->Append(value);
      at += word.size();
      *fit = Fit::kFits;
      break;
    }
    default: {
      if (!IsNumberStart(first)) {
        return nullptr;
      }
      switch (column.type) {
        case TypeId::kInt8:
          *fit = AppendInteger<int8_t>(column, &at);
          break;
        case TypeId::kInt16:
          *fit = AppendInteger<int16_t>(column, &at);
          break;
        case TypeId::kInt32:
          *fit = AppendInteger<int32_t>(column, &at);
          break;
        case TypeId::kInt64:
        case TypeId::kDuration:
          *fit = AppendInteger<int64_t>(column, &at);
          break;
        case TypeId::kUInt8:
          *fit = AppendInteger<uint8_t>(column, &at);
          break;
        case TypeId::kUInt16:
          *fit = AppendInteger<uint16_t>(column, &at);
          break;
        case TypeId::kUInt32:
          *fit = AppendInteger<uint32_t>(column, &at);
          break;
        case TypeId::kUInt64:
          *fit = AppendInteger<uint64_t>(column, &at);
          break;
        default: {
          double value;
          if (ReadDouble(&at, text_end_, &value) != NumberResult::kOk) {
            *fit = Fit::kMalformed;
          } else if (column.type == TypeId::kFloat64) {
            column.As<FixedWidthBuilder<double>>()->Append(value);
            *fit = Fit::kFits;
          } else if (const auto narrow = static_cast<float>(value); std::isinf(narrow)) {
            *fit = Fit::kOutOfRange;
          } else {
            column.As<FixedWidthBuilder<float>>()->Append(narrow);
            *fit = Fit::kFits;
          }
        }
      }
    }
  }
  return *fit == Fit::kFits ? at : nullptr;
}

// Appends a value's text, which is valid, without the white space between its tokens.
void JsonDecoder::AppendJsonText(BytesBuilder* builder, std::string_view text) {
  char* const begin = builder->Reserve(text.size());
  builder->Commit(static_cast<size_t>(CopyCompact(text, begin) - begin));
}

bool JsonDecoder::ValidateString(std::string_view contents) {
  if (contents.find('\\') == std::string_view::npos) {
    return true;
  }
  scratch_.resize(contents.size());
  return Unescape(contents, scratch_.data()) >= 0;
}

// --- the fast way --------------------------------------------------------------------------------

bool JsonDecoder::FastDocument() {
  has_non_ascii_ = false;
  const char* at = SkipSpace(text_);
  if (Peek(at) != '{') {
    return false;
  }
  at = FastObject(root_.get(), at);
  return at != nullptr && SkipSpace(at) == text_end_ &&
         (!has_non_ascii_ || IsUtf8({text_, static_cast<size_t>(text_end_ - text_)}));
}

const char* JsonDecoder::FastObject(Object* object, const char* at) {
  const uint64_t number = ++object->count;
  size_t filled = 0;
  at = SkipSpace(at + 1);
  if (Peek(at) == '}') {
    ++at;
  } else {
    for (Name** guess = &object->first;;) {
      Name* name = *guess;
      if (name != nullptr && Stands(at, name->quoted)) [[likely]] {
        at += name->quoted.size();
        has_non_ascii_ |= name->non_ascii;
      } else {
        at = FastName(object, at, &name);
        if (at == nullptr) {
          return nullptr;
        }
        *guess = name;
      }
      guess = &name->next;
      if (name->object == number) {
        return nullptr;
      }
      name->object = number;
      at = SkipSpace(at);
      if (name->column != nullptr) {
        ++filled;
        at = FastValue(*name->column, at);
      } else {
        if (!name->known) {
          if (RefusesUnknown(object, name->name)) {
            return nullptr;
          }
          unknown_met_.push_back(name);
        }
        at = FastSkip(at, kMaxDepth - object->depth);
      }
      if (at == nullptr) {
        return nullptr;
      }
      at = SkipSpace(at);
      const char next = Peek(at);
      if (next == '}') {
        ++at;
        break;
      }
      if (next != ',') {
        return nullptr;
      }
      at = SkipSpace(at + 1);
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

// Reads a name and the colon.
const char* JsonDecoder::FastName(Object* object, const char* at, Name** name) {
  std::string_view key;
  bool has_escapes;
  at = Peek(at) == '"' ? ReadString(at, &key, &has_escapes) : nullptr;
  *name = at == nullptr || has_escapes ? nullptr : FindName(object, key);
  if (*name == nullptr) {
    return nullptr;
  }
  at = SkipSpace(at);
  return Peek(at) == ':' ? at + 1 : nullptr;
}

inline const char* JsonDecoder::FastValue(const Column& column, const char* at) {
  // The commonest kinds without detours; whatever they do not take is looked at once more.
  const char* behind = nullptr;
  switch (column.common) {
    case Common::kString:
      behind = FastString(column.As<BytesBuilder>(), at);
      break;
    case Common::kInt64: {
      int64_t value;
      behind = ReadPlainInteger(at, text_end_, &value);
      if (behind != nullptr) {
        column.As<FixedWidthBuilder<int64_t>>()->Append(value);
      }
      break;
    }
    case Common::kFloat64: {
      double value;
      behind = ReadPlainDouble(at, text_end_, &value);
      if (behind != nullptr) {
        column.As<FixedWidthBuilder<double>>()->Append(value);
      }
      break;
    }
    case Common::kBool:
      if (Stands(at, "true")) {
        column.As<BooleanBuilder>()->Append(true);
        behind = at + 4;
      } else if (Stands(at, "false")) {
        column.As<BooleanBuilder>()->Append(false);
        behind = at + 5;
      }
      break;
    case Common::kNone:
      break;
  }
  return behind != nullptr ? behind : FastAnyValue(column, at);
}

// A string of few bytes, without escapes: copied while its end is looked for. Null: none of these,
// and nothing has changed.
inline const char* JsonDecoder::FastString(BytesBuilder* builder, const char* at) {
  if (Peek(at) != '"') {
    return nullptr;
  }
  ++at;
  const size_t size = std::min(kShortString, static_cast<size_t>(text_end_ - at) & ~size_t{15});
  bool non_ascii = false;
  const char* const end = CopyToSpecial(at, size, builder->Reserve(kShortString), &non_ascii);
  if (end == nullptr || *end != '"') {
    return nullptr;
  }
  has_non_ascii_ |= non_ascii;
  builder->Commit(static_cast<size_t>(end - at));
  return end + 1;
}

const char* JsonDecoder::FastAnyValue(const Column& column, const char* at) {
  const char first = Peek(at);
  if (first == 'n') {
    if (!Stands(at, "null")) {
      return nullptr;
    }
    column.builder->AppendNull();
    return at + 4;
  }
  if (column.json_text) {
    const char* const behind = FastSkip(at, kMaxDepth - column.depth);
    if (behind != nullptr) {
      AppendJsonText(column.As<BytesBuilder>(), {at, static_cast<size_t>(behind - at)});
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
    default: {
      Fit ignored;
      return first == '\0' ? nullptr : AppendLeaf(column, at, &ignored);
    }
  }
}

const char* JsonDecoder::FastList(const Column& column, const char* at) {
  at = SkipSpace(at + 1);
  if (Peek(at) == ']') {
    ++at;
  } else {
    for (;;) {
      at = FastValue(*column.item, at);
      if (at == nullptr) {
        return nullptr;
      }
      at = SkipSpace(at);
      const char next = Peek(at);
      if (next == ']') {
        ++at;
        break;
      }
      if (next != ',') {
        return nullptr;
      }
      at = SkipSpace(at + 1);
    }
  }
  column.As<ListBuilder>()->Commit();
  return at;
}

const char* JsonDecoder::FastMap(const Column& column, const char* at) {
  auto* map = column.As<ListBuilder>();
  auto* entries = static_cast<StructBuilder*>(map->items());
  std::array<std::string_view, kMostKeysCompared> keys;
  size_t count = 0;
  at = SkipSpace(at + 1);
  if (Peek(at) == '}') {
    ++at;
  } else {
    for (;;) {
      std::string_view key;
      bool has_escapes;
      at = Peek(at) == '"' ? ReadString(at, &key, &has_escapes) : nullptr;
      const auto known = keys.begin() + static_cast<std::ptrdiff_t>(count);
      if (at == nullptr || has_escapes || count == keys.size() ||
          std::find(keys.begin(), known, key) != known) {
        return nullptr;
      }
      keys[count++] = key;
      column.keys->Append(key, text_end_);
      at = SkipSpace(at);
      if (Peek(at) != ':') {
        return nullptr;
      }
      at = FastValue(*column.item, SkipSpace(at + 1));
      if (at == nullptr) {
        return nullptr;
      }
      entries->Commit();
      at = SkipSpace(at);
      const char next = Peek(at);
      if (next == '}') {
        ++at;
        break;
      }
      if (next != ',') {
        return nullptr;
      }
      at = SkipSpace(at + 1);
    }
  }
  map->Commit();
  return at;
}

// Checks a value that is not built.
const char* JsonDecoder::FastSkip(const char* at, int depth_left) {
  const auto skip_string = [this](const char* string) {
    std::string_view contents;
    bool has_escapes;
    string = Peek(string) == '"' ? ReadString(string, &contents, &has_escapes) : nullptr;
    return string != nullptr && (!has_escapes || ValidateString(contents)) ? string : nullptr;
  };
  const char first = Peek(at);
  if (first == '"') {
    return skip_string(at);
  }
  if (first != '{' && first != '[') {
    for (const std::string_view word : {"true", "false", "null"}) {
      if (Stands(at, word)) {
        return at + word.size();
      }
    }
    double ignored;
    return IsNumberStart(first) && ReadDouble(&at, text_end_, &ignored) == NumberResult::kOk
               ? at
               : nullptr;
  }
  if (depth_left == 0) {
    return nullptr;
  }
  const char last = first == '{' ? '}' : ']';
  at = SkipSpace(at + 1);
  if (Peek(at) == last) {
    return at + 1;
  }
  for (;;) {
    if (first == '{') {
      at = skip_string(at);
      if (at == nullptr) {
        return nullptr;
      }
      at = SkipSpace(at);
      if (Peek(at) != ':') {
        return nullptr;
      }
      at = SkipSpace(at + 1);
    }
    at = FastSkip(at, depth_left - 1);
    if (at == nullptr) {
      return nullptr;
    }
    at = SkipSpace(at);
    const char next = Peek(at);
    if (next == last) {
      return at + 1;
    }
    if (next != ',') {
      return nullptr;
    }
    at = SkipSpace(at + 1);
  }
}

}  // namespace sabot
