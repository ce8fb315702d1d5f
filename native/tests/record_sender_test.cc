#include "record_sender.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "codec/json_encoder.h"
#include "kafka/consumer.h"
#include "kafka/error_codes.h"
#include "mock_cluster.h"
#include "test_array.h"
#include "testing.h"

namespace sabot {
namespace {

using std::chrono::milliseconds;
using testing::MockCluster;
using testing::TestArray;
using testing::TheApi;

constexpr milliseconds kLong(10'000);

std::shared_ptr<Producer> Connect(const std::string& servers, Client::Settings settings = {}) {
  settings.insert({{"bootstrap.servers", servers},
                   {"log_level", "0"},
                   {"topic.metadata.propagation.max.ms", "500"}});
  auto made = Producer::Make(TheApi(), settings);
  if (!made.ok()) {
    testing::Fail(__FILE__, __LINE__) << made.status().message() << '\n';
  }
  return made.value();
}

// The rows {"n":0}, {"n":1}, ..., of which those that `nulls` names have none.
class Rows {
 public:
  explicit Rows(int64_t count, const std::vector<int64_t>& nulls = {})
      : valid_(static_cast<size_t>(count / 8 + 1), 0xFF), column_(count), batch_(count) {
    for (int64_t n = 0; n < count; ++n) {
      numbers_.push_back(n);
    }
    for (const int64_t row : nulls) {
      valid_[static_cast<size_t>(row / 8)] &= static_cast<uint8_t>(~(1 << (row % 8)));
    }
    column_.Add(nulls.empty() ? nullptr : static_cast<const void*>(valid_.data()));
    column_.Add(numbers_.data());
    column_.array.null_count = static_cast<int64_t>(nulls.size());
    batch_.Add(static_cast<const void*>(nullptr));
    batch_.Add(&column_);
  }

  const ArrowArray& batch() const { return batch_.array; }

 private:
  std::vector<int64_t> numbers_;
  std::vector<uint8_t> valid_;
  TestArray column_;
  TestArray batch_;
};

JsonEncoder MakeNumberEncoder() {
  Field field;
  field.name = "n";
  field.type = TypeId::kInt64;
  return JsonEncoder({field});
}

std::shared_ptr<ValuePool> MakePool() { return std::make_shared<ValuePool>(size_t{1} << 20); }

// Sends all rows, and waits until their fate is known.
std::shared_ptr<Delivery> SendAll(const RecordColumns& columns, Producer* producer,
                                  const std::string& topic = "t") {
  JsonEncoder encoder = MakeNumberEncoder();
  RecordSender sender(columns, topic, &encoder, MakePool());
  EXPECT(sender.HandOver(producer, kLong));
  EXPECT(producer->Flush(kLong));
  EXPECT_EQ(sender.delivery()->outstanding(), 0);
  return sender.delivery();
}

std::string Describe(const std::vector<WrittenRecords>& all) {
  std::vector<std::string> lines;
  for (const WrittenRecords& written : all) {
    std::ostringstream out;
    out << written.topic << "-" << written.partition << ": " << written.records << " at "
        << written.first_offset << ".." << written.last_offset;
    lines.push_back(out.str());
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) {
    text += line + "; ";
  }
  return text;
}

// Reads `count` records of a partition as text: key=value{header=value}@timestamp.
std::string ReadBack(const MockCluster& cluster, int32_t partition, size_t count) {
  auto consumer = Consumer::Make(TheApi(), {{"bootstrap.servers", cluster.bootstrap_servers()},
                                            {"group.id", "g"},
                                            // Else what was read is committed at the end, for
                                            // which librdkafka may wait for ever.
                                            {"enable.auto.commit", "false"},
                                            {"log_level", "0"}})
                      .value();
  const QueueHandle queue = std::move(consumer->OpenQueue("t", partition).value());
  EXPECT(consumer->Assign("t", partition, 0, -1).ok());
  std::string text;
  const auto bytes = [](const void* data, size_t size) {
    return data == nullptr ? std::string("null")
                           : "'" + std::string(static_cast<const char*>(data), size) + "'";
  };
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  for (size_t read = 0; read < count && std::chrono::steady_clock::now() < deadline;) {
    rd_kafka_message_t* message = nullptr;
    ClientError error;
    if (consumer->Fetch(queue.get(), milliseconds(100), &message, 1, &error) == 0) {
      continue;
    }
    if (message->err == 0) {
      text += bytes(message->key, message->key_len) + "=" + bytes(message->payload, message->len);
      rd_kafka_headers_t* headers = nullptr;
      if (TheApi()->rd_kafka_message_headers(message, &headers) == 0) {
        const char* name = nullptr;
        const void* value = nullptr;
        size_t size = 0;
        for (size_t i = 0; TheApi()->rd_kafka_header_get_all(headers, i, &name, &value, &size) == 0;
             ++i) {
          text += "{" + std::string(name) + "=" + bytes(value, size) + "}";
        }
      }
      int kind = 0;
      if (const int64_t timestamp = TheApi()->rd_kafka_message_timestamp(message, &kind);
          timestamp < 1'000'000) {
        text += "@" + std::to_string(timestamp);
      }
      text += ' ';
      ++read;
    }
    TheApi()->rd_kafka_message_destroy(message);
  }
  EXPECT(consumer->Unassign("t", partition).ok());
  return text;
}

TEST(EveryRowBecomesARecordAndTheDeliveryTellsWhere) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 1);
  const auto producer = Connect(cluster.bootstrap_servers());
  const Rows rows(3);
  const auto first = SendAll({.values = &rows.batch()}, producer.get());
  const auto second = SendAll({.values = &rows.batch()}, producer.get());
  EXPECT_EQ(Describe(first->written()), "t-0: 3 at 0..2; ");
  EXPECT_EQ(Describe(second->written()), "t-0: 3 at 3..5; ");
  EXPECT_EQ(first->written()[0].bytes, int64_t{3 * sizeof(R"({"n":0})") - 3});
  EXPECT(first->failures().empty());
  EXPECT_EQ(ReadBack(cluster, 0, 4),
            R"(null='{"n":0}' null='{"n":1}' null='{"n":2}' null='{"n":0}' )");
}

TEST(KeysHeadersTimestampsAndPartitionsComeFromTheirColumns) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 2);
  const auto producer = Connect(cluster.bootstrap_servers());
  const Rows rows(3);
  // The keys 'a', null, ''; the second one's bytes are there all the same.
  const int32_t key_ends[] = {0, 1, 2, 2};
  const uint8_t key_valid = 0b101;
  TestArray keys(3);
  keys.Add(&key_valid);
  keys.Add(key_ends);
  keys.Add("ab");
  const int32_t partition_numbers[] = {1, 1, 0};
  TestArray partitions(3);
  partitions.Add(static_cast<const void*>(nullptr));
  partitions.Add(partition_numbers);
  const int64_t times[] = {1234, 5678, 9};
  TestArray timestamps(3);
  timestamps.Add(static_cast<const void*>(nullptr));
  timestamps.Add(times);
  // Of the first row x='1' and x=null, of the last y=''; the second has none.
  const int32_t name_ends[] = {0, 1, 2, 3};
  TestArray names(3);
  names.Add(static_cast<const void*>(nullptr));
  names.Add(name_ends);
  names.Add("xxy");
  const int32_t value_ends[] = {0, 1, 1, 1};
  const uint8_t value_valid = 0b101;
  TestArray values(3);
  values.Add(&value_valid);
  values.Add(value_ends);
  values.Add("1");
  TestArray entries(3);
  entries.Add(static_cast<const void*>(nullptr));
  entries.Add(&names);
  entries.Add(&values);
  const int32_t list_ends[] = {0, 2, 2, 3};
  TestArray headers(3);
  headers.Add(static_cast<const void*>(nullptr));
  headers.Add(list_ends);
  headers.Add(&entries);

  const auto delivery = SendAll({.values = &rows.batch(),
                                 .keys = &keys.array,
                                 .headers = &headers.array,
                                 .timestamps = &timestamps.array,
                                 .partitions = &partitions.array},
                                producer.get());
  EXPECT_EQ(Describe(delivery->written()), "t-0: 1 at 0..0; t-1: 2 at 0..1; ");
  EXPECT_EQ(ReadBack(cluster, 1, 2), R"('a'='{"n":0}'{x='1'}{x=null}@1234 null='{"n":1}'@5678 )");
  EXPECT_EQ(ReadBack(cluster, 0, 1), R"(''='{"n":2}'{y=''}@9 )");
}

