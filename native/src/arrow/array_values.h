// Reads single values of an Arrow array's buffers, which need not be aligned.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace sabot {

inline bool ReadBit(const void* bits, int64_t index) {
  return ((static_cast<const uint8_t*>(bits)[index >> 3] >> (index & 7)) & 1) != 0;
}

template <typename T>
T ReadValue(const void* values, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(values) + index * static_cast<int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}

// A string or binary value.
inline std::string_view ReadBytes(const void* offsets, const void* data, int64_t index) {
  const auto begin = ReadValue<int32_t>(offsets, index);
  const auto end = ReadValue<int32_t>(offsets, index + 1);
  return {static_cast<const char*>(data) + begin, static_cast<size_t>(end - begin)};
}

}  // namespace sabot
