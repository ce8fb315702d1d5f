// What consumers and producers share: the handle of librdkafka, and what it says of itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kafka/handles.h"
#include "kafka/librdkafka_api.h"
#include "status.h"

namespace sabot {

// Something that librdkafka said about its connections; it goes on by itself after most of it.
struct ClientError {
  int code = 0;
  std::string reason;
};

struct LogLine {
  int level = 0;  // As syslog's: 3 is an error, 7 is debug.
  std::string text;
};

// Owns the handle. Thread safe.
class Client {
 public:
  using Settings = std::map<std::string, std::string>;

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const Api& api() const { return api_; }

  // What the brokers are shown where the mechanism is OAUTHBEARER; connections wait for the first.
  Status SetToken(const std::string& token, std::chrono::milliseconds expires_at);

  // The newest errors of the connections, oldest first; at most kMostErrors.
  std::vector<ClientError> Errors();
  // Errors of the connections since the last call; at most kMostErrors, older ones are dropped.
  std::vector<ClientError> TakeErrors();
  // Log lines since the last call.
  std::vector<LogLine> TakeLog();
  // The newest statistics, librdkafka's JSON; empty if there are none since the last call.
  std::string TakeStatistics();

  static constexpr size_t kMostErrors = 32;

 protected:
  explicit Client(Api api) : api_(std::move(api)) {}
  virtual ~Client() = default;

  // Takes up a kEventDelivery, on librdkafka's background thread.
  virtual void OnDelivery(EventHandle /*event*/) {}

  // Makes the handle. `on_error` gets what comes through queues that a thread serves by itself.
  Status Start(int type, const Settings& settings, ErrorCallback on_error);
  // Frees the handle, whose threads use this object until then: the first thing that the destructor
  // of a derived class does.
  void Stop();
  rd_kafka_t* handle() const { return handle_.get(); }

  // `what` says what failed and where.
  Status FromError(rd_kafka_error_t* error, const std::string& what);
  Status FromCode(int code, const std::string& what);

 private:
  // Notes what the client reports, on librdkafka's background thread.
  static void OnEvent(rd_kafka_t* client, rd_kafka_event_t* event, void* opaque);

  const Api api_;
  std::mutex mutex_;
  std::deque<ClientError> errors_;      // Guarded by mutex_.
  std::deque<ClientError> new_errors_;  // Those not taken yet. Guarded by mutex_.
  std::string statistics_;              // Guarded by mutex_.
  // Its threads use what stands above until it is freed, and what stands below is freed before it.
  ClientHandle handle_{nullptr, ClientDeleter{nullptr}};
  QueueHandle log_queue_;
};

}  // namespace sabot
