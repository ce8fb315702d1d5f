// Rows of Arrow columns to JSON objects, exactly as docs/json.md has it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arrow/c_data.h"
#include "arrow/field.h"
#include "codec/encoder.h"
#include "codec/json_decoder.h"

namespace sabot {

// Belongs to one thread at a time.
class JsonEncoder final : public Encoder {
 public:
  // See MakeEncoder.
  explicit JsonEncoder(const std::vector<Field>& fields);
  ~JsonEncoder() override;

  void Begin(const ArrowArray& batch) override;
  std::optional<EncodeFailure> Encode(int64_t row, std::string* out) override;

 private:
  struct Column;

  static std::unique_ptr<Column> MakeColumn(const Field& field, int depth, bool is_first);
  static void Bind(Column* column, const ArrowArray& array);
  // Appends the value; false: `failure_` says why there is none, and its path is completed on the
  // way out.
  bool Write(const Column& column, int64_t row, std::string* out);
  bool WriteLeaf(const Column& column, int64_t at, std::string* out);
  bool WriteFields(const std::vector<std::unique_ptr<Column>>& fields, int64_t row,
                   std::string* out);
  bool WriteList(const Column& column, int64_t at, std::string* out);
  bool WriteMap(const Column& column, int64_t at, std::string* out);
  bool WriteString(std::string_view text, std::string* out);
  bool WriteJsonText(const Column& column, std::string_view text, std::string* out);
  bool WriteFloat(double value, std::string* out);
  bool Fail(std::string reason);

  std::vector<std::unique_ptr<Column>> columns_;
  EncodeFailure failure_;
  JsonDecoder validator_;  // Of columns that hold JSON text.
  std::string scratch_;
  std::vector<std::string_view> keys_;  // Of the map at hand.
};

}  // namespace sabot
