#include "arrow/field.h"

#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

namespace sabot {
namespace {

// Finds a key in the C interface's metadata: int32 counts and lengths, native byte order.
std::string_view FindMetadata(const char* metadata, std::string_view wanted) {
  if (metadata == nullptr) {
    return {};
  }
  const auto read_length = [&metadata] {
    int32_t length;
    std::memcpy(&length, metadata, sizeof(length));
    metadata += sizeof(length);
    return length;
  };
  const auto read_text = [&] {
    const int32_t length = read_length();
    const std::string_view text(metadata, static_cast<size_t>(length));
    metadata += length;
    return text;
  };
  for (int32_t pairs = read_length(); pairs > 0; --pairs) {
    const std::string_view key = read_text();
    const std::string_view value = read_text();
    if (key == wanted) {
      return value;
    }
  }
  return {};
}

// Reads "precision,scale", or "precision,scale,bits".
bool ReadDecimal(std::string_view text, Field* field) {
  int32_t bits = 128;
  for (int32_t* number : {&field->precision, &field->scale, &bits}) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
    if (error != std::errc()) {
      return false;
    }
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (text.empty()) {
      break;
    }
    text.remove_prefix(1);
  }
  field->type = bits == 128 ? TypeId::kDecimal128 : TypeId::kDecimal256;
  return bits == 128 || bits == 256;
}

bool ReadType(std::string_view format, Field* field) {
  struct Simple {
    std::string_view format;
    TypeId type;
  };
  static constexpr Simple kSimple[] = {
      {"b", TypeId::kBool},    {"c", TypeId::kInt8},     {"s", TypeId::kInt16},
      {"i", TypeId::kInt32},   {"l", TypeId::kInt64},    {"C", TypeId::kUInt8},
      {"S", TypeId::kUInt16},  {"I", TypeId::kUInt32},   {"L", TypeId::kUInt64},
      {"f", TypeId::kFloat32}, {"g", TypeId::kFloat64},  {"u", TypeId::kString},
      {"z", TypeId::kBinary},  {"tdD", TypeId::kDate32}, {"tdm", TypeId::kDate64},
      {"+s", TypeId::kStruct}, {"+l", TypeId::kList},    {"+m", TypeId::kMap},
  };
  for (const Simple& simple : kSimple) {
    if (format == simple.format) {
      field->type = simple.type;
      return true;
    }
  }
  if (format.substr(0, 2) == "d:") {
    return ReadDecimal(format.substr(2), field);
  }
  // The others are "tt", "tD" or "ts" and a unit; of a timestamp ":" follows, and the zone if any.
  constexpr std::string_view kUnits = "smun";
  const size_t unit = format.size() < 3 ? std::string_view::npos : kUnits.find(format[2]);
  if (unit == std::string_view::npos) {
    return false;
  }
  field->unit = static_cast<TimeUnit>(unit);
  const std::string_view kind = format.substr(0, 2);
  if (kind == "ts" && format.size() > 3 && format[3] == ':') {
    field->type = TypeId::kTimestamp;
    field->has_zone = format.size() > 4;
  } else if (kind == "tt" && format.size() == 3) {
    field->type = field->unit <= TimeUnit::kMillisecond ? TypeId::kTime32 : TypeId::kTime64;
  } else if (kind == "tD" && format.size() == 3) {
    field->type = TypeId::kDuration;
  } else {
    return false;
  }
  return true;
}

}  // namespace

Result<Field> ImportField(const ArrowSchema& schema) {
  Field field;
  field.name = schema.name != nullptr ? schema.name : "";
  const ArrowSchema& type = schema.dictionary != nullptr ? *schema.dictionary : schema;
  if (!ReadType(type.format, &field)) {
    return Status::Invalid("column '" + field.name + "': type is not supported");
  }
  field.json_text =
      field.type == TypeId::kString && FindMetadata(schema.metadata, "sabot_ray:json") == "text";
  for (int64_t i = 0; i < type.n_children; ++i) {
    Result<Field> child = ImportField(*type.children[i]);
    if (!child.ok()) {
      return child.status();
    }
    field.children.push_back(std::move(child.value()));
  }
  if (field.type == TypeId::kMap &&
      field.children.front().children.front().type != TypeId::kString) {
    return Status::Invalid("column '" + field.name + "': the keys of a map must be strings");
  }
  return field;
}

Result<std::vector<Field>> ImportSchema(const ArrowSchema& schema) {
  std::vector<Field> fields;
  for (int64_t i = 0; i < schema.n_children; ++i) {
    Result<Field> field = ImportField(*schema.children[i]);
    if (!field.ok()) {
      return field.status();
    }
    fields.push_back(std::move(field.value()));
  }
  return fields;
}

}  // namespace sabot
