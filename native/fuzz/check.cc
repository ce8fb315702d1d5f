#include "check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "arrow_text.h"
#include "codec/codec.h"
#include "codec/json_tokens.h"

namespace sabot::fuzz {
namespace {

constexpr int64_t kSecondsPerDay = 86'400;

// A decoder of one column named "v", or of none, for texts that are JSON themselves.
class JsonText {
 public:
  explicit JsonText(bool has_column) {
    Codec codec{Codec::Format::kJson, {}};
    std::vector<ColumnBuilder*> columns;
    if (has_column) {
      codec.fields.push_back(testing::JsonTextField("v"));
      column_ = MakeColumnBuilder(codec.fields.front(), BufferPool::Make(0));
      columns.push_back(column_.get());
    }
    decoder_ = MakeDecoder(codec, columns, "$");
  }

  bool IsObject(std::string_view text) { return !decoder_->Decode(text).has_value(); }
  // Whether decoding the text again gives the same one: it is whole, and without white space.
  bool IsCompact(std::string_view text) {
    std::string document = R"({"v":)";
    document += text;
    document += '}';
    if (!IsObject(document)) {
      return false;
    }
    ArrowArray array;
    column_->Export(&array);
    const bool is_same = !IsNull(array, 0) && BytesAt(array, 0) == text;
    array.release(&array);
    return is_same;
  }

