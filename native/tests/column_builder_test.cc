#include "arrow/column_builder.h"

#include <utility>

#include "arrow_text.h"
#include "testing.h"

namespace sabot {
namespace {

using testing::ColumnText;
using testing::MakeField;

std::string ExportText(const Field& field, ColumnBuilder* builder) {
  ArrowArray array;
  builder->Export(&array);
  int64_t nulls = 0;
  for (int64_t row = 0; row < array.length; ++row) {
    nulls += array.buffers[0] != nullptr && !ReadBit(array.buffers[0], row) ? 1 : 0;
  }
  EXPECT_EQ(array.null_count, nulls);
  for (int64_t i = 1; i < array.n_buffers; ++i) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(array.buffers[i]) % BufferPool::kAlignment, 0U);
    EXPECT(array.buffers[i] != nullptr);
  }
  std::string text = ColumnText(field, array);
  array.release(&array);
  EXPECT(array.release == nullptr);
  return text;
}

TEST(ExportOfEveryTypeGivesItsValues) {
  const auto pool = BufferPool::Make(1 << 20);
  FixedWidthBuilder<int16_t> numbers(pool);
  numbers.Append(-3);
  numbers.AppendNull();
  numbers.Append(7);
  EXPECT_EQ(ExportText(MakeField("", TypeId::kInt16), &numbers), "-3 null 7");

  BooleanBuilder booleans(pool);
  for (int i = 0; i < 9; ++i) {
    booleans.Append(i % 2 == 0);
  }
  booleans.AppendNull();
  EXPECT_EQ(ExportText(MakeField("", TypeId::kBool), &booleans),
            "true false true false true false true false true null");

  BytesBuilder strings(pool);
  strings.Append("ab");
  strings.AppendNull();
  strings.Append("");
  EXPECT_EQ(ExportText(MakeField("", TypeId::kString), &strings), "\"ab\" null \"\"");
}

TEST(ExportTwiceBeginsAnew) {
  const auto pool = BufferPool::Make(1 << 20);
  const Field field = MakeField("", TypeId::kList, {MakeField("", TypeId::kString)});
  const auto builder = MakeColumnBuilder(field, pool);
  auto* list = static_cast<ListBuilder*>(builder.get());
  static_cast<BytesBuilder*>(list->items())->Append("a");
  list->Commit();
  list->AppendNull();
  EXPECT_EQ(ExportText(field, list), "[\"a\"] null");
  EXPECT_EQ(ExportText(field, list), "");
  list->Commit();
  static_cast<BytesBuilder*>(list->items())->Append("b");
  list->Commit();
  EXPECT_EQ(ExportText(field, list), "[] [\"b\"]");
}

TEST(TruncateTakesBackUnfinishedNestedValues) {
  const auto pool = BufferPool::Make(1 << 20);
  const Field field = MakeField("", TypeId::kStruct,
                                {MakeField("a", TypeId::kInt32),
                                 MakeField("l", TypeId::kList, {MakeField("", TypeId::kInt8)})});
  const auto builder = MakeColumnBuilder(field, pool);
  auto* object = static_cast<StructBuilder*>(builder.get());
  auto* a = static_cast<FixedWidthBuilder<int32_t>*>(object->child(0));
  auto* list = static_cast<ListBuilder*>(object->child(1));
  auto* items = static_cast<FixedWidthBuilder<int8_t>*>(list->items());
  a->Append(1);
  items->Append(5);
  list->Commit();
  object->Commit();
  // A row that ends in the middle of its list.
  a->AppendNull();
  items->Append(6);
  items->AppendNull();
  object->Truncate(1);
  a->Append(2);
  items->Append(8);
  list->Commit();
  object->Commit();
  EXPECT_EQ(ExportText(field, object), "{a:1,l:[5]} {a:2,l:[8]}");
}

