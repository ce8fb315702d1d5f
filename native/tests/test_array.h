// Arrow arrays that a test puts together by hand.
#pragma once

#include <cstdint>
#include <vector>

#include "arrow/c_data.h"

namespace sabot::testing {

// A column's array for a test, which owns its buffers and children.
struct TestArray {
  explicit TestArray(int64_t rows) { array.length = rows; }
  TestArray(const TestArray&) = delete;
  TestArray& operator=(const TestArray&) = delete;

  void Add(const void* buffer) {
    buffers.push_back(buffer);
    array.buffers = buffers.data();
    array.n_buffers = static_cast<int64_t>(buffers.size());
  }
  void Add(TestArray* child) {
    children.push_back(&child->array);
    array.children = children.data();
    array.n_children = static_cast<int64_t>(children.size());
  }

  ArrowArray array{};
  std::vector<const void*> buffers;
  std::vector<ArrowArray*> children;
};

}  // namespace sabot::testing