 private:
  std::unique_ptr<ColumnBuilder> column_;
  std::unique_ptr<Decoder> decoder_;
};

void CheckText(const Field& field, std::string_view text) {
  static JsonText texts(true);
  static JsonText objects(false);
  CHECK(IsUtf8(text));
  if (field.json_text) {
    CHECK(texts.IsCompact(text));
  } else if (field.name == "_rescued") {
    CHECK(objects.IsObject(text));
  }
}

// A decimal's digits without its sign, as words, least significant first.
template <typename Decimal>
Decimal Magnitude(Decimal value) {
  if ((value.back() >> 63) != 0) {
    uint64_t carry = 1;
    for (uint64_t& word : value) {
      word = ~word + carry;
      carry = carry != 0 && word == 0 ? 1 : 0;
    }
  }
  return value;
}

template <typename Decimal>
bool FitsPrecision(const Decimal& value, int32_t precision) {
  Decimal limit{1};
  for (int32_t digit = 0; digit < precision; ++digit) {
    unsigned __int128 carry = 0;
    for (uint64_t& word : limit) {
      carry += static_cast<unsigned __int128>(word) * 10;
      word = static_cast<uint64_t>(carry);
      carry >>= 64;
    }
  }
  const Decimal magnitude = Magnitude(value);
  return std::lexicographical_compare(magnitude.rbegin(), magnitude.rend(), limit.rbegin(),
                                      limit.rend());
}

// How wide a value is; 0 for those that have an offset instead, or no buffer but the validity.
int64_t WidthOf(TypeId type) {
  switch (type) {
    case TypeId::kInt8:
    case TypeId::kUInt8:
      return 1;
    case TypeId::kInt16:
    case TypeId::kUInt16:
      return 2;
    case TypeId::kInt32:
    case TypeId::kUInt32:
    case TypeId::kFloat32:
    case TypeId::kDate32:
    case TypeId::kTime32:
      return 4;
    case TypeId::kInt64:
    case TypeId::kUInt64:
    case TypeId::kFloat64:
    case TypeId::kTimestamp:
    case TypeId::kDate64:
    case TypeId::kTime64:
    case TypeId::kDuration:
      return 8;
    case TypeId::kDecimal128:
      return 16;
    case TypeId::kDecimal256:
      return 32;
    default:
      return 0;
  }
}

void CheckValue(const Field& field, const void* values, int64_t row) {
  constexpr int64_t kFirstDay = -719'162;  // 0001-01-01
  constexpr int64_t kLastDay = 2'932'896;  // 9999-12-31
  const auto is_day = [](int64_t day) { return day >= kFirstDay && day <= kLastDay; };
  const auto is_time = [&field](int64_t time) {
    int64_t units = kSecondsPerDay;
    for (auto unit = TimeUnit::kSecond; unit < field.unit;
         unit = static_cast<TimeUnit>(static_cast<uint8_t>(unit) + 1)) {
      units *= 1000;
    }
    return time >= 0 && time < units;
  };
  switch (field.type) {
    case TypeId::kFloat32:
      CHECK(std::isfinite(ReadValue<float>(values, row)));
      break;
    case TypeId::kFloat64:
      CHECK(std::isfinite(ReadValue<double>(values, row)));
      break;
    case TypeId::kDate32:
      CHECK(is_day(ReadValue<int32_t>(values, row)));
      break;
    case TypeId::kDate64: {
      const auto milliseconds = ReadValue<int64_t>(values, row);
      CHECK(milliseconds % (kSecondsPerDay * 1000) == 0);
      CHECK(is_day(milliseconds / (kSecondsPerDay * 1000)));
      break;
    }
    case TypeId::kTime32:
      CHECK(is_time(ReadValue<int32_t>(values, row)));
      break;
    case TypeId::kTime64:
      CHECK(is_time(ReadValue<int64_t>(values, row)));
      break;
    case TypeId::kDecimal128:
      CHECK(FitsPrecision(ReadValue<Decimal128>(values, row), field.precision));
      break;
    case TypeId::kDecimal256:
      CHECK(FitsPrecision(ReadValue<Decimal256>(values, row), field.precision));
      break;
    default:
      break;
  }
}

bool HasOffsets(TypeId type) {
  return type == TypeId::kString || type == TypeId::kBinary || type == TypeId::kList ||
         type == TypeId::kMap;
}

void CheckOffsets(const ArrowArray& array) {
  CHECK(ReadValue<int32_t>(array.buffers[1], 0) == 0);
  for (int64_t row = 0; row < array.length; ++row) {
    const auto begin = ReadValue<int32_t>(array.buffers[1], row);
    const auto end = ReadValue<int32_t>(array.buffers[1], row + 1);
    CHECK(end >= begin);
    CHECK(end == begin || !IsNull(array, row));
  }
}

void CheckMap(const ArrowArray& map) {
  const ArrowArray& entries = *map.children[0];
  const ArrowArray& keys = *entries.children[0];
  CHECK(entries.null_count == 0);
  CHECK(keys.null_count == 0);
  for (int64_t row = 0; row < map.length; ++row) {
    std::set<std::string_view> seen;
    const auto end = ReadValue<int32_t>(map.buffers[1], row + 1);
    for (auto entry = ReadValue<int32_t>(map.buffers[1], row); entry < end; ++entry) {
      CHECK(seen.insert(BytesAt(keys, entry)).second);
    }
  }
}

}  // namespace

bool IsNull(const ArrowArray& array, int64_t row) {
  return array.buffers[0] != nullptr && !ReadBit(array.buffers[0], row);
}

std::string_view BytesAt(const ArrowArray& array, int64_t row) {
  return ReadBytes(array.buffers[1], array.buffers[2], row);
}

void Abort(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
  std::abort();
}

void CheckArray(const Field& field, const ArrowArray& array) {
  const bool is_bytes = field.type == TypeId::kString || field.type == TypeId::kBinary;
  CHECK(array.release != nullptr);
  CHECK(array.offset == 0);
  CHECK(array.dictionary == nullptr);
  CHECK(array.n_buffers == (field.type == TypeId::kStruct ? 1 : is_bytes ? 3 : 2));
  CHECK(array.n_children == static_cast<int64_t>(field.children.size()));
  for (int64_t i = 0; i < array.n_buffers; ++i) {
    CHECK(i == 0 || array.buffers[i] != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(array.buffers[i]) % BufferPool::kAlignment == 0);
  }
  int64_t nulls = 0;
  for (int64_t row = 0; row < array.length; ++row) {
    nulls += IsNull(array, row) ? 1 : 0;
  }
  CHECK(array.null_count == nulls);
  if (HasOffsets(field.type)) {
    CheckOffsets(array);
  }
  for (int64_t row = 0; row < array.length; ++row) {
    if (IsNull(array, row)) {
      continue;
    }
    if (field.type == TypeId::kString) {
      CheckText(field, BytesAt(array, row));
    } else if (WidthOf(field.type) != 0) {
      CheckValue(field, array.buffers[1], row);
    }
  }
  for (size_t i = 0; i < field.children.size(); ++i) {
    const ArrowArray& child = *array.children[i];
    CHECK(child.length == (HasOffsets(field.type)
                               ? ReadValue<int32_t>(array.buffers[1], array.length)
                               : array.length));
    CheckArray(field.children[i], child);
  }
  if (field.type == TypeId::kMap) {
    CheckMap(array);
  }
}

void CheckEqual(const Field& field, const ArrowArray& left, const ArrowArray& right) {
  CHECK(left.length == right.length);
  CHECK(left.null_count == right.null_count);
  for (int64_t row = 0; row < left.length; ++row) {
    CHECK(IsNull(left, row) == IsNull(right, row));
    if (field.type == TypeId::kBool && !IsNull(left, row)) {
      CHECK(ReadBit(left.buffers[1], row) == ReadBit(right.buffers[1], row));
    }
  }
  // What stands below a null is zero or empty, so that whole buffers can be compared.
  const auto are_equal = [&](int64_t buffer, int64_t size) {
    return std::memcmp(left.buffers[buffer], right.buffers[buffer], static_cast<size_t>(size)) == 0;
  };
  if (HasOffsets(field.type)) {
    CHECK(are_equal(1, (left.length + 1) * static_cast<int64_t>(sizeof(int32_t))));
    if (field.children.empty()) {
      CHECK(are_equal(2, ReadValue<int32_t>(left.buffers[1], left.length)));
    }
  } else if (WidthOf(field.type) != 0) {
    CHECK(are_equal(1, left.length * WidthOf(field.type)));
  }
  for (size_t i = 0; i < field.children.size(); ++i) {
    CheckEqual(field.children[i], *left.children[i], *right.children[i]);
  }
}

}  // namespace sabot::fuzz
