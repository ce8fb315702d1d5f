// Runs a fuzz target over files, for compilers without libFuzzer.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// The arguments are files, or folders of files.
int main(int argc, char** argv) {
  size_t inputs = 0;
  const auto run = [&inputs](const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(stream), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
    ++inputs;
  };
  for (int i = 1; i < argc; ++i) {
    if (std::filesystem::is_directory(argv[i])) {
      for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
        run(entry.path());
      }
    } else {
      run(argv[i]);
    }
  }
  std::cerr << "ran " << inputs << " inputs\n";
  return inputs == 0 ? 1 : 0;
}
