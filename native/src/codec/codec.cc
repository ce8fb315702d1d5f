#include "codec/codec.h"

#include "codec/json_decoder.h"
#include "codec/text_decoder.h"

namespace sabot {
namespace {

template <typename T>
struct Named {
  std::string_view name;
  T value;
};

constexpr Named<Codec::Format> kFormats[] = {{"bytes", Codec::Format::kBytes},
                                             {"string", Codec::Format::kString},
                                             {"json", Codec::Format::kJson}};
constexpr Named<UnknownFields> kUnknownFields[] = {{"ignore", UnknownFields::kIgnore},
                                                   {"rescue", UnknownFields::kRescue},
                                                   {"evolve", UnknownFields::kEvolve},
                                                   {"fail", UnknownFields::kFail}};

template <typename T, size_t size>
bool FindNamed(const Named<T> (&choices)[size], std::string_view name, T* out) {
  for (const Named<T>& choice : choices) {
    if (choice.name == name) {
      *out = choice.value;
      return true;
    }
  }
  return false;
}

}  // namespace

Result<Codec> ImportCodec(std::string_view format, const ArrowSchema& schema,
                          std::string_view unknown_fields) {
  Codec codec;
  if (!FindNamed(kFormats, format, &codec.format)) {
    return Status::Invalid("codec '" + std::string(format) + "' is not known");
  }
  if (!FindNamed(kUnknownFields, unknown_fields, &codec.unknown_fields)) {
    return Status::Invalid("unknown_fields '" + std::string(unknown_fields) + "' is not known");
  }
  Result<std::vector<Field>> fields = ImportSchema(schema);
  if (!fields.ok()) {
    return fields.status();
  }
  codec.fields = std::move(fields.value());
  return codec;
}

std::unique_ptr<Decoder> MakeDecoder(const Codec& codec, const std::vector<ColumnBuilder*>& columns,
                                     std::string_view root) {
  if (codec.format == Codec::Format::kJson) {
    return std::make_unique<JsonDecoder>(codec.fields, columns, codec.unknown_fields, root);
  }
  const bool is_text = codec.format == Codec::Format::kString;
  return std::make_unique<TextDecoder>(static_cast<BytesBuilder*>(columns.front()), is_text, root);
}

}  // namespace sabot
