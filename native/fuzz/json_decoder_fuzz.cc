// JSON documents, decoded in ways that must agree.
//
// Input: a byte each for the schema, what becomes of unknown fields, and which columns are not
// built, all counted from '0'; then documents, with a record separator (RFC 7464) between them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrow/column_builder.h"
#include "check.h"
#include "codec/codec.h"
#include "schemas.h"

namespace sabot::fuzz {
namespace {

// A field that every schema knows and that is never built, so that it may be put into any document.
constexpr std::string_view kNeutral = "~";
constexpr std::string_view kNeutralEscaped = R"("\u007e":null)";
constexpr char kSeparator = '\x1e';

bool IsWhiteSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// The same document for the decoder's exact way: the fast one gives up at an escaped key.
std::string WithEscapedKey(std::string_view document) {
  std::string changed(document);
  const auto skip = [&](size_t at) {
    while (at < changed.size() && IsWhiteSpace(changed[at])) {
      ++at;
    }
    return at;
  };
  const size_t open = skip(0);
  if (open == changed.size() || changed[open] != '{') {
    return changed;
  }
  const size_t first = skip(open + 1);
  const bool is_empty = first < changed.size() && changed[first] == '}';
  changed.insert(open + 1, std::string(kNeutralEscaped) + (is_empty ? "" : ","));
  return changed;
}

// A decoder and its columns.
class Columns {
 public:
  Columns(Codec codec, uint8_t dropped) {
    Field neutral;
    neutral.name = kNeutral;
    std::vector<ColumnBuilder*> columns;
    for (size_t i = 0; i < codec.fields.size(); ++i) {
      const bool is_built = ((dropped >> (i % 8)) & 1) == 0;
      if (is_built) {
        fields_.push_back(codec.fields[i]);
        builders_.push_back(MakeColumnBuilder(codec.fields[i], Pool()));
      }
      columns.push_back(is_built ? builders_.back().get() : nullptr);
    }
    // What takes unknown fields stays the last one.
    const std::ptrdiff_t behind = codec.unknown_fields == UnknownFields::kRescue ? 1 : 0;
    columns.insert(columns.end() - behind, nullptr);
    codec.fields.insert(codec.fields.end() - behind, neutral);
    decoder_ = MakeDecoder(codec, columns, "$");
  }

  std::optional<DecodeFailure> Decode(std::string_view document) {
    // A copy that fills its memory to the last byte, so that a sanitizer sees what reads on.
    const auto exact = std::make_unique<char[]>(document.size());
    std::copy(document.begin(), document.end(), exact.get());
    auto failure = decoder_->Decode({exact.get(), document.size()});
    rows_ += failure.has_value() ? 0 : 1;
    for (const auto& builder : builders_) {
      CHECK(builder->length() == rows_);
    }
    return failure;
  }

  std::vector<std::pair<std::string, uint64_t>> UnknownFields() const {
    auto counts = decoder_->UnknownFieldCounts();
    std::sort(counts.begin(), counts.end());
    return counts;
  }

  // Moves the rows into `array`, and returns what they are.
  Field Export(ArrowArray* array) {
    Field batch;
    batch.type = TypeId::kStruct;
    batch.children = fields_;
    ExportRecordBatch(builders_, rows_, array);
    CheckArray(batch, *array);
    rows_ = 0;
    return batch;
  }

 private:
  // Keeps nothing, so that a sanitizer sees what is used after its release.
  static const std::shared_ptr<BufferPool>& Pool() {
    static const std::shared_ptr<BufferPool> pool = BufferPool::Make(0);
    return pool;
  }

  std::vector<Field> fields_;
  std::vector<std::unique_ptr<ColumnBuilder>> builders_;
  std::unique_ptr<Decoder> decoder_;
  int64_t rows_ = 0;
};

void DecodeAll(std::string_view input) {
  const auto number = [&input] {
    const uint8_t digit = input.empty() ? 0 : static_cast<uint8_t>(input.front() - '0');
    input.remove_prefix(input.empty() ? 0 : 1);
    return digit;
  };
  const uint8_t schema = number();
  const Codec codec = JsonCodec(schema, number());
  const uint8_t dropped = number();

  // In the way that the decoder chooses, and in the exact way.
  Columns chosen(codec, dropped);
  Columns exact(codec, dropped);
  std::vector<std::string_view> accepted;
  bool has_rejected = false;
  for (bool is_last = false; !is_last;) {
    const size_t end = std::min(input.find(kSeparator), input.size());
    is_last = end == input.size();
    const std::string_view document = input.substr(0, end);
    input.remove_prefix(is_last ? end : end + 1);

    const auto failure = chosen.Decode(document);
    const auto exact_failure = exact.Decode(WithEscapedKey(document));
    CHECK(failure.has_value() == exact_failure.has_value());
    if (failure.has_value()) {
      CHECK(failure->field.substr(0, 1) == "$");
      CHECK(!failure->reason.empty());
      CHECK(failure->field == exact_failure->field);
      CHECK(failure->reason == exact_failure->reason);
      CHECK(failure->is_new_field == exact_failure->is_new_field);
      CHECK(!failure->is_new_field || codec.unknown_fields == UnknownFields::kEvolve);
      has_rejected = true;
    } else {
      accepted.push_back(document);
    }
  }
  ArrowArray expected;
  const auto unknown = chosen.UnknownFields();
  const Field batch = chosen.Export(&expected);
  const auto check_same = [&](Columns* columns) {
    ArrowArray array;
    CHECK(columns->UnknownFields() == unknown);
    columns->Export(&array);
    CheckEqual(batch, expected, array);
    array.release(&array);
  };
  check_same(&exact);
  // What was rejected has left nothing behind.
  if (has_rejected) {
    Columns anew(codec, dropped);
    for (const std::string_view document : accepted) {
      CHECK(!anew.Decode(document).has_value());
    }
    check_same(&anew);
  }
  expected.release(&expected);
}

}  // namespace
}  // namespace sabot::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  sabot::fuzz::DecodeAll({reinterpret_cast<const char*>(data), size});
  return 0;
}
