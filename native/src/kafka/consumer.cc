#include "kafka/consumer.h"

#include <array>
#include <utility>

#include "kafka/error_codes.h"

namespace sabot {
namespace {

constexpr size_t kErrorTextSize = 512;

int ToMilliseconds(std::chrono::milliseconds duration) {
  return static_cast<int>(duration.count());
}

std::string Describe(const std::string& topic, int32_t partition) {
  return "topic '" + topic + "' partition " + std::to_string(partition);
}

// Where the error callback puts what it gets, while this thread serves a partition's queue.
thread_local ClientError* reported_error = nullptr;

void OnError(rd_kafka_t* /*client*/, int code, const char* reason, void* /*opaque*/) {
  if (reported_error != nullptr) {
    *reported_error = {code, reason};
  }
}

// Runs on librdkafka's threads, which hold the queue's lock: it only notes.
void OnNews(rd_kafka_t* /*client*/, void* opaque) {
  auto* news = static_cast<QueueNews*>(opaque);
  news->pending = true;
  news->consumer->Wake();
}

}  // namespace

Result<std::shared_ptr<Consumer>> Consumer::Make(const Api& api, const Settings& settings) {
  std::shared_ptr<Consumer> consumer(new Consumer(api));
  if (const auto level = settings.find("isolation.level"); level != settings.end()) {
    consumer->read_committed_ = level->second == "read_committed";
  }
  // Errors of a whole partition come through its own queue, and from there only to a callback, on
  // the thread that serves the queue.
  Status status = consumer->Start(kRdKafkaConsumer, settings, OnError);
  if (!status.ok()) {
    return status;
  }
  return consumer;
}

PartitionListHandle Consumer::OnePartition(const std::string& topic, int32_t partition,
                                           int64_t offset) {
  PartitionListHandle list(api(), api()->rd_kafka_topic_partition_list_new(1));
  api()->rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition)->offset = offset;
  return list;
}

Result<QueueHandle> Consumer::OpenQueue(const std::string& topic, int32_t partition) {
  QueueHandle queue(api(), api()->rd_kafka_queue_get_partition(handle(), topic.c_str(), partition));
  if (!queue) {
    return Status::Invalid(Describe(topic, partition) + ": librdkafka gives no queue for it");
  }
  api()->rd_kafka_queue_forward(queue.get(), nullptr);
  return queue;
}

void Consumer::Watch(rd_kafka_queue_t* queue, QueueNews* news) {
  api()->rd_kafka_queue_cb_event_enable(queue, news != nullptr ? OnNews : nullptr, news);
}

uint64_t Consumer::news_count() {
  const std::lock_guard lock(news_mutex_);
  return news_count_;
}

void Consumer::WaitForNews(uint64_t seen, std::chrono::milliseconds timeout) {
  std::unique_lock lock(news_mutex_);
  news_changed_.wait_for(lock, timeout, [&] { return news_count_ != seen; });
}

void Consumer::Wake() {
  {
    const std::lock_guard lock(news_mutex_);
    ++news_count_;
  }
  news_changed_.notify_all();
}

size_t Consumer::Fetch(rd_kafka_queue_t* queue, std::chrono::milliseconds timeout,
                       rd_kafka_message_t** out, size_t count, ClientError* error) {
  reported_error = error;
  const ptrdiff_t fetched =
      api()->rd_kafka_consume_batch_queue(queue, ToMilliseconds(timeout), out, count);
  reported_error = nullptr;
  return fetched > 0 ? static_cast<size_t>(fetched) : 0;
}

Status Consumer::Assign(const std::string& topic, int32_t partition, int64_t offset,
                        int32_t leader_epoch) {
  const PartitionListHandle list = OnePartition(topic, partition, offset);
  api()->rd_kafka_topic_partition_set_leader_epoch(&list->elems[0], leader_epoch);
  return FromError(api()->rd_kafka_incremental_assign(handle(), list.get()),
                   Describe(topic, partition) + ": cannot assign it");
}

Status Consumer::Unassign(const std::string& topic, int32_t partition) {
  const PartitionListHandle list = OnePartition(topic, partition, 0);
  return FromError(api()->rd_kafka_incremental_unassign(handle(), list.get()),
                   Describe(topic, partition) + ": cannot unassign it");
}

Status Consumer::Seek(const std::string& topic, int32_t partition, int64_t offset) {
  // The answer comes from librdkafka's own thread, not from a broker.
  constexpr int kAnswerTimeoutMs = 5000;
  const PartitionListHandle list = OnePartition(topic, partition, offset);
  const std::string what = Describe(topic, partition) + ": cannot seek";
  Status status =
      FromError(api()->rd_kafka_seek_partitions(handle(), list.get(), kAnswerTimeoutMs), what);
  if (!status.ok() || list->elems[0].err == 0) {
    return status;
  }
  return Status::Kafka(list->elems[0].err,
                       what + ": " + api()->rd_kafka_err2str(list->elems[0].err));
}