TEST(TruncateOfNullsForgetsThem) {
  const auto pool = BufferPool::Make(1 << 20);
  FixedWidthBuilder<int64_t> builder(pool);
  for (int i = 0; i < 20; ++i) {
    builder.Append(i);
    builder.AppendNull();
    builder.Truncate(i + 1);
  }
  ArrowArray array;
  builder.Export(&array);
  EXPECT_EQ(array.length, 20);
  EXPECT_EQ(array.null_count, 0);
  EXPECT(array.buffers[0] == nullptr);
  array.release(&array);
}

TEST(AppendAllGivesTheRowsOfBoth) {
  const auto pool = BufferPool::Make(1 << 20);
  const Field field = MakeField("", TypeId::kStruct,
                                {MakeField("b", TypeId::kBool), MakeField("n", TypeId::kInt16),
                                 MakeField("l", TypeId::kList, {MakeField("", TypeId::kString)})});
  // Rows with numbers from `from` to `to`; every `nulls`-th is null, in one column or as a whole.
  const auto append = [](StructBuilder* object, int from, int to, int nulls) {
    auto* list = static_cast<ListBuilder*>(object->child(2));
    for (int i = from; i < to; ++i) {
      const bool is_null = nulls != 0 && i % nulls == 0;
      if (is_null && i % 2 == 0) {
        object->AppendNull();
        continue;
      }
      static_cast<BooleanBuilder*>(object->child(0))->Append(i % 3 == 0);
      if (is_null) {
        object->child(1)->AppendNull();
        list->items()->AppendNull();
      } else {
        static_cast<FixedWidthBuilder<int16_t>*>(object->child(1))->Append(static_cast<int16_t>(i));
        static_cast<BytesBuilder*>(list->items())->Append(std::string(i % 4, 'x'));
      }
      list->Commit();
      object->Commit();
    }
  };
  const auto make = [&] { return MakeColumnBuilder(field, pool); };
  for (int first = 0; first < 20; ++first) {
    for (int second = 0; second < 20; ++second) {
      for (const auto& [nulls, other_nulls] :
           {std::pair(0, 0), std::pair(0, 3), std::pair(3, 0), std::pair(3, 3)}) {
        const auto one = make();
        const auto other = make();
        const auto expected = make();
        auto* rows = static_cast<StructBuilder*>(one.get());
        auto* more = static_cast<StructBuilder*>(other.get());
        auto* all = static_cast<StructBuilder*>(expected.get());
        // Rows that are taken back leave something behind.
        append(rows, 0, 30, nulls);
        rows->Truncate(first);
        append(more, first, 50, other_nulls);
        more->Truncate(second);
        append(all, 0, first, nulls);
        append(all, first, first + second, other_nulls);
        rows->AppendAll(*more);
        append(rows, 3, 4, 0);
        append(all, 3, 4, 0);
        EXPECT_EQ(ExportText(field, rows), ExportText(field, all));
        EXPECT_EQ(more->length(), second);
      }
    }
  }
}

TEST(ReleaseAfterThePoolsOwnerIsGoneFreesTheMemory) {
  ArrowArray array;
  {
    const auto pool = BufferPool::Make(1 << 20);
    BytesBuilder builder(pool);
    builder.Append(std::string(5000, 'x'));
    builder.Export(&array);
  }
  EXPECT_EQ(ColumnText(MakeField("", TypeId::kString), array), '"' + std::string(5000, 'x') + '"');
  array.release(&array);
}

TEST(ExportOfFewRowsDoesNotPinTheMemoryOfMany) {
  const auto pool = BufferPool::Make(1 << 20);
  BufferBuilder builder(pool);
  builder.Reserve(1 << 20);
  *builder.Reserve(1) = 42;
  builder.Advance(1);
  const Buffer buffer = builder.Finish();
  EXPECT_EQ(buffer.capacity(), BufferPool::kAlignment);
  EXPECT_EQ(int{buffer.data()[0]}, 42);
}

TEST(AcquireAfterReleaseReusesTheBuffer) {
  const auto pool = BufferPool::Make(1 << 20);
  const uint8_t* data;
  {
    const Buffer buffer = pool->Acquire(1000);
    data = buffer.data();
  }
  EXPECT(pool->Acquire(1024).data() == data);
}

}  // namespace
}  // namespace sabot
