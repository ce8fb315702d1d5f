// Outcome of what can fail inside the core; becomes a Python error in one place, _native.pyx.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>

namespace sabot {

enum class StatusCode : int {
  kOk = 0,
  kInvalid,            // An option or a schema cannot work.
  kUnavailable,        // librdkafka cannot be loaded.
  kKafka,              // The client or the broker reported `kafka_code`.
  kBrokerUnavailable,  // No broker answered in time.
  kDecode,             // The record at `offset` does not fit the schema.
  kOutOfMemory,
};

// Why one record does not decode.
struct DecodeFailure {
  std::string field;   // Path, "$" for the whole value.
  std::string reason;  // As docs/json.md words it.
  // Nothing is wrong, but there is a field that the schema is to learn: see UnknownFields::kEvolve.
  bool is_new_field = false;
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // Ok.

  static Status Ok() { return {}; }
  static Status Invalid(std::string message) {
    return Status(StatusCode::kInvalid, std::move(message));
  }
  static Status Unavailable(std::string message) {
    return Status(StatusCode::kUnavailable, std::move(message));
  }
  static Status BrokerUnavailable(std::string message, int kafka_code) {
    Status status(StatusCode::kBrokerUnavailable, std::move(message));
    status.detail_->kafka_code = kafka_code;
    return status;
  }
  static Status Kafka(int kafka_code, std::string message) {
    Status status(StatusCode::kKafka, std::move(message));
    status.detail_->kafka_code = kafka_code;
    return status;
  }
  static Status Decode(int64_t offset, DecodeFailure failure) {
    Status status(StatusCode::kDecode, {});
    status.detail_->offset = offset;
    status.detail_->failure = std::move(failure);
    return status;
  }
  static Status OutOfMemory() { return Status(StatusCode::kOutOfMemory, "out of memory"); }

  bool ok() const { return !detail_; }
  StatusCode code() const { return detail_ ? detail_->code : StatusCode::kOk; }
  const std::string& message() const { return detail().message; }
  int kafka_code() const { return detail().kafka_code; }
  int64_t offset() const { return detail().offset; }
  const std::string& field() const { return detail().failure.field; }
  const std::string& reason() const { return detail().failure.reason; }
  bool is_new_field() const { return detail().failure.is_new_field; }

 private:
  struct Detail {
    StatusCode code = StatusCode::kOk;
    std::string message;
    int kafka_code = 0;
    int64_t offset = -1;
    DecodeFailure failure;
  };

  Status(StatusCode code, std::string message) : detail_(std::make_shared<Detail>()) {
    detail_->code = code;
    detail_->message = std::move(message);
  }
  const Detail& detail() const {
    static const Detail kNone;
    return detail_ ? *detail_ : kNone;
  }

  std::shared_ptr<Detail> detail_;  // Null is Ok, so that success costs nothing.
};

// A value, or why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  // Cython declares before it assigns.
  Result() : outcome_(Status::Invalid("there is no result")) {}
  Result(T value) : outcome_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : outcome_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return std::holds_alternative<T>(outcome_); }
  Status status() const { return ok() ? Status::Ok() : std::get<Status>(outcome_); }
  T& value() { return std::get<T>(outcome_); }
  const T& value() const { return std::get<T>(outcome_); }

 private:
  std::variant<Status, T> outcome_;
};

}  // namespace sabot
