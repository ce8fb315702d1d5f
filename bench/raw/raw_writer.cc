// Writes what a partition holds to another topic as fast as librdkafka takes records, and only
// counts the reports of their delivery.
//
//   raw_writer LIBRDKAFKA SOURCE TARGET ROWS memory|copy NAME=VALUE... -- NAME=VALUE...
//
// "memory": the values are read before the clocks start, and lie behind each other. "copy": they
// are written where they were read. First the consumer's settings, then the producer's. Prints a
// bench.job.WriteOutcome as JSON.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kafka/error_codes.h"
#include "kafka/handles.h"
#include "raw.h"

namespace {

using raw::Clocks;
using raw::Fail;
using sabot::Result;
using sabot::Status;

// How many records are handed over before reports are looked after, and read in one go.
constexpr size_t kChunk = 10'000;
using Messages = std::array<rd_kafka_message_t*, kChunk>;

// The same thread hands records over and takes their reports, in batches: the least that there is
// to do.
class Writer {
 public:
  static Result<std::unique_ptr<Writer>> Open(const sabot::Api& api,
                                              const sabot::Client::Settings& settings,
                                              const std::string& topic) {
    std::array<char, 512> text{};
    sabot::ConfHandle conf(api, api->rd_kafka_conf_new());
    for (const auto& [name, value] : settings) {
      if (api->rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), text.data(),
                                 text.size()) != 0) {
        return Status::Invalid(text.data());
      }
    }
    api->rd_kafka_conf_set_events(conf.get(), sabot::kEventDelivery);
    rd_kafka_t* const client =
        api->rd_kafka_new(sabot::kRdKafkaProducer, conf.get(), text.data(), text.size());
    if (client == nullptr) return Status::Invalid(text.data());
    static_cast<void>(conf.release());
    std::unique_ptr<Writer> writer(new Writer(api, client, topic));
    if (writer->topic_ == nullptr || writer->produce_ == nullptr) {
      return Status::Invalid("cannot write to '" + topic + "'");
    }
    // Connects, as a sink does when it is made.
    const rd_kafka_metadata_t* metadata = nullptr;
    constexpr int kTimeoutMs = 10'000;
    const int code = api->rd_kafka_metadata(client, 0, writer->topic_.get(), &metadata, kTimeoutMs);
    if (code != 0) return Status::Kafka(code, api->rd_kafka_err2str(code));
    api->rd_kafka_metadata_destroy(metadata);
    return writer;
  }

  // Hands a record over, waiting for room. Its value stays where it is until `TakeReports` has
  // heard of it, which then frees `owner`, if there is one.
  bool Write(std::string_view value, rd_kafka_message_t* owner) {
    constexpr int kNoCopy = 0;
    constexpr int kWaitMs = 1000;
    while (produce_(topic_.get(), sabot::kAnyPartition, kNoCopy, const_cast<char*>(value.data()),
                    value.size(), nullptr, 0, owner) != 0) {
      // librdkafka's name for a queue that is full.
      if (errno != ENOBUFS) return false;
      TakeReports(kWaitMs);
    }
    ++outstanding_;
    return true;
  }

  void TakeReports(int timeout_ms) {
    const sabot::EventHandle event(api_, api_->rd_kafka_queue_poll(reports_.get(), timeout_ms));
    if (!event) return;
    while (const rd_kafka_message_t* message = api_->rd_kafka_event_message_next(event.get())) {
      --outstanding_;
      failed_ += message->err != 0 ? 1 : 0;
      if (message->priv != nullptr) {
        api_->rd_kafka_message_destroy(static_cast<rd_kafka_message_t*>(message->priv));
      }
    }
  }

  // Waits for all reports; tells whether all records were written.
  bool Finish() {
    constexpr int kWaitMs = 1000;
    while (outstanding_ > 0) TakeReports(kWaitMs);
    return failed_ == 0;
  }

 private:
  using Produce = int (*)(rd_kafka_topic_t*, int32_t, int, void*, size_t, const void*, size_t,
                          void*);

  Writer(const sabot::Api& api, rd_kafka_t* client, const std::string& topic)
      : api_(api),
        client_(client, sabot::ClientDeleter{api}),
        topic_(api, api->rd_kafka_topic_new(client, topic.c_str(), nullptr)),
        reports_(api, api->rd_kafka_queue_get_main(client)),
        produce_(reinterpret_cast<Produce>(api->Symbol("rd_kafka_produce"))) {}

  const sabot::Api api_;
  const sabot::ClientHandle client_;
  const sabot::TopicHandle topic_;
  const sabot::QueueHandle reports_;
  const Produce produce_;
  int64_t outstanding_ = 0;
  int64_t failed_ = 0;
};

