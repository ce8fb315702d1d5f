// Owning wrappers: the only place where librdkafka's objects are freed.
#pragma once

#include <memory>
#include <utility>

#include "kafka/librdkafka_api.h"

namespace sabot {

// Calls one of the API's functions on an object when its owner goes.
template <auto Member>
struct ApiDeleter {
  Api api;
  template <typename T>
  void operator()(T* object) const {
    ((*api).*Member)(object);
  }
};

template <typename T, auto Member>
class ApiHandle : public std::unique_ptr<T, ApiDeleter<Member>> {
 public:
  ApiHandle() = default;
  ApiHandle(const Api& api, T* object)
      : std::unique_ptr<T, ApiDeleter<Member>>(object, ApiDeleter<Member>{api}) {}
};

using ConfHandle = ApiHandle<rd_kafka_conf_t, &LibrdkafkaApi::rd_kafka_conf_destroy>;
using QueueHandle = ApiHandle<rd_kafka_queue_t, &LibrdkafkaApi::rd_kafka_queue_destroy>;
using ErrorHandle = ApiHandle<rd_kafka_error_t, &LibrdkafkaApi::rd_kafka_error_destroy>;
using EventHandle = ApiHandle<rd_kafka_event_t, &LibrdkafkaApi::rd_kafka_event_destroy>;
using TopicHandle = ApiHandle<rd_kafka_topic_t, &LibrdkafkaApi::rd_kafka_topic_destroy>;
using MetadataHandle =
    ApiHandle<const rd_kafka_metadata_t, &LibrdkafkaApi::rd_kafka_metadata_destroy>;
using AdminOptionsHandle =
    ApiHandle<rd_kafka_AdminOptions_t, &LibrdkafkaApi::rd_kafka_AdminOptions_destroy>;
using PartitionListHandle = ApiHandle<rd_kafka_topic_partition_list_t,
                                      &LibrdkafkaApi::rd_kafka_topic_partition_list_destroy>;
using GroupMetadataHandle = ApiHandle<rd_kafka_consumer_group_metadata_t,
                                      &LibrdkafkaApi::rd_kafka_consumer_group_metadata_destroy>;

// A client. Queues, topics and records of it must be freed before.
struct ClientDeleter {
  Api api;
  void operator()(rd_kafka_t* client) const {
    // There is no group to leave: partitions are assigned, never subscribed to.
    api->rd_kafka_destroy_flags(client, kDestroyWithoutConsumerClose);
  }
};
using ClientHandle = std::unique_ptr<rd_kafka_t, ClientDeleter>;

}  // namespace sabot
