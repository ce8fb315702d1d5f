#include "partition_pipeline.h"

#include <atomic>
#include <cstdlib>
#include <thread>

#include "arrow_text.h"
#include "kafka/error_codes.h"
#include "mock_cluster.h"
#include "testing.h"

namespace sabot {
namespace {

using std::chrono::milliseconds;
using testing::ColumnText;
using testing::MakeField;
using testing::MockCluster;
using testing::TheApi;

constexpr milliseconds kLong(10'000);

// All tests run with one decoding thread, and once more with as many as DECODE_THREADS says.
const std::shared_ptr<DecodeThreads>& Threads() {
  static const std::shared_ptr<DecodeThreads> threads = []() -> std::shared_ptr<DecodeThreads> {
    const char* count = std::getenv("DECODE_THREADS");
    return count != nullptr ? DecodeThreads::Start(std::strtoul(count, nullptr, 10)).value()
                            : nullptr;
  }();
  return threads;
}

// A topic "t" whose records are {"n":0}, {"n":1}, ...
class Fixture {
 public:
  explicit Fixture(int records, int partitions = 1, const Api& api = TheApi()) : cluster(TheApi()) {
    cluster.CreateTopic("t", partitions);
    for (int i = 0; i < records; ++i) {
      cluster.Produce("t", 0, "{\"n\":" + std::to_string(i) + "}");
    }
    cluster.Flush();
    auto made = Consumer::Make(api, {{"bootstrap.servers", cluster.bootstrap_servers()},
                                     {"group.id", "g"},
                                     {"auto.offset.reset", "error"},
                                     {"enable.auto.commit", "false"},
                                     {"enable.auto.offset.store", "false"},
                                     {"enable.partition.eof", "true"},
                                     {"fetch.wait.max.ms", "50"}});
    if (!made.ok()) {
      testing::Fail(__FILE__, __LINE__) << made.status().message() << '\n';
    }
    consumer = made.value();
  }

  std::unique_ptr<PartitionPipeline> Open(PartitionOptions options) {
    options.topic = "t";
    options.columns = {"n", "_kafka_offset"};
    options.value_codec.format = Codec::Format::kJson;
    options.value_codec.fields = {MakeField("n", TypeId::kInt64)};
    if (Threads()) {
      options.least_part_bytes = 1;
    }
    auto opened = PartitionPipeline::Open(consumer, std::move(options), Threads());
    if (!opened.ok()) {
      testing::Fail(__FILE__, __LINE__) << opened.status().message() << '\n';
    }
    return std::move(opened.value());
  }

  MockCluster cluster;
  std::shared_ptr<Consumer> consumer;
};

PartitionOptions Range(int64_t start, int64_t end) {
  PartitionOptions options;
  options.start_offset = start;
  options.end_offset = end;
  return options;
}

// Values and offsets of rows.
struct Rows {
  int64_t count = 0;
  std::string values;
  std::string offsets;

  void Add(const ArrowArray& batch) {
    const std::string gap = count == 0 || batch.length == 0 ? "" : " ";
    values += gap + ColumnText(MakeField("", TypeId::kInt64), *batch.children[0]);
    offsets += gap + ColumnText(MakeField("", TypeId::kInt64), *batch.children[1]);
    count += batch.length;
  }
  std::string Text() const { return values + " @ " + offsets; }
};

std::string ErrorText(const Status& status) {
  return status.code() == StatusCode::kDecode
             ? std::to_string(status.offset()) + " " + status.field() + ": " + status.reason()
             : std::to_string(status.kafka_code()) + " " + status.message();
}

// The next batch as text, or its error.
std::string Poll(PartitionPipeline* pipeline, int64_t max_rows = 1000,
                 milliseconds timeout = kLong) {
  ArrowArray batch;
  const Status status = pipeline->Poll(max_rows, timeout, &batch);
  if (!status.ok()) {
    return ErrorText(status);
  }
  Rows rows;
  rows.Add(batch);
  batch.release(&batch);
  return rows.Text();
}

// The next `count` rows, however many batches they come in.
std::string Read(PartitionPipeline* pipeline, int64_t count) {
  Rows rows;
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (rows.count < count && std::chrono::steady_clock::now() < deadline) {
    ArrowArray batch;
    const Status status = pipeline->Poll(count - rows.count, kLong, &batch);
    if (!status.ok()) {
      return ErrorText(status);
    }
    rows.Add(batch);
    batch.release(&batch);
  }
  return rows.Text();
}

std::string Numbers(int from, int to) {
  std::string text;
  for (int i = from; i < to; ++i) {
    text += (i == from ? "" : " ") + std::to_string(i);
  }
  return text + " @ " + text;
}

// All rows up to the end, in batches of at most `max_rows`.
int64_t CountToEnd(PartitionPipeline* pipeline, int64_t max_rows) {
  int64_t rows = 0;
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (!pipeline->done() && std::chrono::steady_clock::now() < deadline) {
    ArrowArray batch;
    const Status status = pipeline->Poll(max_rows, milliseconds(500), &batch);
    EXPECT(status.ok());
    EXPECT(batch.length <= max_rows);
    rows += batch.length;
    batch.release(&batch);
  }
  return rows;
}

TEST(PollKeepsWhatDoesNotFitForTheNextCall) {
  Fixture fixture(10);
  const auto pipeline = fixture.Open(Range(2, 9));
  EXPECT_EQ(pipeline->position(), 2);
  EXPECT_EQ(Read(pipeline.get(), 3), Numbers(2, 5));
  EXPECT_EQ(pipeline->position(), 5);
  EXPECT_EQ(Read(pipeline.get(), 3), Numbers(5, 8));
  EXPECT_EQ(Read(pipeline.get(), 1), Numbers(8, 9));
  EXPECT_EQ(pipeline->position(), 9);
  EXPECT(pipeline->done());
  EXPECT_EQ(Poll(pipeline.get(), 3), " @ ");
}

TEST(LeaderEpochIsThatOfTheRecordBeforeThePosition) {
  auto api = std::make_shared<LibrdkafkaApi>(*TheApi());
  api->rd_kafka_message_leader_epoch = [](const rd_kafka_message_t* record) {
    return static_cast<int32_t>(record->offset);
  };
  Fixture fixture(10, 1, api);
  const auto pipeline = fixture.Open(Range(2, -1));
  EXPECT_EQ(pipeline->leader_epoch(), -1);
  EXPECT_EQ(Read(pipeline.get(), 3), Numbers(2, 5));
  EXPECT_EQ(pipeline->leader_epoch(), 4);
  // The log's end comes behind the last record, and is no other place.
  EXPECT_EQ(Read(pipeline.get(), 5), Numbers(5, 10));
  EXPECT_EQ(Poll(pipeline.get(), 1, milliseconds(200)), " @ ");
  EXPECT_EQ(pipeline->leader_epoch(), 9);
  EXPECT(pipeline->Seek(3).ok());
  EXPECT_EQ(pipeline->leader_epoch(), -1);
  EXPECT_EQ(Read(pipeline.get(), 1), Numbers(3, 4));
  EXPECT_EQ(pipeline->leader_epoch(), 3);
}

TEST(StartWithAnEpochThatTheLogLacksIsATruncation) {
  Fixture fixture(10);
  PartitionOptions options = Range(2, -1);
  options.leader_epoch = 7;
  const auto pipeline = fixture.Open(options);
  EXPECT_EQ(pipeline->leader_epoch(), 7);
  const std::string error = Poll(pipeline.get());
  EXPECT_EQ(error.substr(0, 4), "-140");
  // The driver looks for these words.
  EXPECT(error.find("broker end offset is -1 (offset leader epoch") != std::string::npos);
  EXPECT_EQ(pipeline->position(), 2);
}

TEST(PollStopsAtTheByteLimit) {
  Fixture fixture(4);
  PartitionOptions options = Range(0, -1);
  options.max_batch_bytes = 8;  // {"n":0} has 7.
  options.linger = kLong;
  const auto pipeline = fixture.Open(options);
  EXPECT_EQ(Poll(pipeline.get()), Numbers(0, 2));
  EXPECT_EQ(Poll(pipeline.get()), Numbers(2, 4));
}

TEST(PollOfManyRecordsGivesEachOnce) {
  Fixture fixture(25'000);
  const auto pipeline = fixture.Open(Range(0, 25'000));
  EXPECT_EQ(CountToEnd(pipeline.get(), 700), 25'000);
  EXPECT_EQ(pipeline->Stats().records, 25'000);
}

TEST(PollFarBehindTheEndGivesFullBatches) {
  Fixture fixture(0);
  // The cluster answers a fetch with what was written at once.
  for (int i = 0; i < 6000; ++i) {
    fixture.cluster.Produce("t", 0, "{\"n\":1}");
    if (i % 100 == 99) {
      fixture.cluster.Flush();
    }
  }
  const auto pipeline = fixture.Open(Range(0, -1));
  int polls = 0;
  for (; pipeline->position() < 5000; ++polls) {
    ArrowArray batch;
    EXPECT(pipeline->Poll(1000, kLong, &batch).ok());
    batch.release(&batch);
  }
  // The first one goes out at once, and a slow moment cuts one short.
  EXPECT(polls <= 10);
  EXPECT_EQ(pipeline->Backlog(), 6000 - pipeline->position());
  pipeline->Close();
  EXPECT_EQ(pipeline->Backlog(), 0);
}

TEST(PollPastTheLastRecordGivesNothingAndStaysThere) {
  Fixture fixture(2);
  const auto pipeline = fixture.Open(Range(0, -1));
  EXPECT_EQ(Read(pipeline.get(), 2), Numbers(0, 2));
  EXPECT_EQ(Poll(pipeline.get(), 1000, milliseconds(100)), " @ ");
  EXPECT_EQ(pipeline->position(), 2);
  fixture.cluster.Produce("t", 0, "{\"n\":2}");
  fixture.cluster.Flush();
  EXPECT_EQ(Poll(pipeline.get()), Numbers(2, 3));
}

TEST(PollOfAnEmptyRangeIsDoneAtOnce) {
  Fixture fixture(2);
  const auto pipeline = fixture.Open(Range(2, 2));
  EXPECT(pipeline->done());
  EXPECT_EQ(Poll(pipeline.get()), " @ ");
  EXPECT(pipeline->Seek(1).ok());
  EXPECT_EQ(Poll(pipeline.get()), Numbers(1, 2));
}

TEST(PollBehindTheEndOfTheLogGivesOffsetOutOfRangeUntilSeek) {
  Fixture fixture(2);
  const auto pipeline = fixture.Open(Range(17, -1));
  const std::string error = Poll(pipeline.get());
  EXPECT_EQ(error.substr(0, 41), "-140 topic 't' partition 0 offset 17: fet");
  EXPECT_EQ(Poll(pipeline.get()), error);
  EXPECT(pipeline->Seek(0).ok());
  EXPECT_EQ(Read(pipeline.get(), 2), Numbers(0, 2));
}

TEST(PollOfAMissingPartitionGivesUnknownPartition) {
  Fixture fixture(2);
  PartitionOptions options = Range(0, -1);
  options.partition = 7;
  const auto pipeline = fixture.Open(options);
  const std::string error = Poll(pipeline.get());
  EXPECT_EQ(error.substr(0, 38), "-190 topic 't' partition 7 offset 0: t");
  EXPECT_EQ(Poll(pipeline.get()), error);
}

TEST(PollOfAnUndecodableRecordReturnsTheRowsBeforeItFirst) {
  Fixture fixture(2);
  fixture.cluster.Produce("t", 0, "{\"n\":\"x\"}");
  fixture.cluster.Produce("t", 0, "{\"n\":3}");
  fixture.cluster.Flush();
  const auto pipeline = fixture.Open(Range(0, 4));
  EXPECT_EQ(Read(pipeline.get(), 2), Numbers(0, 2));
  EXPECT_EQ(Poll(pipeline.get()), "2 $.n: expected an integer, found a string");
  EXPECT_EQ(Poll(pipeline.get()), "2 $.n: expected an integer, found a string");
  EXPECT_EQ(pipeline->position(), 2);
  EXPECT(pipeline->Seek(3).ok());
  EXPECT_EQ(Poll(pipeline.get()), Numbers(3, 4));
}

TEST(PollSkippingErrorsCountsThem) {
  Fixture fixture(1);
  fixture.cluster.Produce("t", 0, "no JSON");
  fixture.cluster.ProduceTombstone("t", 0);
  fixture.cluster.Produce("t", 0, "{\"n\":3,\"u\":1}");
  fixture.cluster.Flush();
  PartitionOptions options = Range(0, 4);
  options.skip_decode_errors = true;
  const auto pipeline = fixture.Open(options);
  EXPECT_EQ(Read(pipeline.get(), 3), "0 null 3 @ 0 2 3");
  const PartitionStats stats = pipeline->Stats();
  EXPECT_EQ(stats.records, 4);
  EXPECT_EQ(stats.bytes, 7 + 7 + 13);
  EXPECT_EQ(stats.tombstones, 1);
  EXPECT_EQ(stats.decode_errors, 1);
  EXPECT_EQ(stats.last_error_offset, 1);
  EXPECT_EQ(stats.last_error.reason, "malformed JSON");
  EXPECT_EQ(stats.unknown_fields.size(), 1U);
}

TEST(PollSkippingErrorsStopsAtAFieldThatTheSchemaIsToLearn) {
  Fixture fixture(1);
  fixture.cluster.Produce("t", 0, "no JSON");
  fixture.cluster.Produce("t", 0, "{\"n\":3,\"u\":1}");
  fixture.cluster.Flush();
  PartitionOptions options = Range(0, 3);
  options.skip_decode_errors = true;
  options.value_codec.unknown_fields = UnknownFields::kEvolve;
  const auto pipeline = fixture.Open(options);
  EXPECT_EQ(Read(pipeline.get(), 1), "0 @ 0");
  std::string found = Poll(pipeline.get());
  if (found == " @ ") {
    // The dropped record came by itself.
    found = Poll(pipeline.get());
  }
  EXPECT_EQ(found, "2 $.u: unknown field");
  EXPECT_EQ(Poll(pipeline.get()), "2 $.u: unknown field");
  EXPECT_EQ(pipeline->position(), 2);
  EXPECT_EQ(pipeline->Stats().decode_errors, 1);
}

TEST(PollSkippingEverythingReturnsAfterAsManyRecords) {
  Fixture fixture(0);
  for (int i = 0; i < 5000; ++i) {
    fixture.cluster.Produce("t", 0, "no JSON");
  }
  fixture.cluster.Flush();
  PartitionOptions options = Range(0, 5000);
  options.skip_decode_errors = true;
  const auto pipeline = fixture.Open(options);
  int polls = 0;
  for (; !pipeline->done(); ++polls) {
    const int64_t before = pipeline->position();
    EXPECT_EQ(Poll(pipeline.get(), 1000), " @ ");
    // Whole chunks are taken from the queue.
    EXPECT(pipeline->position() - before < (Threads() ? 4000 : 2000));
  }
  EXPECT(polls >= (Threads() ? 2 : 3));
  EXPECT_EQ(pipeline->Stats().decode_errors, 5000);
}

TEST(PollOfAnUndecodableRecordAmongManyTakesNothingBehindIt) {
  Fixture fixture(0);
  for (int i = 0; i < 3000; ++i) {
    const std::string n = i == 1900 ? "\"x\"" : std::to_string(i);
    fixture.cluster.Produce("t", 0, "{\"n\":" + n + ",\"u\":1}");
  }
  fixture.cluster.Flush();
  const auto pipeline = fixture.Open(Range(0, -1));
  EXPECT_EQ(Read(pipeline.get(), 1900), Numbers(0, 1900));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Poll(pipeline.get(), 5000), "1900 $.n: expected an integer, found a string");
  }
  const PartitionStats stats = pipeline->Stats();
  EXPECT_EQ(stats.records, 1900);
  EXPECT_EQ(stats.unknown_fields.size(), 1U);
  EXPECT_EQ(stats.unknown_fields.front().second, 1900U);
  EXPECT(pipeline->Seek(1901).ok());
  EXPECT_EQ(Read(pipeline.get(), 1099), Numbers(1901, 3000));
  const PartitionStats later = pipeline->Stats();
  EXPECT_EQ(later.unknown_fields.front().second, 2999U);
}

TEST(PollSkippingErrorsAmongManyKeepsTheOthers) {
  Fixture fixture(0);
  for (int i = 0; i < 3000; ++i) {
    // Not the first: a fetch of dropped records alone would be a batch without rows.
    if (i % 10 == 5) {
      fixture.cluster.Produce("t", 0, "no JSON");
    } else {
      fixture.cluster.Produce("t", 0, "{\"n\":" + std::to_string(i) + "}");
    }
  }
  fixture.cluster.Flush();
  PartitionOptions options = Range(0, 3000);
  options.skip_decode_errors = true;
  options.linger = kLong;
  const auto pipeline = fixture.Open(options);
  // Not one batch each: behind as many records as it may have rows, one ends where a fetch does.
  for (int part = 0; part < 3; ++part) {
    std::string wanted;
    for (int i = part * 1000; i < part * 1000 + 1000; ++i) {
      if (i % 10 != 5) {
        wanted += (wanted.empty() ? "" : " ") + std::to_string(i);
      }
    }
    EXPECT_EQ(Read(pipeline.get(), 900), (Rows{900, wanted, wanted}.Text()));
    EXPECT_EQ(pipeline->position(), part * 1000 + 1000);
  }
  const PartitionStats stats = pipeline->Stats();
  EXPECT_EQ(stats.decode_errors, 300);
  EXPECT_EQ(stats.last_error_offset, 2995);
  EXPECT_EQ(stats.records, 3000);
  EXPECT(pipeline->TakeRejected().empty());
}

TEST(PollReportingErrorsTellsOfEachOnceInOrder) {
  Fixture fixture(0);
  for (int i = 0; i < 3000; ++i) {
    fixture.cluster.Produce("t", 0, i % 10 == 5 ? "no JSON" : "{\"n\":1}");
  }
  fixture.cluster.Flush();
  PartitionOptions options = Range(0, 3000);
  options.skip_decode_errors = options.report_decode_errors = true;
  const auto pipeline = fixture.Open(options);
  std::vector<int64_t> wanted;
  for (int i = 5; i < 3000; i += 10) {
    wanted.push_back(i);
  }
  std::vector<int64_t> offsets;
  while (!pipeline->done()) {
    static_cast<void>(Poll(pipeline.get(), 900));
    for (const RejectedRecord& rejected : pipeline->TakeRejected()) {
      offsets.push_back(rejected.offset);
      EXPECT_EQ(rejected.failure.reason, "malformed JSON");
    }
  }
  EXPECT(offsets == wanted);
  EXPECT(pipeline->TakeRejected().empty());
}

TEST(PollStopsAtTheByteLimitAmongMany) {
  Fixture fixture(0);
  for (int i = 0; i < 3000; ++i) {
    fixture.cluster.Produce("t", 0, "{\"n\":1}");
  }
  fixture.cluster.Flush();
  PartitionOptions options = Range(0, 3000);
  options.max_batch_bytes = 7 * 999 + 1;
  options.linger = kLong;
  const auto pipeline = fixture.Open(options);
  for (int batch = 1; batch <= 3; ++batch) {
    ArrowArray array;
    EXPECT(pipeline->Poll(5000, kLong, &array).ok());
    EXPECT_EQ(array.length, 1000);
    array.release(&array);
    EXPECT_EQ(pipeline->position(), batch * 1000);
  }
}

TEST(PollSkippingTombstonesMovesPastThem) {
  Fixture fixture(0);
  fixture.cluster.ProduceTombstone("t", 0);
  fixture.cluster.ProduceTombstone("t", 0);
  fixture.cluster.Flush();
  PartitionOptions options = Range(0, -1);
  options.skip_tombstones = true;
  const auto pipeline = fixture.Open(options);
  while (pipeline->position() < 2) {
    EXPECT_EQ(Poll(pipeline.get()), " @ ");
  }
}

TEST(SeekRightAfterOpenNeverGivesEarlierRecords) {
  Fixture fixture(2000);
  for (int round = 0; round < 30; ++round) {
    const auto pipeline = fixture.Open(Range(int64_t{3} * round, -1));
    const int to = 1990 - round * 50;
    EXPECT(pipeline->Seek(to).ok());
    EXPECT_EQ(Read(pipeline.get(), 5), Numbers(to, to + 5));
  }
}

TEST(SeekBackAndForthNeverGivesRecordsFromBefore) {
  Fixture fixture(5000);
  const auto pipeline = fixture.Open(Range(0, 5000));
  for (int round = 0; round < 60; ++round) {
    const int to = (round * 7919) % 4900;
    EXPECT(pipeline->Seek(to).ok());
    EXPECT_EQ(pipeline->position(), to);
    EXPECT_EQ(Read(pipeline.get(), 10), Numbers(to, to + 10));
  }
  EXPECT(pipeline->Seek(4990).ok());
  EXPECT_EQ(CountToEnd(pipeline.get(), 100), 10);
  EXPECT(pipeline->Seek(10).ok());
  EXPECT_EQ(CountToEnd(pipeline.get(), 1000), 4990);
}

TEST(CloseWakesABlockedPoll) {
  Fixture fixture(0);
  for (const int delay_ms : {0, 1, 20}) {
    const auto pipeline = fixture.Open(Range(0, -1));
    std::thread closer([&] {
      std::this_thread::sleep_for(milliseconds(delay_ms));
      pipeline->Close();
    });
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(Poll(pipeline.get(), 1000, milliseconds(60'000)), " @ ");
    EXPECT(std::chrono::steady_clock::now() - start < kLong);
    closer.join();
    EXPECT(pipeline->done());
  }
}

TEST(CloseWhileLingeringGivesTheRowsAtHand) {
  Fixture fixture(2);
  PartitionOptions options = Range(0, -1);
  options.linger = kLong;
  const auto pipeline = fixture.Open(options);
  std::thread closer([&] {
    while (pipeline->position() < 2) {
      std::this_thread::yield();
    }
    pipeline->Close();
  });
  EXPECT_EQ(Poll(pipeline.get()), Numbers(0, 2));
  closer.join();
}

// librdkafka, but the first thread that wakes a queue waits a while for a second one, which is
// slow.
struct SlowYield {
  static inline std::atomic<int> calls{0};
  static inline std::atomic<int> running{0};
  static inline std::atomic<bool> destroyed_while_running{false};

  static Api Patch() {
    auto api = std::make_shared<LibrdkafkaApi>(*TheApi());
    api->rd_kafka_queue_yield = [](rd_kafka_queue_t* queue) {
      ++running;
      TheApi()->rd_kafka_queue_yield(queue);
      const bool is_first = ++calls == 1;
      const auto end = std::chrono::steady_clock::now() + milliseconds(is_first ? 500 : 50);
      while (std::chrono::steady_clock::now() < end && !(is_first && calls > 1)) {
        std::this_thread::yield();
      }
      --running;
    };
    api->rd_kafka_queue_destroy = [](rd_kafka_queue_t* queue) {
      if (running > 0) {
        destroyed_while_running = true;
      }
      TheApi()->rd_kafka_queue_destroy(queue);
    };
    return api;
  }
};

TEST(CloseFromTwoThreadsNeverWakesAQueueThatIsGone) {
  Fixture fixture(0, 1, SlowYield::Patch());
  const auto pipeline = fixture.Open(Range(0, -1));
  std::thread other([&] { pipeline->Close(); });
  pipeline->Close();
  other.join();
  EXPECT(pipeline->done());
  EXPECT(!SlowYield::destroyed_while_running);
}

TEST(TwoPartitionsOfOneConsumerKeepApart) {
  Fixture fixture(3, 2);
  fixture.cluster.Produce("t", 1, "{\"n\":100}");
  fixture.cluster.Flush();
  const auto first = fixture.Open(Range(0, 3));
  PartitionOptions options = Range(0, 1);
  options.partition = 1;
  const auto second = fixture.Open(options);
  EXPECT_EQ(Poll(second.get()), "100 @ 0");
  EXPECT_EQ(Read(first.get(), 3), Numbers(0, 3));
  first->Close();
  EXPECT(second->Seek(0).ok());
  EXPECT_EQ(Poll(second.get()), "100 @ 0");
}

TEST(QueryBoundsGivesTheLogsEnds) {
  Fixture fixture(7);
  const auto bounds = fixture.consumer->QueryBounds("t", 0, kLong);
  EXPECT(bounds.ok());
  EXPECT_EQ(bounds.value().low, 0);
  EXPECT_EQ(bounds.value().last_stable, 7);
  EXPECT_EQ(bounds.value().high, 7);
}

TEST(QueryBoundsOfWhatDoesNotExistSaysSo) {
  Fixture fixture(0);
  const auto code = [&](const std::string& topic, int32_t partition) {
    return fixture.consumer->QueryBounds(topic, partition, kLong).status().kafka_code();
  };
  EXPECT_EQ(code("t", 7), kafka_error::kUnknownPartition);
  EXPECT_EQ(code("t", 0), 0);
}

TEST(QueryBoundsWithoutABrokerSaysWhatTheConnectionsReported) {
  auto consumer =
      Consumer::Make(TheApi(), {{"bootstrap.servers", "127.0.0.1:1"}, {"group.id", "g"}});
  const auto bounds = consumer.value()->QueryBounds("t", 0, milliseconds(500));
  EXPECT_EQ(bounds.status().code() == StatusCode::kBrokerUnavailable, true);
  EXPECT(bounds.status().message().find("Connection refused") != std::string::npos);
  EXPECT(!consumer.value()->Errors().empty());
  EXPECT(!consumer.value()->TakeLog().empty());
}

TEST(MakeWithAnUnknownSettingIsInvalid) {
  const auto consumer = Consumer::Make(TheApi(), {{"no.such.setting", "1"}});
  EXPECT(consumer.status().code() == StatusCode::kInvalid);
}

TEST(LoadOfWhatIsNoLibraryIsUnavailable) {
  EXPECT(LibrdkafkaApi::Load("/no/such/file").status().code() == StatusCode::kUnavailable);
}

TEST(ErrorCodesHaveTheNamesThatTheyAreDeclaredWith) {
  const auto name = [](int code) { return std::string(TheApi()->rd_kafka_err2name(code)); };
  EXPECT_EQ(name(kafka_error::kTransport), "_TRANSPORT");
  EXPECT_EQ(name(kafka_error::kResolve), "_RESOLVE");
  EXPECT_EQ(name(kafka_error::kPartitionEof), "_PARTITION_EOF");
  EXPECT_EQ(name(kafka_error::kAllBrokersDown), "_ALL_BROKERS_DOWN");
  EXPECT_EQ(name(kafka_error::kTimedOut), "_TIMED_OUT");
  EXPECT_EQ(name(kafka_error::kUnknownPartition), "_UNKNOWN_PARTITION");
  EXPECT_EQ(name(kafka_error::kState), "_STATE");
}

}  // namespace
}  // namespace sabot
