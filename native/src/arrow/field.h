// A column's type, read from an Arrow C schema.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "arrow/c_data.h"
#include "status.h"

namespace sabot {

enum class TypeId : uint8_t {
  kBool,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUInt8,
  kUInt16,
  kUInt32,
  kUInt64,
  kFloat32,
  kFloat64,
  kString,
  kBinary,
  kTimestamp,
  kStruct,
  kList,
  kMap,
};

enum class TimeUnit : uint8_t { kSecond, kMillisecond, kMicrosecond, kNanosecond };

struct Field {
  std::string name;
  TypeId type = TypeId::kBool;
  TimeUnit unit = TimeUnit::kSecond;  // Of a timestamp.
  bool has_zone = false;              // Of a timestamp.
  bool json_text = false;             // A string that holds any value's JSON text.
  std::vector<Field> children;        // Fields of a struct; the item of a list; the entry of a map.
};

// Reads one field. `schema` stays its owner's.
Result<Field> ImportField(const ArrowSchema& schema);

// Reads the fields of a schema, which is a struct.
Result<std::vector<Field>> ImportSchema(const ArrowSchema& schema);

}  // namespace sabot