TEST(RowWithoutAnyValueIsATombstone) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 1);
  const auto producer = Connect(cluster.bootstrap_servers());
  const Rows rows(3, {1});
  SendAll({.values = &rows.batch()}, producer.get());
  EXPECT_EQ(ReadBack(cluster, 0, 3), R"(null='{"n":0}' null=null null='{"n":2}' )");
}

TEST(RowsThatCannotBeEncodedAreLeftOut) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 1);
  const auto producer = Connect(cluster.bootstrap_servers());
  const double numbers[] = {1.5, 1.0 / 0.0, 2.5};
  TestArray column(3);
  column.Add(static_cast<const void*>(nullptr));
  column.Add(numbers);
  TestArray batch(3);
  batch.Add(static_cast<const void*>(nullptr));
  batch.Add(&column);
  Field field;
  field.name = "x";
  field.type = TypeId::kFloat64;
  JsonEncoder encoder({field});
  RecordSender sender({.values = &batch.array}, "t", &encoder, MakePool());
  EXPECT_EQ(sender.rejected().size(), size_t{1});
  EXPECT_EQ(sender.rejected()[0].row, 1);
  EXPECT_EQ(sender.rejected()[0].failure.field, "$.x");
  EXPECT(sender.HandOver(producer.get(), kLong));
  EXPECT(producer->Flush(kLong));
  EXPECT_EQ(Describe(sender.delivery()->written()), "t-0: 2 at 0..1; ");
}

