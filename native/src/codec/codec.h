// How values and keys are encoded, and what decodes them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arrow/c_data.h"
#include "arrow/column_builder.h"
#include "arrow/field.h"
#include "status.h"

namespace sabot {

// What becomes of a field that the schema does not know. With kEvolve one at the top level ends the
// row, with a failure that says so: whoever reads goes on with a schema that knows it. Those below,
// and those that no column can be named like, are ignored.
enum class UnknownFields : uint8_t { kIgnore, kRescue, kEvolve, kFail };

// What sabot_ray.codecs.codec.Codec describes, in C++.
struct Codec {
  enum class Format : uint8_t { kBytes, kString, kJson };

  Format format = Format::kBytes;
  // All columns that a value can become, in order; one but for JSON. With kRescue the last one is
  // the string that takes unknown fields.
  std::vector<Field> fields;
  UnknownFields unknown_fields = UnknownFields::kIgnore;
};

// Reads the description. `schema` stays its owner's.
Result<Codec> ImportCodec(std::string_view format, const ArrowSchema& schema,
                          std::string_view unknown_fields);

// Decodes one value after the other. Belongs to one thread at a time.
class Decoder {
 public:
  Decoder() = default;
  virtual ~Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // Appends a row to each built column, or leaves them as they were and returns why.
  virtual std::optional<DecodeFailure> Decode(std::string_view value) = 0;

  // In how many objects each unknown field was met, by path. Rejected values do not count, nor do
  // fields that are rescued.
  virtual std::vector<std::pair<std::string, uint64_t>> UnknownFieldCounts() const { return {}; }
  // Changes with every count, so that a copy is needed only when there is news.
  virtual uint64_t unknown_field_changes() const { return 0; }
  // Takes the last value's unknown fields out of the counts: its row was taken back.
  virtual void UncountLast() {}
  // `DropCounts` takes all counts back that came after the last `KeepCounts`.
  virtual void KeepCounts() {}
  virtual void DropCounts() {}
};

// `columns` has a builder per field of the codec, or null where it is known but not built; builders
// outlive the decoder, and their lengths stay equal. Paths of fields begin with `root`.
std::unique_ptr<Decoder> MakeDecoder(const Codec& codec, const std::vector<ColumnBuilder*>& columns,
                                     std::string_view root);

}  // namespace sabot
