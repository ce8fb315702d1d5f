// Finds where the plain part of a JSON string ends.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace sabot {

#ifdef __SSE2__
// A bit for each byte that is a quote, a backslash or a control character.
inline uint32_t SpecialBytes(__m128i text) {
  const __m128i quote = _mm_cmpeq_epi8(text, _mm_set1_epi8('"'));
  const __m128i backslash = _mm_cmpeq_epi8(text, _mm_set1_epi8('\\'));
  const __m128i last_control = _mm_set1_epi8(0x1F);
  const __m128i control = _mm_cmpeq_epi8(_mm_max_epu8(text, last_control), last_control);
  return static_cast<uint32_t>(
      _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)));
}
#endif

// Returns the first quote, backslash or control character in [at, end), or `end`. Sets `non_ascii`
// if a byte before it is none of ASCII; it may also be set by one close behind it.
inline const char* FindSpecial(const char* at, const char* end, bool* non_ascii) {
#ifdef __SSE2__
  constexpr int kStep = 16;
  for (; end - at >= kStep; at += kStep) {
    const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const uint32_t special = SpecialBytes(text);
    *non_ascii |= _mm_movemask_epi8(text) != 0;
    if (special != 0) {
      return at + std::countr_zero(special);
    }
  }
#endif
  for (; at != end; ++at) {
    const auto c = static_cast<unsigned char>(*at);
    if (c == '"' || c == '\\' || c < 0x20) {
      return at;
    }
    *non_ascii |= c >= 0x80;
  }
  return end;
}

// The same for a text of which `size` bytes can be read, a multiple of 16; null if there is none in
// them. Copies the text to `out`, where `size` bytes can be written, maybe with what stands close
// behind.
inline const char* CopyToSpecial(const char* at, size_t size, char* out, bool* non_ascii) {
#ifdef __SSE2__
  constexpr size_t kStep = 16;
  for (const char* const end = at + size; at != end; at += kStep, out += kStep) {
    const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), text);
    const uint32_t special = SpecialBytes(text);
    *non_ascii |= _mm_movemask_epi8(text) != 0;
    if (special != 0) {
      return at + std::countr_zero(special);
    }
  }
  return nullptr;
#else
  const char* const end = at + size;
  const char* const found = FindSpecial(at, end, non_ascii);
  std::memcpy(out, at, static_cast<size_t>(found - at));
  return found != end ? found : nullptr;
#endif
}

}  // namespace sabot
