#include "kafka/client.h"

#include <array>
#include <iterator>
#include <utility>

#include "kafka/error_codes.h"

namespace sabot {
namespace {

constexpr size_t kErrorTextSize = 512;

void Add(std::deque<ClientError>* errors, ClientError error) {
  errors->push_back(std::move(error));
  if (errors->size() > Client::kMostErrors) {
    errors->pop_front();
  }
}

bool IsTimeout(int code) {
  return code == kafka_error::kTimedOut || code == kafka_error::kTransport ||
         code == kafka_error::kAllBrokersDown || code == kafka_error::kResolve;
}

}  // namespace

Status Client::Start(int type, const Settings& settings, ErrorCallback on_error) {
  std::array<char, kErrorTextSize> text{};
  ConfHandle conf(api_, api_->rd_kafka_conf_new());
  for (const auto& [name, value] : settings) {
    constexpr int kConfOk = 0;
    if (api_->rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), text.data(),
                                text.size()) != kConfOk) {
      return Status::Invalid("setting '" + name + "': " + text.data());
    }
  }
  // Errors and statistics are noted as they come, on librdkafka's background thread: in a queue
  // that somebody has to serve they would pile up while the application is busy with something
  // else. Log lines are few, and events only in a queue of their own. Without the last of the
  // events, for which nobody waits, librdkafka takes no bearer token.
  api_->rd_kafka_conf_set_events(conf.get(), kEventError | kEventLog | kEventStats |
                                                 kEventTokenRefresh |
                                                 (type == kRdKafkaProducer ? kEventDelivery : 0));
  api_->rd_kafka_conf_set_background_event_cb(conf.get(), OnEvent);
  api_->rd_kafka_conf_set_opaque(conf.get(), this);
  if (on_error != nullptr) {
    api_->rd_kafka_conf_set_error_cb(conf.get(), on_error);
  }
  api_->rd_kafka_conf_set(conf.get(), "log.queue", "true", text.data(), text.size());
  rd_kafka_t* client = api_->rd_kafka_new(type, conf.get(), text.data(), text.size());
  if (client == nullptr) {
    return Status::Invalid("librdkafka refuses the settings: " + std::string(text.data()));
  }
  // The client owns its configuration now.
  static_cast<void>(conf.release());
  handle_ = ClientHandle(client, ClientDeleter{api_});
  log_queue_ = QueueHandle(api_, api_->rd_kafka_queue_new(client));
  api_->rd_kafka_set_log_queue(client, log_queue_.get());
  const QueueHandle background(api_, api_->rd_kafka_queue_get_background(client));
  const auto forward = [&](rd_kafka_queue_t* queue) {
    const QueueHandle owned(api_, queue);
    api_->rd_kafka_queue_forward(queue, background.get());
  };
  forward(api_->rd_kafka_queue_get_main(client));
  if (type == kRdKafkaConsumer) {
    // Only the group's errors come to this one. No group is joined, so they stop nothing.
    forward(api_->rd_kafka_queue_get_consumer(client));
  }
  return Status::Ok();
}

void Client::Stop() {
  log_queue_.reset();
  handle_.reset();
}

Status Client::FromError(rd_kafka_error_t* error, const std::string& what) {
  if (error == nullptr) {
    return Status::Ok();
  }
  const ErrorHandle owned(api_, error);
  return Status::Kafka(api_->rd_kafka_error_code(error),
                       what + ": " + api_->rd_kafka_error_string(error));
}

Status Client::FromCode(int code, const std::string& what) {
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

Status Client::SetToken(const std::string& token, std::chrono::milliseconds expires_at) {
  std::array<char, kErrorTextSize> text{};
  const int code = api_->rd_kafka_oauthbearer_set_token(
      handle_.get(), token.c_str(), expires_at.count(), "", nullptr, 0, text.data(), text.size());
  return code == 0 ? Status::Ok()
                   : Status::Invalid("librdkafka refuses the token: " + std::string(text.data()));
}

void Client::OnEvent(rd_kafka_t* /*client*/, rd_kafka_event_t* event, void* opaque) {
  auto* self = static_cast<Client*>(opaque);
  const Api& api = self->api_;
  EventHandle owned(api, event);
  if (api->rd_kafka_event_type(event) == kEventDelivery) {
    self->OnDelivery(std::move(owned));
    return;
  }
  const std::lock_guard lock(self->mutex_);
  if (api->rd_kafka_event_type(event) == kEventStats) {
    self->statistics_ = api->rd_kafka_event_stats(event);
  } else if (const int code = api->rd_kafka_event_error(event); code != 0) {
    ClientError error{code, api->rd_kafka_event_error_string(event)};
    // With TLS 1.3 a broker that refuses the client's certificate looks like one that hangs up.
    if (error.reason.find("SSL alert number") != std::string::npos) {
      error.code = kafka_error::kSsl;
    }
    // That none is up repeats what was told of each.
    if (code != kafka_error::kAllBrokersDown || self->errors_.empty()) {
      Add(&self->errors_, error);
    }
    Add(&self->new_errors_, std::move(error));
  }
}

std::vector<ClientError> Client::Errors() {
  const std::lock_guard lock(mutex_);
  return {errors_.begin(), errors_.end()};
}

std::vector<ClientError> Client::TakeErrors() {
  const std::lock_guard lock(mutex_);
  std::vector<ClientError> taken(std::make_move_iterator(new_errors_.begin()),
                                 std::make_move_iterator(new_errors_.end()));
  new_errors_.clear();
  return taken;
}

std::vector<LogLine> Client::TakeLog() {
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

std::string Client::TakeStatistics() {
  const std::lock_guard lock(mutex_);
  return std::exchange(statistics_, {});
}

}  // namespace sabot
