#include "kafka/consumer.h"

#include <array>
#include <iterator>
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

void Add(std::deque<ClientError>* errors, ClientError error) {
  errors->push_back(std::move(error));
  if (errors->size() > Consumer::kMostErrors) {
    errors->pop_front();
  }
}

bool IsTimeout(int code) {
  return code == kafka_error::kTimedOut || code == kafka_error::kTransport ||
         code == kafka_error::kAllBrokersDown || code == kafka_error::kResolve;
}

}  // namespace

Result<std::shared_ptr<Consumer>> Consumer::Make(const Api& api, const Settings& settings) {
  std::shared_ptr<Consumer> consumer(new Consumer(api));
  std::array<char, kErrorTextSize> text{};
  ConfHandle conf(api, api->rd_kafka_conf_new());
  for (const auto& [name, value] : settings) {
    constexpr int kConfOk = 0;
    if (api->rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), text.data(), text.size()) !=
        kConfOk) {
      return Status::Invalid("setting '" + name + "': " + text.data());
    }
    if (name == "isolation.level") {
      consumer->read_committed_ = value == "read_committed";
    }
  }
  // Errors and statistics are noted as they come, on librdkafka's background thread: in a queue
  // that somebody has to serve they would pile up while the application is busy with something
  // else. Log lines are few, and events only in a queue of their own. Without the last of the
  // events, for which nobody waits, librdkafka takes no bearer token.
  api->rd_kafka_conf_set_events(conf.get(),
                                kEventError | kEventLog | kEventStats | kEventTokenRefresh);
  api->rd_kafka_conf_set_background_event_cb(conf.get(), OnEvent);
  api->rd_kafka_conf_set_opaque(conf.get(), consumer.get());
  // But errors of a whole partition come through its own queue, and from there only to a callback,
  // on the thread that serves the queue.
  api->rd_kafka_conf_set_error_cb(conf.get(), OnError);
  api->rd_kafka_conf_set(conf.get(), "log.queue", "true", text.data(), text.size());
  rd_kafka_t* client = api->rd_kafka_new(kRdKafkaConsumer, conf.get(), text.data(), text.size());
  if (client == nullptr) {
    return Status::Invalid("librdkafka refuses the settings: " + std::string(text.data()));
  }
  // The client owns its configuration now.
  static_cast<void>(conf.release());
  consumer->client_ = ClientHandle(client, ClientDeleter{api});
  consumer->log_queue_ = QueueHandle(api, api->rd_kafka_queue_new(client));
  api->rd_kafka_set_log_queue(client, consumer->log_queue_.get());
  const QueueHandle background(api, api->rd_kafka_queue_get_background(client));
  // Only the group's errors come to the consumer's queue. No group is joined, so they stop nothing.
  for (rd_kafka_queue_t* queue :
       {api->rd_kafka_queue_get_main(client), api->rd_kafka_queue_get_consumer(client)}) {
    const QueueHandle owned(api, queue);
    api->rd_kafka_queue_forward(queue, background.get());
  }
  return consumer;
}

PartitionListHandle Consumer::OnePartition(const std::string& topic, int32_t partition,
                                           int64_t offset) {
  PartitionListHandle list(api_, api_->rd_kafka_topic_partition_list_new(1));
  api_->rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition)->offset = offset;
  return list;
}

Status Consumer::FromError(rd_kafka_error_t* error, const std::string& what) {
  if (error == nullptr) {
    return Status::Ok();
  }
  const ErrorHandle owned(api_, error);
  return Status::Kafka(api_->rd_kafka_error_code(error),
                       what + ": " + api_->rd_kafka_error_string(error));
}

Status Consumer::FromCode(int code, const std::string& what) {
  if (code == 0) {
    return Status::Ok();
  }
  if (!IsTimeout(code)) {
    return Status::Kafka(code, what + ": " + api_->rd_kafka_err2str(code));
  }
  // Why nothing answers is what the connections reported meanwhile.
  std::string message = what + ": no broker answered in time";
  const std::lock_guard lock(mutex_);
  if (!errors_.empty()) {
    code = errors_.back().code;
    message += "; the client's last error: " + errors_.back().reason;
  }
  return Status::BrokerUnavailable(std::move(message), code);
}

