// A test framework in a page, so that the tests need nothing but a compiler.
#pragma once

#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace sabot::testing {

struct Test {
  const char* name;
  void (*body)();
};

std::vector<Test>& Tests();
// Marks the running test as failed.
std::ostream& Fail(const char* file, int line);

struct Registration {
  Registration(const char* name, void (*body)()) { Tests().push_back({name, body}); }
};

}  // namespace sabot::testing

#define TEST(name)                                                              \
  static void name();                                                           \
  static const ::sabot::testing::Registration registration_##name(#name, name); \
  static void name()

#define EXPECT(condition)                                               \
  do {                                                                  \
    if (!(condition)) {                                                 \
      ::sabot::testing::Fail(__FILE__, __LINE__) << #condition << '\n'; \
    }                                                                   \
  } while (false)

#define EXPECT_EQ(actual, expected)                                                        \
  do {                                                                                     \
    const auto& actual_value = (actual);                                                   \
    const auto& expected_value = (expected);                                               \
    if (!(actual_value == expected_value)) {                                               \
      ::sabot::testing::Fail(__FILE__, __LINE__)                                           \
          << #actual << " is " << actual_value << ", expected " << expected_value << '\n'; \
    }                                                                                      \
  } while (false)
