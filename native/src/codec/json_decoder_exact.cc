// The exact way of the JSON decoder: decides on simdjson's tokens what the fast one gave up.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "codec/json_decoder.h"
#include "codec/json_fields.h"
#include "codec/json_scalars.h"

namespace sabot {
namespace {

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

}  // namespace

// The column's type as pyarrow writes it; only those that can be out of range or too fine.
std::string JsonDecoder::TypeName(const Column& column) {
  static constexpr std::array<const char*, 11> kNumbers = {"bool",   "int8",    "int16",  "int32",
                                                           "int64",  "uint8",   "uint16", "uint32",
                                                           "uint64", "float32", "float64"};
  static constexpr std::array<const char*, 4> kUnits = {"[s]", "[ms]", "[us]", "[ns]"};
  const std::string unit = kUnits.at(static_cast<size_t>(column.unit));
  const std::string digits =
      "(" + std::to_string(column.precision) + ", " + std::to_string(column.scale) + ")";
  switch (column.type) {
    case TypeId::kTimestamp:
      return "timestamp" + unit;
    case TypeId::kTime32:
      return "time32" + unit;
    case TypeId::kTime64:
      return "time64" + unit;
    case TypeId::kDuration:
      return "duration" + unit;
    case TypeId::kDecimal128:
      return "decimal128" + digits;
    case TypeId::kDecimal256:
      return "decimal256" + digits;
    default:
      return kNumbers.at(static_cast<size_t>(column.type));
  }
}

std::string JsonDecoder::FormatError(const Column& column) {
  switch (column.type) {
    case TypeId::kBinary:
      return "not canonical base64";
    case TypeId::kDate32:
    case TypeId::kDate64:
      return "not a date YYYY-MM-DD";
    case TypeId::kTime32:
    case TypeId::kTime64:
      return "not a time hh:mm:ss[.fraction]";
    case TypeId::kDecimal128:
    case TypeId::kDecimal256:
      return "not a decimal number";
    default:
      return column.has_zone ? "not an RFC 3339 timestamp" : "not a timestamp without an offset";
  }
}

JsonDecoder::Token JsonDecoder::Fail(std::string reason) {
  failure_ = {"", std::move(reason)};
  return nullptr;
}

// A number, `true`, `false`, `null`, or what is none of them: up to the white space before the next
// token.
std::string_view JsonDecoder::Scalar(Token at) const {
  const char* const begin = text_ + at[0];
  const char* end = text_ + at[1];
  while (end != begin && IsWhiteSpace(end[-1])) {
    --end;
  }
  return {begin, static_cast<size_t>(end - begin)};
}

// Between a string's closing quote and the next token is only white space.
std::string_view JsonDecoder::StringContents(Token at) const {
  std::string_view string = Scalar(at);
  string.remove_prefix(1);
  string.remove_suffix(1);
  return string;
}

// Checks the value by the grammar, however deep it is; `deepest` gets the containers of its deepest
// value.
JsonDecoder::Token JsonDecoder::Validate(Token at, int* deepest) {
  const auto is_scalar = [this](Token scalar) {
    const std::string_view token = Scalar(scalar);
    if (!IsNumberStart(token.front())) {
      return token == "true" || token == "false" || token == "null";
    }
    const char* behind = token.data();
    const char* const end = behind + token.size();
    double ignored;
    return ReadDouble(&behind, end, &ignored) == NumberResult::kOk && behind == end;
  };

  containers_.clear();
  for (;;) {
    const char first = TokenAt(at);
    bool opened = false;
    if (first == '{' || first == '[') {
      ++at;
      containers_.push_back(first);
      *deepest = std::max(*deepest, static_cast<int>(containers_.size()));
      opened = TokenAt(at) != (first == '{' ? '}' : ']');
      if (!opened) {
        ++at;
        containers_.pop_back();
      }
    } else if (first == '\0' ||
               !(first == '"' ? ValidateString(StringContents(at)) : is_scalar(at))) {
      return nullptr;
    } else {
      ++at;
    }
    while (!opened) {
      if (containers_.empty()) {
        return at;
      }
      const char next = TokenAt(at++);
      if (next == ',') {
        break;
      }
      if (next != (containers_.back() == '{' ? '}' : ']')) {
        return nullptr;
      }
      containers_.pop_back();
    }
    if (containers_.back() == '{') {
      if (TokenAt(at) != '"' || TokenAt(at + 1) != ':' || !ValidateString(StringContents(at))) {
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

bool JsonDecoder::ExactDocument() {
  const Token begin = tokens_.begin();
  int deepest = 0;
  if (Validate(begin, &deepest) != tokens_.end()) {
    return Fail(kMalformedJson) != nullptr;
  }
  if (deepest > kMaxDepth) {
    return Fail("nested deeper than 128 levels") != nullptr;
  }
  const char first = TokenAt(begin);
  if (first != '{') {
    return Fail(std::string("expected an object, found ") + KindOf(first)) != nullptr;
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
      if (RefusesUnknown(object, member.key)) {
        behind = Fail("unknown field");
        failure_.is_new_field = unknown_fields_ == UnknownFields::kEvolve;
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
    case TypeId::kDecimal128:
    case TypeId::kDecimal256:
      expected = "a number or a string";
      break;
    case TypeId::kString:
    case TypeId::kBinary:
    case TypeId::kTimestamp:
    case TypeId::kDate32:
    case TypeId::kDate64:
    case TypeId::kTime32:
    case TypeId::kTime64:
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
  return Fail("expected " + expected + ", found " + KindOf(TokenAt(at)));
}

JsonDecoder::Token JsonDecoder::ExactValue(const Column& column, Token at) {
  const char first = TokenAt(at);
  if (first == 'n') {
    column.builder->AppendNull();
    return at + 1;
  }
  if (column.json_text) {
    const Token behind = SkipValidated(at);
    const size_t size = *behind - *at;
    AppendJsonText(column.As<BytesBuilder>(), {text_ + *at, size});
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
  Fit fit;
  AppendLeaf(column, text_ + *at, &fit);
  switch (fit) {
    case Fit::kFits:
      return at + 1;
    case Fit::kOtherKind:
      return FailKind(column, at);
    case Fit::kNotInteger:
      return Fail("expected an integer, found a number with a fraction or an exponent");
    case Fit::kOutOfRange:
      return Fail("out of range for " + TypeName(column));
    case Fit::kTooFine:
      return Fail("finer than " + TypeName(column));
    case Fit::kNotInFormat:
      return Fail(FormatError(column));
    case Fit::kMalformed:
      break;
  }
  return Fail(kMalformedJson);
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
