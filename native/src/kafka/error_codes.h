// rd_kafka_resp_err_t, as far as it is looked at here.
#pragma once

namespace sabot::kafka_error {

inline constexpr int kDestroyed = -197;         // _DESTROY
inline constexpr int kTransport = -195;         // _TRANSPORT
inline constexpr int kResolve = -193;           // _RESOLVE
inline constexpr int kPartitionEof = -191;      // _PARTITION_EOF
inline constexpr int kAllBrokersDown = -187;    // _ALL_BROKERS_DOWN
inline constexpr int kInvalidArgument = -186;   // _INVALID_ARG
inline constexpr int kTimedOut = -185;          // _TIMED_OUT
inline constexpr int kQueueFull = -184;         // _QUEUE_FULL
inline constexpr int kSsl = -181;               // _SSL
inline constexpr int kUnknownPartition = -190;  // _UNKNOWN_PARTITION
inline constexpr int kState = -172;             // _STATE

// Whether the client gets over it by itself: connections, elections, coordinators on the move.
bool IsTransient(int code);

}  // namespace sabot::kafka_error
