// Reads a partition as fast as librdkafka hands records over, and only counts them.
//
//   raw LIBRDKAFKA TOPIC ROWS NAME=VALUE...
//
// Prints a bench.job.Outcome as JSON.
#include <time.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "kafka/consumer.h"
#include "kafka/librdkafka_api.h"

namespace {

double Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Clocks {
  double wall = Now(CLOCK_MONOTONIC);
  double cpu = Now(CLOCK_PROCESS_CPUTIME_ID);
};

int Fail(const std::string& message) {
  std::fprintf(stderr, "raw: %s\n", message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return Fail("expected LIBRDKAFKA TOPIC ROWS NAME=VALUE...");
  const std::string topic = argv[2];
  const int64_t wanted = std::atoll(argv[3]);
  sabot::Consumer::Settings settings;
  for (int i = 4; i < argc; ++i) {
    const std::string setting = argv[i];
    const size_t split = setting.find('=');
    if (split == std::string::npos) return Fail("'" + setting + "' is not NAME=VALUE");
    settings[setting.substr(0, split)] = setting.substr(split + 1);
  }
  auto api = sabot::LibrdkafkaApi::Load(argv[1]);
  if (!api.ok()) return Fail(api.status().message());

  const Clocks opened;
  auto consumer = sabot::Consumer::Make(api.value(), settings);
  if (!consumer.ok()) return Fail(consumer.status().message());
  auto queue = consumer.value()->OpenQueue(topic, 0);
  if (!queue.ok()) return Fail(queue.status().message());
  const sabot::Status assigned = consumer.value()->Assign(topic, 0, 0, -1);
  if (!assigned.ok()) return Fail(assigned.message());

  const sabot::LibrdkafkaApi& kafka = *api.value();
  std::array<rd_kafka_message_t*, 10'000> messages;
  int64_t rows = 0, bytes = 0, batches = 0, first_rows = 0;
  Clocks first;
  while (rows < wanted) {
    // The call waits for as many records as it is asked for, so wait for one, then take what is
    // there.
    const bool waiting = batches == 0;
    ptrdiff_t count = kafka.rd_kafka_consume_batch_queue(
        queue.value().get(), waiting ? 1000 : 0, messages.data(), waiting ? 1 : messages.size());
    if (count == 0) {
      count = kafka.rd_kafka_consume_batch_queue(queue.value().get(), 1000, messages.data(), 1);
    }
    int64_t records = 0;
    for (ptrdiff_t i = 0; i < count; ++i) {
      if (messages[i]->err == 0) {
        ++records;
        bytes += static_cast<int64_t>(messages[i]->len);
      }
      kafka.rd_kafka_message_destroy(messages[i]);
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
