// What must hold whatever was decoded; the process aborts where it does not.
#pragma once

#include <cstdint>
#include <string_view>

#include "arrow/c_data.h"
#include "arrow/field.h"

namespace sabot::fuzz {

[[noreturn]] void Abort(const char* condition, const char* file, int line);

#define CHECK(condition)                                    \
  do {                                                      \
    if (!(condition)) {                                     \
      ::sabot::fuzz::Abort(#condition, __FILE__, __LINE__); \
    }                                                       \
  } while (false)

bool IsNull(const ArrowArray& array, int64_t row);

// A string or binary value.
std::string_view BytesAt(const ArrowArray& array, int64_t row);

// Checks that an exported array is one of the Arrow format, and that its values are within their
// type: UTF-8, JSON text, the digits of a decimal, the hours of a day, a key of a map once...
void CheckArray(const Field& field, const ArrowArray& array);

// Checks that two arrays that passed `CheckArray` hold the same values.
void CheckEqual(const Field& field, const ArrowArray& left, const ArrowArray& right);

}  // namespace sabot::fuzz
