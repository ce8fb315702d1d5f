#include "kafka/error_codes.h"

#include <algorithm>
#include <array>

namespace sabot::kafka_error {

bool IsTransient(int code) {
  // `_RETRIABLE_CODES` in sabot_ray/errors.py says the same; a test compares them.
  static constexpr std::array kTransient = {
      kTransport, kResolve, kAllBrokersDown, kTimedOut,
      -192,  // _MSG_TIMED_OUT
      -180,  // _WAIT_COORD
      -166,  // _TIMED_OUT_QUEUE
      -153,  // _RETRY
      -137,  // _DESTROY_BROKER
      5,     // LEADER_NOT_AVAILABLE
      6,     // NOT_LEADER_FOR_PARTITION
      7,     // REQUEST_TIMED_OUT
      8,     // BROKER_NOT_AVAILABLE
      9,     // REPLICA_NOT_AVAILABLE
      13,    // NETWORK_EXCEPTION
      14,    // COORDINATOR_LOAD_IN_PROGRESS
      15,    // COORDINATOR_NOT_AVAILABLE
      16,    // NOT_COORDINATOR
      27,    // REBALANCE_IN_PROGRESS
      41,    // NOT_CONTROLLER
      51,    // CONCURRENT_TRANSACTIONS
      56,    // KAFKA_STORAGE_ERROR
      70,    // FETCH_SESSION_ID_NOT_FOUND
      71,    // INVALID_FETCH_SESSION_EPOCH
      72,    // LISTENER_NOT_FOUND
      74,    // FENCED_LEADER_EPOCH
      75,    // UNKNOWN_LEADER_EPOCH
      78,    // OFFSET_NOT_AVAILABLE
      80,    // PREFERRED_LEADER_NOT_AVAILABLE
      89,    // THROTTLING_QUOTA_EXCEEDED
  };
  return std::find(kTransient.begin(), kTransient.end(), code) != kTransient.end();
}

}  // namespace sabot::kafka_error
