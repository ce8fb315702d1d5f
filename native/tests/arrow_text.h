// Exported arrays as text, so that a test can compare whole columns.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "arrow/array_values.h"
#include "arrow/c_data.h"
#include "arrow/field.h"

namespace sabot::testing {

inline Field MakeField(std::string name, TypeId type, std::vector<Field> children = {}) {
  Field field;
  field.name = std::move(name);
  field.type = type;
  field.children = std::move(children);
  return field;
}

inline Field TimestampField(std::string name, TimeUnit unit, bool has_zone) {
  Field field = MakeField(std::move(name), TypeId::kTimestamp);
  field.unit = unit;
  field.has_zone = has_zone;
  return field;
}

inline Field UnitField(std::string name, TypeId type, TimeUnit unit) {
  Field field = MakeField(std::move(name), type);
  field.unit = unit;
  return field;
}

inline Field DecimalField(std::string name, TypeId type, int32_t precision, int32_t scale) {
  Field field = MakeField(std::move(name), type);
  field.precision = precision;
  field.scale = scale;
  return field;
}

inline Field JsonTextField(std::string name) {
  Field field = MakeField(std::move(name), TypeId::kString);
  field.json_text = true;
  return field;
}

// A decimal's words in hexadecimal, the most significant one first.
template <typename Decimal>
void WriteWords(const Decimal& value, std::ostream& out) {
  for (size_t word = value.size(); word-- > 0;) {
    out << std::hex << value[word] << std::dec << (word == 0 ? "" : ":");
  }
}

inline void WriteValue(const Field& field, const ArrowArray& array, int64_t row,
                       std::ostream& out) {
  if (array.buffers[0] != nullptr && !ReadBit(array.buffers[0], row)) {
    out << "null";
    return;
  }
  const auto write_number = [&]<typename T>(T) { out << +ReadValue<T>(array.buffers[1], row); };
  switch (field.type) {
    case TypeId::kBool:
      out << (ReadBit(array.buffers[1], row) ? "true" : "false");
      return;
    case TypeId::kInt8:
      return write_number(int8_t{});
    case TypeId::kInt16:
      return write_number(int16_t{});
    case TypeId::kInt32:
    case TypeId::kDate32:
    case TypeId::kTime32:
      return write_number(int32_t{});
    case TypeId::kInt64:
    case TypeId::kTimestamp:
    case TypeId::kDate64:
    case TypeId::kTime64:
    case TypeId::kDuration:
      return write_number(int64_t{});
    case TypeId::kUInt8:
      return write_number(uint8_t{});
    case TypeId::kUInt16:
      return write_number(uint16_t{});
    case TypeId::kUInt32:
      return write_number(uint32_t{});
    case TypeId::kUInt64:
      return write_number(uint64_t{});
    case TypeId::kFloat32:
      return write_number(float{});
    case TypeId::kFloat64:
      return write_number(double{});
    case TypeId::kDecimal128:
      return WriteWords(ReadValue<Decimal128>(array.buffers[1], row), out);
    case TypeId::kDecimal256:
      return WriteWords(ReadValue<Decimal256>(array.buffers[1], row), out);
    default:
      break;
  }
  if (field.type == TypeId::kStruct) {
    out << '{';
    for (size_t i = 0; i < field.children.size(); ++i) {
      out << (i == 0 ? "" : ",") << field.children[i].name << ':';
      WriteValue(field.children[i], *array.children[i], row, out);
    }
    out << '}';
    return;
  }
  if (field.type == TypeId::kString || field.type == TypeId::kBinary) {
    out << '"' << ReadBytes(array.buffers[1], array.buffers[2], row) << '"';
    return;
  }
  const auto begin = ReadValue<int32_t>(array.buffers[1], row);
  const auto end = ReadValue<int32_t>(array.buffers[1], row + 1);
  out << '[';
  for (int32_t i = begin; i < end; ++i) {
    out << (i == begin ? "" : ",");
    WriteValue(field.children.front(), *array.children[0], i, out);
  }
  out << ']';
}

// Each value in turn, separated by a blank.
inline std::string ColumnText(const Field& field, const ArrowArray& array) {
  std::ostringstream out;
  for (int64_t row = 0; row < array.length; ++row) {
    out << (row == 0 ? "" : " ");
    WriteValue(field, array, row, out);
  }
  return out.str();
}

}  // namespace sabot::testing
