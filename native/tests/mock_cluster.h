// librdkafka's mock cluster, and a producer to fill it.
#pragma once

#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>

#include "kafka/librdkafka_api.h"

namespace sabot::testing {

// The library that the environment variable LIBRDKAFKA names.
inline Api LoadApi() {
  const char* path = std::getenv("LIBRDKAFKA");
  auto api = LibrdkafkaApi::Load(path != nullptr ? path : "librdkafka.so.1");
  if (!api.ok()) {
    std::cerr << api.status().message() << '\n';
    std::exit(1);
  }
  return api.value();
}

// The same for all tests of a program.
inline const Api& TheApi() {
  static const Api api = LoadApi();
  return api;
}

class MockCluster {
 public:
  explicit MockCluster(Api api) : api_(std::move(api)) {
    char text[512];
    rd_kafka_conf_t* conf = api_->rd_kafka_conf_new();
    api_->rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", text, sizeof(text));
    api_->rd_kafka_conf_set(conf, "linger.ms", "0", text, sizeof(text));
    api_->rd_kafka_conf_set(conf, "log_level", "0", text, sizeof(text));
    constexpr int kProducer = 0;
    producer_ = api_->rd_kafka_new(kProducer, conf, text, sizeof(text));
    cluster_ = Get<void*(rd_kafka_t*)>("rd_kafka_handle_mock_cluster")(producer_);
  }
  ~MockCluster() { api_->rd_kafka_destroy_flags(producer_, 0); }
  MockCluster(const MockCluster&) = delete;
  MockCluster& operator=(const MockCluster&) = delete;

  std::string bootstrap_servers() const {
    return Get<const char*(void*)>("rd_kafka_mock_cluster_bootstraps")(cluster_);
  }
  void CreateTopic(const std::string& topic, int partitions) const {
    Get<int(void*, const char*, int, int)>("rd_kafka_mock_topic_create")(cluster_, topic.c_str(),
                                                                         partitions, 1);
  }
  void Produce(const std::string& topic, int32_t partition, const std::string& value) {
    ProduceBytes(topic, partition, value.data(), value.size());
  }
  void ProduceTombstone(const std::string& topic, int32_t partition) {
    ProduceBytes(topic, partition, nullptr, 0);
  }
  void Flush() { Get<int(rd_kafka_t*, int)>("rd_kafka_flush")(producer_, 10'000); }

 private:
  template <typename Function>
  Function* Get(const char* name) const {
    return reinterpret_cast<Function*>(api_->Symbol(name));
  }
  void ProduceBytes(const std::string& topic, int32_t partition, const void* value, size_t size) {
    auto* handle = Get<rd_kafka_topic_t*(rd_kafka_t*, const char*, void*)>("rd_kafka_topic_new")(
        producer_, topic.c_str(), nullptr);
    constexpr int kCopy = 0x2;
    Get<int(rd_kafka_topic_t*, int32_t, int, void*, size_t, const void*, size_t, void*)>(
        "rd_kafka_produce")(handle, partition, kCopy, const_cast<void*>(value), size, nullptr, 0,
                            nullptr);
    Get<void(rd_kafka_topic_t*)>("rd_kafka_topic_destroy")(handle);
  }

  Api api_;
  rd_kafka_t* producer_;
  void* cluster_;
};

}  // namespace sabot::testing
