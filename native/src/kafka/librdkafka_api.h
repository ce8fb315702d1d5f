// The part of librdkafka's ABI that is used here, found at run time in the confluent-kafka wheel.
//
// Declared by hand: the wheel brings the library without headers. The layouts are librdkafka's
// public ones, unchanged since 1.0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "status.h"

extern "C" {

struct rd_kafka_t;
struct rd_kafka_conf_t;
struct rd_kafka_topic_t;
struct rd_kafka_queue_t;
struct rd_kafka_error_t;
struct rd_kafka_event_t;
struct rd_kafka_headers_t;
struct rd_kafka_consumer_group_metadata_t;
struct rd_kafka_AdminOptions_t;
struct rd_kafka_ListOffsets_result_t;
struct rd_kafka_ListOffsetsResultInfo_t;

struct rd_kafka_message_t {
  int err;
  rd_kafka_topic_t* rkt;
  int32_t partition;
  void* payload;
  size_t len;
  void* key;
  size_t key_len;
  int64_t offset;
  void* priv;
};

struct rd_kafka_topic_partition_t {
  char* topic;
  int32_t partition;
  int64_t offset;
  void* metadata;
  size_t metadata_size;
  void* opaque;
  int err;
  void* priv;
};

struct rd_kafka_topic_partition_list_t {
  int cnt;
  int size;
  rd_kafka_topic_partition_t* elems;
};

struct rd_kafka_metadata_partition_t {
  int32_t id;
  int err;
  int32_t leader;
  int replica_cnt;
  int32_t* replicas;
  int isr_cnt;
  int32_t* isrs;
};

struct rd_kafka_metadata_topic_t {
  char* topic;
  int partition_cnt;
  rd_kafka_metadata_partition_t* partitions;
  int err;
};

struct rd_kafka_metadata_t {
  int broker_cnt;
  void* brokers;
  int topic_cnt;
  rd_kafka_metadata_topic_t* topics;
  int32_t orig_broker_id;
  char* orig_broker_name;
};

struct rd_kafka_err_desc_t {
  int code;
  const char* name;
  const char* desc;
};

// An argument of rd_kafka_produceva.
struct rd_kafka_vu_t {
  int vtype;
  union {
    rd_kafka_topic_t* rkt;
    int i;
    int32_t i32;
    int64_t i64;
    struct {
      void* ptr;
      size_t size;
    } mem;
    struct {
      const char* name;
      const void* val;
      ptrdiff_t size;
    } header;
    void* ptr;
    char pad[64];
  } u;
};

}  // extern "C"

