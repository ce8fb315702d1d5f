#include "codec/json_tokens.h"

#include <algorithm>
#include <new>

#include "simdjson.h"

namespace sabot {

bool IsUtf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string replaced;
  while (!text.empty()) {
    const auto byte = [text](size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned char lead = byte(0);
    const size_t whole = lead < 0x80    ? 1
                         : lead < 0xC2  ? 0
                         : lead < 0xE0  ? 2
                         : lead < 0xF0  ? 3
                         : lead <= 0xF4 ? 4
                                        : 0;
    // Of the second byte; overlong forms, surrogates and what is beyond U+10FFFF are no UTF-8.
    unsigned char lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    size_t size = 1;
    while (size < whole && size < text.size() && byte(size) >= lowest && byte(size) <= highest) {
      ++size;
      lowest = 0x80;
      highest = 0xBF;
    }
    replaced += size == whole ? text.substr(0, size) : "\xEF\xBF\xBD";
    text.remove_prefix(size);
  }
  return replaced;
}

struct JsonTokens::Parser {
  std::unique_ptr<simdjson::internal::dom_parser_implementation> stage_one;
};

JsonTokens::JsonTokens() : parser_(std::make_unique<Parser>()) {}
JsonTokens::~JsonTokens() = default;

bool JsonTokens::Grow(size_t capacity) {
  constexpr size_t kDepthIsOurs = 1;
  capacity_ = std::max<size_t>(capacity, 4096);
  const simdjson::error_code error =
      simdjson::get_active_implementation()->create_dom_parser_implementation(
          capacity_, kDepthIsOurs, parser_->stage_one);
  if (error == simdjson::MEMALLOC) {
    capacity_ = 0;
    throw std::bad_alloc();
  }
  return error == simdjson::SUCCESS;
}

bool JsonTokens::Index(std::string_view text) {
  if (text.empty() || (text.size() > capacity_ && !Grow(text.size() * 2))) {
    return false;
  }
  const simdjson::error_code error = parser_->stage_one->stage1(
      reinterpret_cast<const uint8_t*>(text.data()), text.size(), simdjson::stage1_mode::regular);
  if (error != simdjson::SUCCESS) {
    return false;
  }
  begin_ = parser_->stage_one->structural_indexes.get();
  end_ = begin_ + parser_->stage_one->n_structural_indexes;
  return true;
}

const char* JsonTokens::SimdjsonVersion() { return SIMDJSON_VERSION; }

std::string JsonTokens::SimdjsonImplementation() {
  return simdjson::get_active_implementation()->name();
}

}  // namespace sabot