TEST(FullQueueHoldsTheSenderUpUntilThereIsRoom) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 1);
  const auto producer = Connect(cluster.bootstrap_servers(),
                                {{"queue.buffering.max.messages", "10"}, {"linger.ms", "5"}});
  const Rows rows(1000);
  JsonEncoder encoder = MakeNumberEncoder();
  RecordSender sender({.values = &rows.batch()}, "t", &encoder, MakePool());
  EXPECT(!sender.HandOver(producer.get(), milliseconds(0)));
  EXPECT(sender.next_row() >= 10 && sender.next_row() < 1000);
  EXPECT(!sender.delivery()->Wait(milliseconds(0)));
  EXPECT(sender.HandOver(producer.get(), kLong));
  EXPECT(sender.delivery()->Wait(kLong));
  EXPECT_EQ(Describe(sender.delivery()->written()), "t-0: 1000 at 0..999; ");
}

TEST(RecordThatCannotBeWrittenIsToldWithItsRow) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 1);
  const auto producer = Connect(cluster.bootstrap_servers(), {{"message.max.bytes", "1000"}});
  const Rows rows(3);
  const int32_t partition_numbers[] = {0, 7, 0};
  TestArray partitions(3);
  partitions.Add(static_cast<const void*>(nullptr));
  partitions.Add(partition_numbers);
  // Too large is the last one's key.
  const std::string key(2000, 'k');
  const int32_t key_ends[] = {0, 0, 0, 2000};
  TestArray keys(3);
  keys.Add(static_cast<const void*>(nullptr));
  keys.Add(key_ends);
  keys.Add(key.data());
  const auto delivery =
      SendAll({.values = &rows.batch(), .keys = &keys.array, .partitions = &partitions.array},
              producer.get());
  std::vector<FailedRecord> failures = delivery->failures();
  std::sort(failures.begin(), failures.end(),
            [](const FailedRecord& a, const FailedRecord& b) { return a.row < b.row; });
  EXPECT_EQ(failures.size(), size_t{2});
  EXPECT_EQ(failures[0].row, 1);
  EXPECT_EQ(failures[0].partition, 7);
  EXPECT_EQ(failures[0].code, kafka_error::kUnknownPartition);
  EXPECT_EQ(failures[1].row, 2);
  EXPECT_EQ(failures[1].reason, "Broker: Message size too large");
  EXPECT_EQ(Describe(delivery->written()), "t-0: 1 at 0..0; ");
}