Result<QueueHandle> Consumer::OpenQueue(const std::string& topic, int32_t partition) {
  QueueHandle queue(api_,
                    api_->rd_kafka_queue_get_partition(client_.get(), topic.c_str(), partition));
  if (!queue) {
    return Status::Invalid(Describe(topic, partition) + ": librdkafka gives no queue for it");
  }
  api_->rd_kafka_queue_forward(queue.get(), nullptr);
  return queue;
}

void Consumer::Watch(rd_kafka_queue_t* queue, QueueNews* news) {
  api_->rd_kafka_queue_cb_event_enable(queue, news != nullptr ? OnNews : nullptr, news);
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
      api_->rd_kafka_consume_batch_queue(queue, ToMilliseconds(timeout), out, count);
  reported_error = nullptr;
  return fetched > 0 ? static_cast<size_t>(fetched) : 0;
}

Status Consumer::Assign(const std::string& topic, int32_t partition, int64_t offset,
                        int32_t leader_epoch) {
  const PartitionListHandle list = OnePartition(topic, partition, offset);
  api_->rd_kafka_topic_partition_set_leader_epoch(&list->elems[0], leader_epoch);
  return FromError(api_->rd_kafka_incremental_assign(client_.get(), list.get()),
                   Describe(topic, partition) + ": cannot assign it");
}

Status Consumer::Unassign(const std::string& topic, int32_t partition) {
  const PartitionListHandle list = OnePartition(topic, partition, 0);
  return FromError(api_->rd_kafka_incremental_unassign(client_.get(), list.get()),
                   Describe(topic, partition) + ": cannot unassign it");
}

Status Consumer::Seek(const std::string& topic, int32_t partition, int64_t offset) {
  // The answer comes from librdkafka's own thread, not from a broker.
  constexpr int kAnswerTimeoutMs = 5000;
  const PartitionListHandle list = OnePartition(topic, partition, offset);
  const std::string what = Describe(topic, partition) + ": cannot seek";
  Status status =
      FromError(api_->rd_kafka_seek_partitions(client_.get(), list.get(), kAnswerTimeoutMs), what);
  if (!status.ok() || list->elems[0].err == 0) {
    return status;
  }
  return Status::Kafka(list->elems[0].err,
                       what + ": " + api_->rd_kafka_err2str(list->elems[0].err));
}

int64_t Consumer::LastKnownHigh(const std::string& topic, int32_t partition) {
  int64_t low = -1;
  int64_t high = -1;
  api_->rd_kafka_get_watermark_offsets(client_.get(), topic.c_str(), partition, &low, &high);
  return high;
}

// Without it, an offset query cannot tell a missing partition from brokers that do not answer.
Status Consumer::CheckPartition(const std::string& topic, int32_t partition,
                                std::chrono::milliseconds timeout) {
  const std::string what = Describe(topic, partition) + ": cannot read the watermarks";
  const TopicHandle handle(api_, api_->rd_kafka_topic_new(client_.get(), topic.c_str(), nullptr));
  if (!handle) {
    return Status::Invalid("'" + topic + "' cannot be the name of a topic");
  }
  const rd_kafka_metadata_t* answer = nullptr;
  const int code =
      api_->rd_kafka_metadata(client_.get(), 0, handle.get(), &answer, ToMilliseconds(timeout));
  if (code != 0) {
    return FromCode(code, what);
  }
  const MetadataHandle metadata(api_, answer);
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
  const AdminOptionsHandle options(
      api_, api_->rd_kafka_AdminOptions_new(client_.get(), kAdminOpListOffsets));
  api_->rd_kafka_AdminOptions_set_request_timeout(options.get(), ToMilliseconds(timeout),
                                                  text.data(), text.size());
  Status status =
      FromError(api_->rd_kafka_AdminOptions_set_isolation_level(options.get(), isolation_level),
                Describe(topic, partition) + ": cannot ask for offsets");
  if (!status.ok()) {
    return status;
  }
  OffsetQuery query{QueueHandle(api_, api_->rd_kafka_queue_new(client_.get()))};
  const PartitionListHandle list = OnePartition(topic, partition, which);
  api_->rd_kafka_ListOffsets(client_.get(), list.get(), options.get(), query.queue.get());
  return query;
}

