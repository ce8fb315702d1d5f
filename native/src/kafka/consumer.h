// A connection to the brokers that opens partition queues.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kafka/client.h"
#include "kafka/handles.h"
#include "kafka/librdkafka_api.h"
#include "status.h"

namespace sabot {

struct LogBounds {
  int64_t low = -1;
  int64_t high = -1;
  int64_t last_stable = -1;
};

class Consumer;

// Tells that a partition's queue may hold something. Owned by whoever reads the queue.
struct QueueNews {
  Consumer* consumer = nullptr;
  std::atomic<bool> pending{true};  // Until somebody has looked.
};

// Several partitions share one. Whoever reads a partition holds a reference, so that the client
// outlives its queues.
class Consumer final : public Client {
 public:
  static Result<std::shared_ptr<Consumer>> Make(const Api& api, const Settings& settings);
  ~Consumer() override { Stop(); }

  // The partition's own queue: its records never pass the consumer's common one. Call it before
  // `Assign`, or first records go astray.
  Result<QueueHandle> OpenQueue(const std::string& topic, int32_t partition);
  // From now on `news` is told when the queue, which was empty, is not any more; null: nobody is.
  // It outlives the queue's fetching.
  void Watch(rd_kafka_queue_t* queue, QueueNews* news);
  // How often any watched queue has told news, or somebody has called `Wake`.
  uint64_t news_count();
  // Waits until `news_count` differs from `seen`, or the time is over.
  void WaitForNews(uint64_t seen, std::chrono::milliseconds timeout);
  void Wake();
  // Takes records from a partition's queue into `out`. It waits until there are `count`, or the
  // time is over: so wait for one, and then take what is there with a time-out of 0. `error` gets
  // what the client reported instead of records, for example that the topic does not exist.
  size_t Fetch(rd_kafka_queue_t* queue, std::chrono::milliseconds timeout, rd_kafka_message_t** out,
               size_t count, ClientError* error);
  Status Assign(const std::string& topic, int32_t partition, int64_t offset, int32_t leader_epoch);
  Status Unassign(const std::string& topic, int32_t partition);
  // Fetches from `offset` next. When it returns, every record fetched before is outdated and its
  // queue drops it. kState: the partition is not being fetched (yet).
  Status Seek(const std::string& topic, int32_t partition, int64_t offset);

  // The high watermark that came with the newest records; negative before the first. Asks nobody.
  int64_t LastKnownHigh(const std::string& topic, int32_t partition);
  Result<LogBounds> QueryBounds(const std::string& topic, int32_t partition,
                                std::chrono::milliseconds timeout);

 private:
  using Client::Client;

  PartitionListHandle OnePartition(const std::string& topic, int32_t partition, int64_t offset);
  Status CheckPartition(const std::string& topic, int32_t partition,
                        std::chrono::milliseconds timeout);
  // One request for an offset of a partition, under way.
  struct OffsetQuery;
  Result<OffsetQuery> StartQuery(const std::string& topic, int32_t partition, int64_t which,
                                 int isolation_level, std::chrono::milliseconds timeout);
  Result<int64_t> FinishQuery(const OffsetQuery& query, std::chrono::milliseconds timeout,
                              const std::string& what);

  bool read_committed_ = true;
  std::mutex news_mutex_;
  std::condition_variable news_changed_;
  uint64_t news_count_ = 0;  // Guarded by news_mutex_.
};

}  // namespace sabot