TEST(ClosedProducerTellsThatItHasGivenUp) {
  // Nobody listens there.
  const auto producer = Connect("127.0.0.1:9");
  const Rows rows(5);
  JsonEncoder encoder = MakeNumberEncoder();
  RecordSender sender({.values = &rows.batch()}, "t", &encoder, MakePool());
  EXPECT(sender.HandOver(producer.get(), kLong));
  EXPECT_EQ(sender.delivery()->outstanding(), 5);
  EXPECT(!producer->Flush(milliseconds(10)));
  producer->Close(kLong);
  EXPECT_EQ(sender.delivery()->outstanding(), 0);
  EXPECT_EQ(sender.delivery()->failures().size(), size_t{5});
}

TEST(WhatAClosedProducerWasNotToldOfIsAFailure) {
  const auto producer = Connect("127.0.0.1:9");
  const Rows rows(5);
  JsonEncoder encoder = MakeNumberEncoder();
  RecordSender sender({.values = &rows.batch()}, "t", &encoder, MakePool());
  EXPECT(sender.HandOver(producer.get(), kLong));
  producer->Close(milliseconds(0));
  EXPECT_EQ(sender.delivery()->outstanding(), 0);
  EXPECT(!sender.delivery()->failures().empty());
}

TEST(RowWithHeadersForAPartitionThatDoesNotExistIsToldOnce) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 1);
  const auto producer = Connect(cluster.bootstrap_servers());
  const Rows rows(1);
  const int32_t number = 7;
  TestArray partitions(1);
  partitions.Add(static_cast<const void*>(nullptr));
  partitions.Add(&number);
  const int32_t ends[] = {0, 1};
  TestArray texts(1);
  texts.Add(static_cast<const void*>(nullptr));
  texts.Add(ends);
  texts.Add("x");
  TestArray entries(1);
  entries.Add(static_cast<const void*>(nullptr));
  entries.Add(&texts);
  entries.Add(&texts);
  TestArray headers(1);
  headers.Add(static_cast<const void*>(nullptr));
  headers.Add(ends);
  headers.Add(&entries);
  // Once for the client to learn of the topic: then it refuses at once.
  for (int i = 0; i < 2; ++i) {
    const auto delivery = SendAll(
        {.values = &rows.batch(), .headers = &headers.array, .partitions = &partitions.array},
        producer.get());
    EXPECT_EQ(delivery->failures().size(), size_t{1});
  }
}

// What rd_kafka_consumer_group_metadata_write gives of a member of group "g".
std::string GroupMetadata() {
  const auto symbol = [](const char* name) { return TheApi()->Symbol(name); };
  const auto make = reinterpret_cast<rd_kafka_consumer_group_metadata_t* (*)(const char*)>(
      symbol("rd_kafka_consumer_group_metadata_new"));
  const auto write = reinterpret_cast<rd_kafka_error_t* (*)(
      const rd_kafka_consumer_group_metadata_t*, void**, size_t*)>(
      symbol("rd_kafka_consumer_group_metadata_write"));
  const GroupMetadataHandle member(TheApi(), make("g"));
  void* bytes = nullptr;
  size_t size = 0;
  EXPECT(write(member.get(), &bytes, &size) == nullptr);
  std::string text(static_cast<const char*>(bytes), size);
  std::free(bytes);
  return text;
}

