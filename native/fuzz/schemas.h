// What the fuzz targets decode with: every type that a column may have, alone and inside others.
#pragma once

#include <vector>

#include "arrow/field.h"
#include "codec/codec.h"

namespace sabot::fuzz {

// The first one is that of tests/contract/hostile_json.py, so that its documents are seeds.
const std::vector<std::vector<Field>>& Schemas();

// A JSON codec with one of the schemas and one of the ways to treat unknown fields, chosen by two
// numbers of any size. Its columns are those of the schema and, where unknown fields are kept, the
// one that takes them.
Codec JsonCodec(size_t schema, size_t unknown_fields);

}  // namespace sabot::fuzz
