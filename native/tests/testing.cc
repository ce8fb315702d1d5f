#include "testing.h"

#include <cstring>

namespace sabot::testing {
namespace {

bool failed = false;

}  // namespace

std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

std::ostream& Fail(const char* file, int line) {
  failed = true;
  return std::cerr << file << ':' << line << ": ";
}

}  // namespace sabot::testing

// Runs all tests, or those whose name contains the argument.
int main(int argc, char** argv) {
  using sabot::testing::failed;
  int failures = 0;
  for (const auto& test : sabot::testing::Tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) {
      continue;
    }
    failed = false;
    test.body();
    std::cerr << (failed ? "FAILED " : "ok ") << test.name << '\n';
    failures += failed ? 1 : 0;
  }
  return failures == 0 ? 0 : 1;
}
