// Reads a partition as fast as librdkafka hands records over, and only counts them.
//
//   raw LIBRDKAFKA TOPIC ROWS NAME=VALUE...
//
// Prints a bench.job.Outcome as JSON.
#include "raw.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

int main(int argc, char** argv) {
  using raw::Clocks;
  using raw::Fail;
  if (argc < 4) return Fail("expected LIBRDKAFKA TOPIC ROWS NAME=VALUE...");
  const int64_t wanted = std::atoll(argv[3]);
  const auto settings = raw::ParseSettings(std::span(argv + 4, argv + argc));
  if (!settings.ok()) return Fail(settings.status().message());
  const auto api = sabot::LibrdkafkaApi::Load(argv[1]);
  if (!api.ok()) return Fail(api.status().message());

  const Clocks opened;
  const auto reader = raw::Reader::Open(api.value(), settings.value(), argv[2]);
  if (!reader.ok()) return Fail(reader.status().message());

  std::array<rd_kafka_message_t*, 10'000> messages;
  int64_t rows = 0, bytes = 0, batches = 0, first_rows = 0;
  Clocks first;
  while (rows < wanted) {
    const size_t most = batches == 0 ? 1 : messages.size();
    const size_t count = reader.value()->Take(std::span(messages).first(most));
    int64_t records = 0;
    for (size_t i = 0; i < count; ++i) {
      if (messages[i]->err == 0) {
        ++records;
        bytes += static_cast<int64_t>(messages[i]->len);
      }
      api.value()->rd_kafka_message_destroy(messages[i]);
    }
    if (records > 0 && batches++ == 0) {
      first = Clocks();
      first_rows = records;
    }
    rows += records;
  }
  const Clocks ended;
  std::printf(
      "{\"rows\": %lld, \"batches\": %lld, \"steady_rows\": %lld, \"first_batch_s\": %.6f, "
      "\"steady_s\": %.6f, \"steady_cpu_s\": %.6f, \"cpu_s\": %.6f, \"value_bytes\": %lld}\n",
      static_cast<long long>(rows), static_cast<long long>(batches),
      static_cast<long long>(rows - first_rows), first.wall - opened.wall, ended.wall - first.wall,
      ended.cpu - first.cpu, ended.cpu - opened.cpu, static_cast<long long>(bytes));
  return 0;
}
