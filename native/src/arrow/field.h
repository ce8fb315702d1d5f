// A column's type, read from an Arrow C schema.
#pragma once

#include <array>
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
  kDate32,
  kDate64,
  kTime32,
  kTime64,
  kDuration,
  kDecimal128,
  kDecimal256,
  kStruct,
  kList,
  kMap,
};

enum class TimeUnit : uint8_t { kSecond, kMillisecond, kMicrosecond, kNanosecond };

// A decimal without its point, in two's complement, least significant word first.
using Decimal128 = std::array<uint64_t, 2>;
using Decimal256 = std::array<uint64_t, 4>;

struct Field {
  std::string name;
  TypeId type = TypeId::kBool;
  TimeUnit unit = TimeUnit::kSecond;  // Of a timestamp, a time, a duration.
  bool has_zone = false;              // Of a timestamp.
  int32_t precision = 0;              // Of a decimal: most digits.
  int32_t scale = 0;                  // Of a decimal: digits of the fraction, may be negative.
  bool json_text = false;             // A string that holds any value's JSON text.
  std::vector<Field> children;        // Fields of a struct; the item of a list; the entry of a map.
};

// Reads one field; a dictionary column as its values, which is how it is built. `schema` stays its
// owner's.
Result<Field> ImportField(const ArrowSchema& schema);

// Reads the fields of a schema, which is a struct.
Result<std::vector<Field>> ImportSchema(const ArrowSchema& schema);

}  // namespace sabot
