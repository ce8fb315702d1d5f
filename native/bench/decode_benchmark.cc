// Times the JSON decoder alone: records from a file, one a line, over and over.
//
//   decode_benchmark RECORDS ROUNDS FIELD:FORMAT...
//
// where FORMAT is the Arrow C interface's, for example id:l name:u. Prints nanoseconds per record
// of each round.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "arrow/buffer_pool.h"
#include "batch_builder.h"

// NOLINTNEXTLINE(bugprone-exception-escape): nothing to save where memory runs out
int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s RECORDS ROUNDS FIELD:FORMAT...\n", argv[0]);
    return 2;
  }
  std::ifstream file(argv[1]);
  std::vector<std::string> records;
  size_t bytes = 0;
  for (std::string line; std::getline(file, line);) {
    bytes += line.size();
    records.push_back(std::move(line));
  }
  std::vector<std::string> texts;
  for (int i = 3; i < argc; ++i) {
    const std::string_view given(argv[i]);
    texts.emplace_back(given.substr(0, given.find(':')));
    texts.emplace_back(given.substr(given.find(':') + 1));
  }
  std::vector<ArrowSchema> fields(texts.size() / 2, ArrowSchema{});
  std::vector<ArrowSchema*> pointers;
  sabot::BatchOptions options;
  for (size_t i = 0; i < fields.size(); ++i) {
    fields[i].name = texts[2 * i].c_str();
    fields[i].format = texts[2 * i + 1].c_str();
    pointers.push_back(&fields[i]);
    options.columns.push_back(texts[2 * i]);
  }
  ArrowSchema schema{};
  schema.format = "+s";
  schema.n_children = static_cast<int64_t>(pointers.size());
  schema.children = pointers.data();

  constexpr size_t kBatchRows = 50'000;
  auto codec = sabot::ImportCodec("json", schema, "ignore");
  if (!codec.ok()) {
    std::fprintf(stderr, "%s\n", codec.status().message().c_str());
    return 1;
  }
  options.value_codec = codec.value();
  auto made = sabot::BatchBuilder::Make(options, sabot::BufferPool::Make(64 << 20));
  if (!made.ok()) {
    std::fprintf(stderr, "%s\n", made.status().message().c_str());
    return 1;
  }
  sabot::BatchBuilder& batch = *made.value();
  const int64_t rounds = std::strtol(argv[2], nullptr, 10);
  for (int64_t round = 0; round < rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    size_t count = 0;
    for (const std::string& text : records) {
      sabot::Record record;
      record.value = text;
      if (const auto failure = batch.Append(record)) {
        std::fprintf(stderr, "%s: %s\n", failure->field.c_str(), failure->reason.c_str());
        return 1;
      }
      ++count;
      if (count % kBatchRows == 0 || count == records.size()) {
        ArrowArray array;
        batch.Export(&array);
        array.release(&array);
      }
    }
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    std::printf("%.1f ns/record, %.0f bytes/record\n", took.count() / static_cast<double>(count),
                static_cast<double>(bytes) / static_cast<double>(count));
  }
  return 0;
}
