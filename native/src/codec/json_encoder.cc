#include "codec/json_encoder.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "arrow/array_values.h"
#include "codec/json_fields.h"
#include "codec/json_scalars.h"
#include "codec/text_formats.h"

namespace sabot {
namespace {

template <typename T>
void AppendNumber(T value, std::string* out) {
  char text[24];
  out->append(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

// The shortest decimal that is this float, where a reader who goes by way of the nearest double
// gets the float back; else all digits of the float.
double ReadableDouble(float value) {
  char text[32];
  const char* const end =
      std::to_chars(text, text + sizeof(text), value, std::chars_format::scientific).ptr;
  double shortest;
  std::from_chars(text, end, shortest);
  return static_cast<float>(shortest) == value ? shortest : static_cast<double>(value);
}

}  // namespace

// A column, and where the batch at hand keeps it.
struct JsonEncoder::Column {
  Field field;
  int depth;           // How many containers enclose a value.
  std::string prefix;  // What stands before a value in its object.
  std::vector<std::unique_ptr<Column>> children;

  const void* validity = nullptr;
  const void* values = nullptr;  // Or the offsets.
  const void* data = nullptr;
  int64_t offset = 0;

  bool IsNull(int64_t at) const { return validity != nullptr && !ReadBit(validity, at); }
  std::pair<int32_t, int32_t> RangeAt(int64_t at) const {
    return {ReadValue<int32_t>(values, at), ReadValue<int32_t>(values, at + 1)};
  }
  std::string_view BytesAt(int64_t at) const { return ReadBytes(values, data, at); }
};

JsonEncoder::JsonEncoder(const std::vector<Field>& fields) : validator_({}, {}) {
  for (const Field& field : fields) {
    columns_.push_back(MakeColumn(field, 1, columns_.empty()));
  }
}

JsonEncoder::~JsonEncoder() = default;

std::unique_ptr<JsonEncoder::Column> JsonEncoder::MakeColumn(const Field& field, int depth,
                                                             bool is_first) {
  auto column = std::make_unique<Column>();
  column->field = field;
  column->depth = depth;
  column->prefix = is_first ? "" : ",";
  AppendQuoted(field.name, &column->prefix);
  column->prefix += ':';
  // The entry of a map is no container of its own.
  const int below = field.type == TypeId::kMap ? depth : depth + 1;
  for (const Field& child : field.children) {
    column->children.push_back(MakeColumn(child, below, column->children.empty()));
  }
  return column;
}

void JsonEncoder::Bind(Column* column, const ArrowArray& array) {
  column->validity = array.n_buffers > 0 ? array.buffers[0] : nullptr;
  column->values = array.n_buffers > 1 ? array.buffers[1] : nullptr;
  column->data = array.n_buffers > 2 ? array.buffers[2] : nullptr;
  column->offset = array.offset;
  for (size_t i = 0; i < column->children.size(); ++i) {
    Bind(column->children[i].get(), *array.children[i]);
  }
}

void JsonEncoder::Begin(const ArrowArray& batch) {
  for (size_t i = 0; i < columns_.size(); ++i) {
    Bind(columns_[i].get(), *batch.children[i]);
    columns_[i]->offset += batch.offset;
  }
}

std::optional<EncodeFailure> JsonEncoder::Encode(int64_t row, std::string* out) {
  const size_t size = out->size();
  if (WriteFields(columns_, row, out)) {
    return std::nullopt;
  }
  out->resize(size);
  failure_.field.insert(0, "$");
  return std::exchange(failure_, {});
}

bool JsonEncoder::Fail(std::string reason) {
  failure_.reason = std::move(reason);
  return false;
}

bool JsonEncoder::WriteFields(const std::vector<std::unique_ptr<Column>>& fields, int64_t row,
                              std::string* out) {
  *out += '{';
  for (const std::unique_ptr<Column>& field : fields) {
    *out += field->prefix;
    if (!Write(*field, row, out)) {
      failure_.field.insert(0, PathStep(field->field.name));
      return false;
    }
  }
  *out += '}';
  return true;
}

bool JsonEncoder::Write(const Column& column, int64_t row, std::string* out) {
  const int64_t at = column.offset + row;
  if (column.IsNull(at)) {
    *out += "null";
    return true;
  }
  switch (column.field.type) {
    case TypeId::kStruct:
      return WriteFields(column.children, at, out);
    case TypeId::kList:
      return WriteList(column, at, out);
    case TypeId::kMap:
      return WriteMap(column, at, out);
    default:
      return WriteLeaf(column, at, out);
  }
}

bool JsonEncoder::WriteLeaf(const Column& column, int64_t at, std::string* out) {
  const auto number = [&]<typename T>(T) {
    AppendNumber(ReadValue<T>(column.values, at), out);
    return true;
  };
  const Field& field = column.field;
  switch (field.type) {
    case TypeId::kBool:
      *out += ReadBit(column.values, at) ? "true" : "false";
      return true;
    case TypeId::kInt8:
      return number(int8_t{});
    case TypeId::kInt16:
      return number(int16_t{});
    case TypeId::kInt32:
      return number(int32_t{});
    case TypeId::kInt64:
    case TypeId::kDuration:
      return number(int64_t{});
    case TypeId::kUInt8:
      return number(uint8_t{});
    case TypeId::kUInt16:
      return number(uint16_t{});
    case TypeId::kUInt32:
      return number(uint32_t{});
    case TypeId::kUInt64:
      return number(uint64_t{});
    case TypeId::kFloat32:
      return WriteFloat(ReadableDouble(ReadValue<float>(column.values, at)), out);
    case TypeId::kFloat64:
      return WriteFloat(ReadValue<double>(column.values, at), out);
    case TypeId::kDecimal128:
      AppendDecimal(Widened(ReadValue<Decimal128>(column.values, at)), field.scale, out);
      return true;
    case TypeId::kDecimal256:
      AppendDecimal(ReadValue<Decimal256>(column.values, at), field.scale, out);
      return true;
    case TypeId::kString:
      return field.json_text ? WriteJsonText(column, column.BytesAt(at), out)
                             : WriteString(column.BytesAt(at), out);
    default:
      break;
  }
  // The others are strings that need no escapes.
  *out += '"';
  bool is_written = true;
  const char* reason = "a year beyond 0001 to 9999";
  switch (field.type) {
    case TypeId::kTimestamp:
      is_written =
          AppendTimestamp(ReadValue<int64_t>(column.values, at), field.unit, field.has_zone, out);
      break;
    case TypeId::kDate32:
      is_written = AppendDate(ReadValue<int32_t>(column.values, at), out);
      break;
    case TypeId::kDate64: {
      constexpr int64_t kMillisecondsPerDay = 86'400'000;
      const auto value = ReadValue<int64_t>(column.values, at);
      if (value % kMillisecondsPerDay != 0) {
        return Fail("not a whole day");
      }
      is_written = AppendDate(value / kMillisecondsPerDay, out);
      break;
    }
    case TypeId::kTime32:
      is_written = AppendTime(ReadValue<int32_t>(column.values, at), field.unit, out);
      reason = "not a time of day";
      break;
    case TypeId::kTime64:
      is_written = AppendTime(ReadValue<int64_t>(column.values, at), field.unit, out);
      reason = "not a time of day";
      break;
    default:
      AppendBase64(column.BytesAt(at), out);
      break;
  }
  *out += '"';
  return is_written || Fail(reason);
}

bool JsonEncoder::WriteFloat(double value, std::string* out) {
  if (!std::isfinite(value)) {
    return Fail("not finite, for which JSON has no number");
  }
  AppendDouble(value, out);
  return true;
}

bool JsonEncoder::WriteString(std::string_view text, std::string* out) {
  return AppendQuoted(text, out) || IsUtf8(text) || Fail("invalid UTF-8");
}

// The text of a single value, and of nothing else, is one both as a member of an object and as an
// item of an array.
bool JsonEncoder::WriteJsonText(const Column& column, std::string_view text, std::string* out) {
  if (!IsUtf8(text)) {
    return Fail("invalid UTF-8");
  }
  const auto validate = [&](std::string_view open, std::string_view close) {
    scratch_.clear();
    for (int depth = 1; depth < column.depth; ++depth) {
      scratch_ += R"({"":)";
    }
    scratch_ += open;
    scratch_ += text;
    scratch_ += close;
    scratch_.append(static_cast<size_t>(column.depth - 1), '}');
    return validator_.Decode(scratch_);
  };
  for (const auto& [open, close] : {std::pair{R"({"":)", "}"}, std::pair{R"({"":[)", "]}"}}) {
    // The array is a level more, which does not count.
    const bool is_array = close[0] == ']';
    if (const auto failure = validate(open, close);
        failure.has_value() && !(is_array && failure->reason != kMalformedJson)) {
      return Fail(failure->reason);
    }
  }
  *out += text;
  return true;
}

bool JsonEncoder::WriteList(const Column& column, int64_t at, std::string* out) {
  const auto [begin, end] = column.RangeAt(at);
  *out += '[';
  for (int32_t item = begin; item < end; ++item) {
    if (item != begin) {
      *out += ',';
    }
    if (!Write(*column.children.front(), item, out)) {
      failure_.field.insert(0, "[" + std::to_string(item - begin) + "]");
      return false;
    }
  }
  *out += ']';
  return true;
}

bool JsonEncoder::WriteMap(const Column& column, int64_t at, std::string* out) {
  const Column& entry = *column.children.front();
  const Column& keys = *entry.children[0];
  const auto [begin, end] = column.RangeAt(at);
  keys_.clear();
  for (int32_t item = begin; item < end; ++item) {
    keys_.push_back(keys.BytesAt(keys.offset + entry.offset + item));
  }
  std::sort(keys_.begin(), keys_.end());
  if (std::adjacent_find(keys_.begin(), keys_.end()) != keys_.end()) {
    return Fail("a key that comes twice");
  }
  *out += '{';
  for (int32_t item = begin; item < end; ++item) {
    if (item != begin) {
      *out += ',';
    }
    const std::string_view key = keys.BytesAt(keys.offset + entry.offset + item);
    if (!WriteString(key, out)) {
      return false;
    }
    *out += ':';
    if (!Write(*entry.children[1], entry.offset + item, out)) {
      failure_.field.insert(0, PathStep(key));
      return false;
    }
  }
  *out += '}';
  return true;
}

}  // namespace sabot