int64_t Consumer::LastKnownHigh(const std::string& topic, int32_t partition) {
  int64_t low = -1;
  int64_t high = -1;
  api()->rd_kafka_get_watermark_offsets(handle(), topic.c_str(), partition, &low, &high);
  return high;
}

// Without it, an offset query cannot tell a missing partition from brokers that do not answer.
Status Consumer::CheckPartition(const std::string& topic, int32_t partition,
                                std::chrono::milliseconds timeout) {
  const std::string what = Describe(topic, partition) + ": cannot read the watermarks";
  const TopicHandle opened(api(), api()->rd_kafka_topic_new(handle(), topic.c_str(), nullptr));
  if (!opened) {
    return Status::Invalid("'" + topic + "' cannot be the name of a topic");
  }
  const rd_kafka_metadata_t* answer = nullptr;
  const int code =
      api()->rd_kafka_metadata(handle(), 0, opened.get(), &answer, ToMilliseconds(timeout));
  if (code != 0) {
    return FromCode(code, what);
  }
  const MetadataHandle metadata(api(), answer);
  const rd_kafka_metadata_topic_t& found = metadata->topics[0];
  if (found.err != 0 || partition >= found.partition_cnt) {
    return FromCode(found.err != 0 ? found.err : kafka_error::kUnknownPartition, what);
  }
  return Status::Ok();
}

struct Consumer::OffsetQuery {
  QueueHandle queue;  // Its answer comes here.
};

Result<Consumer::OffsetQuery> Consumer::StartQuery(const std::string& topic, int32_t partition,
                                                   int64_t which, int isolation_level,
                                                   std::chrono::milliseconds timeout) {
  std::array<char, kErrorTextSize> text{};
  const AdminOptionsHandle options(api(),
                                   api()->rd_kafka_AdminOptions_new(handle(), kAdminOpListOffsets));
  api()->rd_kafka_AdminOptions_set_request_timeout(options.get(), ToMilliseconds(timeout),
                                                   text.data(), text.size());
  Status status =
      FromError(api()->rd_kafka_AdminOptions_set_isolation_level(options.get(), isolation_level),
                Describe(topic, partition) + ": cannot ask for offsets");
  if (!status.ok()) {
    return status;
  }
  OffsetQuery query{QueueHandle(api(), api()->rd_kafka_queue_new(handle()))};
  const PartitionListHandle list = OnePartition(topic, partition, which);
  api()->rd_kafka_ListOffsets(handle(), list.get(), options.get(), query.queue.get());
  return query;
}

Result<int64_t> Consumer::FinishQuery(const OffsetQuery& query, std::chrono::milliseconds timeout,
                                      const std::string& what) {
  const EventHandle event(api(),
                          api()->rd_kafka_queue_poll(query.queue.get(), ToMilliseconds(timeout)));
  if (!event) {
    return FromCode(kafka_error::kTimedOut, what);
  }
  if (const int code = api()->rd_kafka_event_error(event.get()); code != 0) {
    return FromCode(code, what);
  }
  size_t count = 0;
  const auto* infos = api()->rd_kafka_ListOffsets_result_infos(
      api()->rd_kafka_event_ListOffsets_result(event.get()), &count);
  const auto* answer = api()->rd_kafka_ListOffsetsResultInfo_topic_partition(infos[0]);
  if (answer->err != 0) {
    return FromCode(answer->err, what);
  }
  return answer->offset;
}

Result<LogBounds> Consumer::QueryBounds(const std::string& topic, int32_t partition,
                                        std::chrono::milliseconds timeout) {
  struct Wanted {
    int64_t which;
    int isolation_level;
    int64_t LogBounds::* bound;
  };
  const std::array<Wanted, 3> all = {{
      {kOffsetEarliest, kReadUncommitted, &LogBounds::low},
      {kOffsetLatest, kReadUncommitted, &LogBounds::high},
      {kOffsetLatest, read_committed_ ? kReadCommitted : kReadUncommitted, &LogBounds::last_stable},
  }};
  Status status = CheckPartition(topic, partition, timeout);
  if (!status.ok()) {
    return status;
  }
  std::vector<OffsetQuery> queries;
  for (const Wanted& wanted : all) {
    Result<OffsetQuery> query =
        StartQuery(topic, partition, wanted.which, wanted.isolation_level, timeout);
    if (!query.ok()) {
      return query.status();
    }
    queries.push_back(std::move(query.value()));
  }
  LogBounds bounds;
  for (size_t i = 0; i < all.size(); ++i) {
    const Result<int64_t> offset = FinishQuery(
        queries[i], timeout, Describe(topic, partition) + ": cannot read the watermarks");
    if (!offset.ok()) {
      return offset.status();
    }
    bounds.*all.at(i).bound = offset.value();
  }
  return bounds;
}

}  // namespace sabot
