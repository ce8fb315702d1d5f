// Times the JSON decoder alone: records from a file, one a line, over and over.
//
//   decode_benchmark RECORDS ROUNDS FIELD...
//
// where a field is NAME:FORMAT, the Arrow C interface's, with its children behind it, for example
// id:l 'who:+s(name:u,tags:+l(item:u))'. Prints nanoseconds per record of each round.
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

namespace {

// A field and what the C interface's description of it points to.
struct Field {
  std::string name;
  std::string format;
  std::vector<std::unique_ptr<Field>> children;
  std::vector<ArrowSchema*> pointers;
  ArrowSchema schema{};

  // Reads a field from the beginning of `text`, which then begins behind it.
  explicit Field(std::string_view* text) {
    const auto take = [text](std::string_view ends) {
      const std::string_view taken = text->substr(0, text->find_first_of(ends));
      text->remove_prefix(taken.size());
      return std::string(taken);
    };
    name = take(":");
    text->remove_prefix(text->empty() ? 0 : 1);
    format = take("(),");
    while (!text->empty() &&
           (text->front() == '(' || (text->front() == ',' && !children.empty()))) {
      text->remove_prefix(1);
      children.push_back(std::make_unique<Field>(text));
    }
    if (!children.empty() && !text->empty()) {
      text->remove_prefix(1);
    }
    for (const auto& child : children) {
      pointers.push_back(&child->schema);
    }
    schema.name = name.c_str();
    schema.format = format.c_str();
    schema.n_children = static_cast<int64_t>(pointers.size());
    schema.children = pointers.data();
  }
};

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): nothing to save where memory runs out
int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s RECORDS ROUNDS FIELD...\n", argv[0]);
    return 2;
  }
  std::ifstream file(argv[1]);
  std::vector<std::string> records;
  size_t bytes = 0;
  for (std::string line; std::getline(file, line);) {
    bytes += line.size();
    records.push_back(std::move(line));
  }
  std::vector<std::unique_ptr<Field>> fields;
  std::vector<ArrowSchema*> pointers;
  sabot::BatchOptions options;
  for (int i = 3; i < argc; ++i) {
    std::string_view text(argv[i]);
    fields.push_back(std::make_unique<Field>(&text));
    pointers.push_back(&fields.back()->schema);
    options.columns.push_back(fields.back()->name);
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