TEST(TransactionTakesRecordsAndOffsetsAlong) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 1);
  cluster.CreateTopic("source", 1);
  const auto producer = Connect(cluster.bootstrap_servers(), {{"transactional.id", "s.0"}});
  EXPECT_EQ(producer->InitTransactions(kLong).code, 0);
  EXPECT_EQ(producer->BeginTransaction().code, 0);
  const Rows rows(3);
  SendAll({.values = &rows.batch()}, producer.get());

  const std::vector<GroupOffset> offsets = {
      {.topic = "source", .partition = 0, .next_offset = 3, .metadata = "kept"}};
  EXPECT_EQ(producer->SendOffsets(offsets, GroupMetadata(), kLong).code, 0);
  EXPECT_EQ(producer->EndTransaction(true, kLong).code, 0);
  EXPECT_EQ(producer->BeginTransaction().code, 0);
  EXPECT_EQ(producer->EndTransaction(false, kLong).code, 0);
}

TEST(TransactionSaysWhatItCannotDo) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("source", 1);
  const auto producer = Connect(cluster.bootstrap_servers(), {{"transactional.id", "s.0"}});
  const TransactionError early = producer->BeginTransaction();
  EXPECT_EQ(early.code, kafka_error::kState);
  EXPECT(!early.reason.empty() && !early.is_retriable && !early.requires_abort);
  EXPECT_EQ(producer->InitTransactions(kLong).code, 0);
  EXPECT_EQ(producer->BeginTransaction().code, 0);

  constexpr int kBadMessage = -199;  // RD_KAFKA_RESP_ERR__BAD_MSG
  const TransactionError unreadable =
      producer->SendOffsets({{.topic = "source", .next_offset = 1}}, "nobody", kLong);
  EXPECT_EQ(unreadable.code, kBadMessage);
}

TEST(SenderThatStopsHalfwayLeavesTheDeliveryToWhatItHandedOver) {
  const MockCluster cluster(TheApi());
  cluster.CreateTopic("t", 1);
  const auto producer =
      Connect(cluster.bootstrap_servers(), {{"queue.buffering.max.messages", "10"}});
  const Rows rows(1000);
  JsonEncoder encoder = MakeNumberEncoder();
  RecordSender sender({.values = &rows.batch()}, "t", &encoder, MakePool());
  EXPECT(!sender.HandOver(producer.get(), milliseconds(0)));
  sender.Stop(producer.get());
  EXPECT(sender.delivery()->Wait(kLong));
  const std::vector<WrittenRecords> written = sender.delivery()->written();
  EXPECT_EQ(written.size(), size_t{1});
  EXPECT_EQ(written[0].records, sender.next_row());
}

TEST(MemoryOfValuesServesTheNextBatch) {
  constexpr int64_t kMany = 10'000;
  const Rows rows(kMany);
  const auto pool = MakePool();
  JsonEncoder encoder = MakeNumberEncoder();
  const char* first = nullptr;
  for (int batch = 0; batch < 2; ++batch) {
    const RecordSender sender({.values = &rows.batch()}, "t", &encoder, pool);
    const std::string& values = sender.delivery()->values();
    // {"n":0} to {"n":9999}
    EXPECT_EQ(values.size(), size_t{10 * 7 + 90 * 8 + 900 * 9 + 9'000 * 10});
    if (batch == 0) {
      first = values.data();
    }
    EXPECT(values.data() == first);
  }
}

TEST(RoomForValuesIsTakenOnce) {
  constexpr int64_t kMany = 10'000;
  const Rows rows(kMany);
  JsonEncoder encoder = MakeNumberEncoder();
  const RecordSender sender({.values = &rows.batch()}, "t", &encoder, MakePool());
  const std::string& values = sender.delivery()->values();
  EXPECT(values.capacity() < values.size() * 5 / 4);
}

TEST(NoMoreMemoryOfValuesIsKeptThanAllowed) {
  ValuePool pool(1000);
  std::string small(600, 'x');
  std::string other(600, 'x');
  pool.GiveBack(std::move(small));
  pool.GiveBack(std::move(other));
  const std::string kept = pool.Take();
  EXPECT(kept.empty());
  EXPECT(kept.capacity() >= 600);
  EXPECT(pool.Take().capacity() < 600);
}

}  // namespace
}  // namespace sabot