namespace sabot {

inline constexpr int kRdKafkaProducer = 0;                // RD_KAFKA_PRODUCER
inline constexpr int kRdKafkaConsumer = 1;                // RD_KAFKA_CONSUMER
inline constexpr int kDestroyWithoutConsumerClose = 0x8;  // RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE
inline constexpr int kAdminOpListOffsets = 21;            // RD_KAFKA_ADMIN_OP_LISTOFFSETS
inline constexpr int kEventDelivery = 0x1;                // RD_KAFKA_EVENT_DR
inline constexpr int kEventLog = 0x4;                     // RD_KAFKA_EVENT_LOG
inline constexpr int kEventError = 0x8;                   // RD_KAFKA_EVENT_ERROR
inline constexpr int kEventStats = 0x40;                  // RD_KAFKA_EVENT_STATS
inline constexpr int kEventTokenRefresh = 0x100;  // RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH
inline constexpr int kReadUncommitted = 0;        // RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
inline constexpr int kReadCommitted = 1;          // RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
inline constexpr int64_t kOffsetLatest = -1;      // RD_KAFKA_OFFSET_SPEC_LATEST
inline constexpr int64_t kOffsetEarliest = -2;    // RD_KAFKA_OFFSET_SPEC_EARLIEST

inline constexpr int kPurgeQueued = 0x1;      // RD_KAFKA_PURGE_F_QUEUE
inline constexpr int kPurgeInFlight = 0x2;    // RD_KAFKA_PURGE_F_INFLIGHT
inline constexpr int32_t kAnyPartition = -1;  // RD_KAFKA_PARTITION_UA: as the partitioner says

// RD_KAFKA_VTYPE_*: what an argument of rd_kafka_produceva is.
inline constexpr int kVtypeTopic = 2;  // RKT
inline constexpr int kVtypePartition = 3;
inline constexpr int kVtypeValue = 4;
inline constexpr int kVtypeKey = 5;
inline constexpr int kVtypeOpaque = 6;
inline constexpr int kVtypeTimestamp = 8;
inline constexpr int kVtypeHeader = 9;

using QueueCallback = void (*)(rd_kafka_t*, void* opaque);
// Owns the event.
using EventCallback = void (*)(rd_kafka_t*, rd_kafka_event_t*, void* opaque);
using ErrorCallback = void (*)(rd_kafka_t*, int code, const char* reason, void* opaque);

// name, return type, parameters.
#define SABOT_LIBRDKAFKA_FUNCTIONS(X)                                                              \
  X(rd_kafka_version, int, (void))                                                                 \
  X(rd_kafka_version_str, const char*, (void))                                                     \
  X(rd_kafka_err2str, const char*, (int))                                                          \
  X(rd_kafka_err2name, const char*, (int))                                                         \
  X(rd_kafka_get_err_descs, void, (const rd_kafka_err_desc_t**, size_t*))                          \
  X(rd_kafka_conf_new, rd_kafka_conf_t*, (void))                                                   \
  X(rd_kafka_conf_destroy, void, (rd_kafka_conf_t*))                                               \
  X(rd_kafka_conf_set_error_cb, void, (rd_kafka_conf_t*, ErrorCallback))                           \
  X(rd_kafka_conf_set_background_event_cb, void, (rd_kafka_conf_t*, EventCallback))                \
  X(rd_kafka_conf_set_opaque, void, (rd_kafka_conf_t*, void*))                                     \
  X(rd_kafka_topic_new, rd_kafka_topic_t*, (rd_kafka_t*, const char*, void*))                      \
  X(rd_kafka_topic_destroy, void, (rd_kafka_topic_t*))                                             \
  X(rd_kafka_metadata, int,                                                                        \
    (rd_kafka_t*, int, rd_kafka_topic_t*, const rd_kafka_metadata_t**, int))                       \
  X(rd_kafka_metadata_destroy, void, (const rd_kafka_metadata_t*))                                 \
  X(rd_kafka_conf_set_events, void, (rd_kafka_conf_t*, int))                                       \
  X(rd_kafka_set_log_queue, int, (rd_kafka_t*, rd_kafka_queue_t*))                                 \
  X(rd_kafka_conf_set, int, (rd_kafka_conf_t*, const char*, const char*, char*, size_t))           \
  X(rd_kafka_new, rd_kafka_t*, (int, rd_kafka_conf_t*, char*, size_t))                             \
  X(rd_kafka_destroy_flags, void, (rd_kafka_t*, int))                                              \
  X(rd_kafka_error_code, int, (const rd_kafka_error_t*))                                           \
  X(rd_kafka_error_string, const char*, (const rd_kafka_error_t*))                                 \
  X(rd_kafka_error_is_retriable, int, (const rd_kafka_error_t*))                                   \
  X(rd_kafka_error_txn_requires_abort, int, (const rd_kafka_error_t*))                             \
  X(rd_kafka_error_destroy, void, (rd_kafka_error_t*))                                             \
  X(rd_kafka_topic_partition_list_new, rd_kafka_topic_partition_list_t*, (int))                    \
  X(rd_kafka_topic_partition_list_destroy, void, (rd_kafka_topic_partition_list_t*))               \
  X(rd_kafka_topic_partition_list_add, rd_kafka_topic_partition_t*,                                \
    (rd_kafka_topic_partition_list_t*, const char*, int32_t))                                      \
  X(rd_kafka_topic_partition_set_leader_epoch, void, (rd_kafka_topic_partition_t*, int32_t))       \
  X(rd_kafka_incremental_assign, rd_kafka_error_t*,                                                \
    (rd_kafka_t*, const rd_kafka_topic_partition_list_t*))                                         \
  X(rd_kafka_incremental_unassign, rd_kafka_error_t*,                                              \
    (rd_kafka_t*, const rd_kafka_topic_partition_list_t*))                                         \
  X(rd_kafka_seek_partitions, rd_kafka_error_t*,                                                   \
    (rd_kafka_t*, rd_kafka_topic_partition_list_t*, int))                                          \
  X(rd_kafka_oauthbearer_set_token, int,                                                           \
    (rd_kafka_t*, const char*, int64_t, const char*, const char**, size_t, char*, size_t))         \
  X(rd_kafka_queue_new, rd_kafka_queue_t*, (rd_kafka_t*))                                          \
  X(rd_kafka_queue_destroy, void, (rd_kafka_queue_t*))                                             \
  X(rd_kafka_queue_get_partition, rd_kafka_queue_t*, (rd_kafka_t*, const char*, int32_t))          \
  X(rd_kafka_queue_get_main, rd_kafka_queue_t*, (rd_kafka_t*))                                     \
  X(rd_kafka_queue_get_consumer, rd_kafka_queue_t*, (rd_kafka_t*))                                 \
  X(rd_kafka_queue_get_background, rd_kafka_queue_t*, (rd_kafka_t*))                               \
  X(rd_kafka_queue_forward, void, (rd_kafka_queue_t*, rd_kafka_queue_t*))                          \
  X(rd_kafka_queue_yield, void, (rd_kafka_queue_t*))                                               \
  X(rd_kafka_queue_cb_event_enable, void, (rd_kafka_queue_t*, QueueCallback, void*))               \
  X(rd_kafka_queue_poll, rd_kafka_event_t*, (rd_kafka_queue_t*, int))                              \
  X(rd_kafka_event_destroy, void, (rd_kafka_event_t*))                                             \
  X(rd_kafka_event_type, int, (const rd_kafka_event_t*))                                           \
  X(rd_kafka_event_log, int, (rd_kafka_event_t*, const char**, const char**, int*))                \
  X(rd_kafka_event_error, int, (rd_kafka_event_t*))                                                \
  X(rd_kafka_event_error_string, const char*, (rd_kafka_event_t*))                                 \
  X(rd_kafka_event_stats, const char*, (rd_kafka_event_t*))                                        \
  X(rd_kafka_event_message_next, const rd_kafka_message_t*, (rd_kafka_event_t*))                   \
  X(rd_kafka_event_ListOffsets_result, const rd_kafka_ListOffsets_result_t*, (rd_kafka_event_t*))  \
  X(rd_kafka_get_watermark_offsets, int, (rd_kafka_t*, const char*, int32_t, int64_t*, int64_t*))  \
  X(rd_kafka_consume_batch_queue, ptrdiff_t,                                                       \
    (rd_kafka_queue_t*, int, rd_kafka_message_t**, size_t))                                        \
  X(rd_kafka_produceva, rd_kafka_error_t*, (rd_kafka_t*, const rd_kafka_vu_t*, size_t))            \
  X(rd_kafka_flush, int, (rd_kafka_t*, int))                                                       \
  X(rd_kafka_purge, int, (rd_kafka_t*, int))                                                       \
  X(rd_kafka_fatal_error, int, (rd_kafka_t*, char*, size_t))                                       \
  X(rd_kafka_init_transactions, rd_kafka_error_t*, (rd_kafka_t*, int))                             \
  X(rd_kafka_begin_transaction, rd_kafka_error_t*, (rd_kafka_t*))                                  \
  X(rd_kafka_send_offsets_to_transaction, rd_kafka_error_t*,                                       \
    (rd_kafka_t*, const rd_kafka_topic_partition_list_t*,                                          \
     const rd_kafka_consumer_group_metadata_t*, int))                                              \
  X(rd_kafka_commit_transaction, rd_kafka_error_t*, (rd_kafka_t*, int))                            \
  X(rd_kafka_abort_transaction, rd_kafka_error_t*, (rd_kafka_t*, int))                             \
  X(rd_kafka_consumer_group_metadata_read, rd_kafka_error_t*,                                      \
    (rd_kafka_consumer_group_metadata_t**, const void*, size_t))                                   \
  X(rd_kafka_consumer_group_metadata_destroy, void, (rd_kafka_consumer_group_metadata_t*))         \
  X(rd_kafka_topic_name, const char*, (const rd_kafka_topic_t*))                                   \
  X(rd_kafka_message_produce_errstr, const char*, (const rd_kafka_message_t*))                     \
  X(rd_kafka_message_destroy, void, (rd_kafka_message_t*))                                         \
  X(rd_kafka_message_errstr, const char*, (const rd_kafka_message_t*))                             \
  X(rd_kafka_message_leader_epoch, int32_t, (const rd_kafka_message_t*))                           \
  X(rd_kafka_message_timestamp, int64_t, (const rd_kafka_message_t*, int*))                        \
  X(rd_kafka_message_headers, int, (const rd_kafka_message_t*, rd_kafka_headers_t**))              \
  X(rd_kafka_header_get_all, int,                                                                  \
    (const rd_kafka_headers_t*, size_t, const char**, const void**, size_t*))                      \
  X(rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_t*, (rd_kafka_t*, int))                       \
  X(rd_kafka_AdminOptions_destroy, void, (rd_kafka_AdminOptions_t*))                               \
  X(rd_kafka_AdminOptions_set_request_timeout, int,                                                \
    (rd_kafka_AdminOptions_t*, int, char*, size_t))                                                \
  X(rd_kafka_AdminOptions_set_isolation_level, rd_kafka_error_t*, (rd_kafka_AdminOptions_t*, int)) \
  X(rd_kafka_ListOffsets, void,                                                                    \
    (rd_kafka_t*, rd_kafka_topic_partition_list_t*, const rd_kafka_AdminOptions_t*,                \
     rd_kafka_queue_t*))                                                                           \
  X(rd_kafka_ListOffsets_result_infos, const rd_kafka_ListOffsetsResultInfo_t**,                   \
    (const rd_kafka_ListOffsets_result_t*, size_t*))                                               \
  X(rd_kafka_ListOffsetsResultInfo_topic_partition, const rd_kafka_topic_partition_t*,             \
    (const rd_kafka_ListOffsetsResultInfo_t*))

// librdkafka's functions. Immutable once loaded, so every thread may use it. The library is never
// unloaded: its threads may outlive whoever opened it.
class LibrdkafkaApi {
 public:
  // Opens the shared object at `path`: confluent_kafka's extension module, which brings
  // librdkafka's symbols, or librdkafka itself. Refuses versions below 2.13.2, whose batch queues
  // move the stored position wrongly (librdkafka #4844).
  static Result<std::shared_ptr<const LibrdkafkaApi>> Load(const std::string& path);

  // Another function of the same library; null if it has none of the name.
  void* Symbol(const char* name) const;

#define SABOT_DECLARE(name, returns, parameters) returns(*name) parameters = nullptr;
  SABOT_LIBRDKAFKA_FUNCTIONS(SABOT_DECLARE)
#undef SABOT_DECLARE

 private:
  LibrdkafkaApi() = default;

  void* library_ = nullptr;
};

using Api = std::shared_ptr<const LibrdkafkaApi>;

}  // namespace sabot