std::string_view ValueOf(const rd_kafka_message_t& message) {
  return {static_cast<const char*>(message.payload), message.len};
}

// Calls `take` for each record; it frees them.
template <typename Take>
bool ReadAll(raw::Reader* reader, const sabot::Api& api, int64_t rows, Take take) {
  const auto messages = std::make_unique<Messages>();
  while (rows > 0) {
    const size_t count =
        reader->Take(std::span(*messages).first(std::min(kChunk, static_cast<size_t>(rows))));
    for (size_t i = 0; i < count; ++i) {
      rd_kafka_message_t* const message = (*messages)[i];
      if (message->err != 0) {
        api->rd_kafka_message_destroy(message);
      } else if (--rows; !take(message)) {
        return false;
      }
    }
  }
  return true;
}

// The values of a partition, behind each other.
struct Values {
  std::string bytes;
  std::vector<size_t> ends;
};

Values Load(raw::Reader* reader, const sabot::Api& api, int64_t rows) {
  Values values;
  values.ends.reserve(static_cast<size_t>(rows));
  ReadAll(reader, api, rows, [&](rd_kafka_message_t* message) {
    values.bytes += ValueOf(*message);
    values.ends.push_back(values.bytes.size());
    api->rd_kafka_message_destroy(message);
    return true;
  });
  return values;
}

bool WriteAll(const Values& values, Writer* writer) {
  const std::string_view bytes = values.bytes;
  size_t begin = 0;
  for (size_t row = 0; row < values.ends.size(); ++row) {
    if (!writer->Write(bytes.substr(begin, values.ends[row] - begin), nullptr)) return false;
    begin = values.ends[row];
    if (row % kChunk == 0) writer->TakeReports(0);
  }
  return writer->Finish();
}

bool CopyAll(raw::Reader* reader, const sabot::Api& api, int64_t rows, Writer* writer) {
  int64_t number = 0;
  const bool all = ReadAll(reader, api, rows, [&](rd_kafka_message_t* message) {
    if (++number % kChunk == 0) writer->TakeReports(0);
    return writer->Write(ValueOf(*message), message);
  });
  return all && writer->Finish();
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kSettings = 6;
  char** const end = argv + argc;
  char** const split = std::find(argv, end, std::string_view("--"));
  if (argc < kSettings || split == end) {
    return Fail(
        "expected LIBRDKAFKA SOURCE TARGET ROWS memory|copy NAME=VALUE... -- NAME=VALUE...");
  }
  const int64_t rows = std::atoll(argv[4]);
  const bool copies = argv[5] == std::string_view("copy");
  const auto reading = raw::ParseSettings(std::span(argv + kSettings, split));
  const auto writing = raw::ParseSettings(std::span(split + 1, end));
  if (!reading.ok()) return Fail(reading.status().message());
  if (!writing.ok()) return Fail(writing.status().message());
  const auto api = sabot::LibrdkafkaApi::Load(argv[1]);
  if (!api.ok()) return Fail(api.status().message());
  auto writer = Writer::Open(api.value(), writing.value(), argv[3]);
  if (!writer.ok()) return Fail(writer.status().message());

  Clocks opened;
  auto reader = raw::Reader::Open(api.value(), reading.value(), argv[2]);
  if (!reader.ok()) return Fail(reader.status().message());
  bool is_written = false;
  if (copies) {
    is_written = CopyAll(reader.value().get(), api.value(), rows, writer.value().get());
  } else {
    const Values values = Load(reader.value().get(), api.value(), rows);
    reader.value().reset();
    opened = Clocks();
    is_written = WriteAll(values, writer.value().get());
  }
  const Clocks ended;
  if (!is_written) return Fail("not all records were written");
  std::printf("{\"rows\": %lld, \"wall_s\": %.6f, \"cpu_s\": %.6f}\n", static_cast<long long>(rows),
              ended.wall - opened.wall, ended.cpu - opened.cpu);
  return 0;
}