Result<int64_t> Consumer::FinishQuery(const OffsetQuery& query, std::chrono::milliseconds timeout,
                                      const std::string& what) {
  const EventHandle event(api_,
                          api_->rd_kafka_queue_poll(query.queue.get(), ToMilliseconds(timeout)));
  if (!event) {
    return FromCode(kafka_error::kTimedOut, what);
  }
  if (const int code = api_->rd_kafka_event_error(event.get()); code != 0) {
    return FromCode(code, what);
  }
  size_t count = 0;
  const auto* infos = api_->rd_kafka_ListOffsets_result_infos(
      api_->rd_kafka_event_ListOffsets_result(event.get()), &count);
  const auto* answer = api_->rd_kafka_ListOffsetsResultInfo_topic_partition(infos[0]);
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

Status Consumer::SetToken(const std::string& token, std::chrono::milliseconds expires_at) {
  std::array<char, kErrorTextSize> text{};
  const int code = api_->rd_kafka_oauthbearer_set_token(
      client_.get(), token.c_str(), expires_at.count(), "", nullptr, 0, text.data(), text.size());
  return code == 0 ? Status::Ok()
                   : Status::Invalid("librdkafka refuses the token: " + std::string(text.data()));
}

void Consumer::OnEvent(rd_kafka_t* /*client*/, rd_kafka_event_t* event, void* opaque) {
  auto* consumer = static_cast<Consumer*>(opaque);
  const Api& api = consumer->api_;
  const EventHandle owned(api, event);
  const std::lock_guard lock(consumer->mutex_);
  if (api->rd_kafka_event_type(event) == kEventStats) {
    consumer->statistics_ = api->rd_kafka_event_stats(event);
  } else if (const int code = api->rd_kafka_event_error(event); code != 0) {
    ClientError error{code, api->rd_kafka_event_error_string(event)};
    // With TLS 1.3 a broker that refuses the client's certificate looks like one that hangs up.
    if (error.reason.find("SSL alert number") != std::string::npos) {
      error.code = kafka_error::kSsl;
    }
    // That none is up repeats what was told of each.
    if (code != kafka_error::kAllBrokersDown || consumer->errors_.empty()) {
      Add(&consumer->errors_, error);
    }
    Add(&consumer->new_errors_, std::move(error));
  }
}

std::vector<ClientError> Consumer::Errors() {
  const std::lock_guard lock(mutex_);
  return {errors_.begin(), errors_.end()};
}

std::vector<ClientError> Consumer::TakeErrors() {
  const std::lock_guard lock(mutex_);
  std::vector<ClientError> taken(std::make_move_iterator(new_errors_.begin()),
                                 std::make_move_iterator(new_errors_.end()));
  new_errors_.clear();
  return taken;
}

std::vector<LogLine> Consumer::TakeLog() {
  std::vector<LogLine> taken;
  while (rd_kafka_event_t* polled = api_->rd_kafka_queue_poll(log_queue_.get(), 0)) {
    const EventHandle event(api_, polled);
    LogLine line;
    const char* facility = nullptr;
    const char* text = nullptr;
    if (api_->rd_kafka_event_log(polled, &facility, &text, &line.level) == 0) {
      line.text = std::string(facility) + ": " + text;
      taken.push_back(std::move(line));
    }
  }
  return taken;
}

std::string Consumer::TakeStatistics() {
  const std::lock_guard lock(mutex_);
  return std::exchange(statistics_, {});
}

}  // namespace sabot
