// What the raw contenders share: their clocks and settings, and reading a partition.
#pragma once

#include <time.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "kafka/consumer.h"
#include "kafka/librdkafka_api.h"

namespace raw {

inline double Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Clocks {
  double wall = Now(CLOCK_MONOTONIC);
  double cpu = Now(CLOCK_PROCESS_CPUTIME_ID);
};

// The exit code of a program that could not do its work.
inline int Fail(const std::string& message) {
  std::fprintf(stderr, "raw: %s\n", message.c_str());
  return 1;
}

// Reads arguments of the form NAME=VALUE.
inline sabot::Result<sabot::Client::Settings> ParseSettings(std::span<char*> arguments) {
  sabot::Client::Settings settings;
  for (const std::string setting : arguments) {
    const size_t split = setting.find('=');
    if (split == std::string::npos) {
      return sabot::Status::Invalid("'" + setting + "' is not NAME=VALUE");
    }
    settings[setting.substr(0, split)] = setting.substr(split + 1);
  }
  return settings;
}

// Partition 0 of a topic, from its beginning.
class Reader {
 public:
  static sabot::Result<std::unique_ptr<Reader>> Open(const sabot::Api& api,
                                                     const sabot::Client::Settings& settings,
                                                     const std::string& topic) {
    auto consumer = sabot::Consumer::Make(api, settings);
    if (!consumer.ok()) return consumer.status();
    auto queue = consumer.value()->OpenQueue(topic, 0);
    if (!queue.ok()) return queue.status();
    sabot::Status assigned = consumer.value()->Assign(topic, 0, 0, -1);
    if (!assigned.ok()) return assigned;
    return std::unique_ptr<Reader>(
        new Reader(std::move(consumer.value()), std::move(queue.value())));
  }

  // Takes what is there, errors among it; where there is nothing, waits a second for one record.
  size_t Take(std::span<rd_kafka_message_t*> out) {
    const sabot::LibrdkafkaApi& kafka = *consumer_->api();
    // The call waits for as many records as it is asked for.
    ptrdiff_t count = kafka.rd_kafka_consume_batch_queue(queue_.get(), 0, out.data(), out.size());
    if (count == 0) {
      constexpr int kWaitMs = 1000;
      count = kafka.rd_kafka_consume_batch_queue(queue_.get(), kWaitMs, out.data(), 1);
    }
    return count > 0 ? static_cast<size_t>(count) : 0;
  }

 private:
  Reader(std::shared_ptr<sabot::Consumer> consumer, sabot::QueueHandle queue)
      : consumer_(std::move(consumer)), queue_(std::move(queue)) {}

  std::shared_ptr<sabot::Consumer> consumer_;
  sabot::QueueHandle queue_;  // Freed before its client.
};

}  // namespace raw
