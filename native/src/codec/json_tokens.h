// Where a JSON text's tokens begin.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sabot {

// Whether a text is valid UTF-8; by simdjson.
bool IsUtf8(std::string_view text);

// The text with U+FFFD for each maximal part that is no UTF-8, as Java's and Python's decoders put
// it.
std::string ReplaceInvalidUtf8(std::string_view text);

// simdjson's first stage over one document: finds the start of every structural character, string
// and scalar, and checks UTF-8, closed strings and control characters. Not On-Demand, which leaves
// skipped values unchecked, hides where tokens end, and wants 64 readable bytes behind the text;
// stage one reads no byte past it. One thread at a time.
class JsonTokens {
 public:
  JsonTokens();
  ~JsonTokens();
  JsonTokens(const JsonTokens&) = delete;
  JsonTokens& operator=(const JsonTokens&) = delete;

  // Indexes `text`, which must outlive the use of the positions. False if it is no JSON text.
  bool Index(std::string_view text);

  // Positions of the tokens. `end()` itself holds the length of the text, so that every token has a
  // position after it.
  const uint32_t* begin() const { return begin_; }
  const uint32_t* end() const { return end_; }

  // simdjson's version, and the instruction set that it chose on this machine.
  static const char* SimdjsonVersion();
  static std::string SimdjsonImplementation();

 private:
  struct Parser;

  bool Grow(size_t capacity);

  std::unique_ptr<Parser> parser_;
  size_t capacity_ = 0;
  const uint32_t* begin_ = nullptr;
  const uint32_t* end_ = nullptr;
};

}  // namespace sabot
