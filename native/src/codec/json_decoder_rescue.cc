// Keeps the fields that the schema does not know, as docs/json.md has it.
#include <string>
#include <string_view>
#include <utility>

#include "codec/json_decoder.h"
#include "codec/json_fields.h"
#include "codec/json_scalars.h"

namespace sabot {

std::unique_ptr<JsonDecoder::Known> JsonDecoder::MakeKnown(const Field& field, bool is_built) {
  auto known = std::make_unique<Known>();
  known->type = field.type;
  switch (field.type) {
    case TypeId::kStruct:
      hides_unknown_ |= !is_built;
      for (const Field& child : field.children) {
        known->fields[child.name] = MakeKnown(child, is_built);
      }
      break;
    case TypeId::kList:
      known->item = MakeKnown(field.children.front(), is_built);
      break;
    case TypeId::kMap:
      known->item = MakeKnown(field.children.front().children[1], is_built);
      break;
    default:
      break;
  }
  return known;
}

bool JsonDecoder::Rescue(std::string_view value, bool is_indexed) {
  // Most documents have nothing to keep, and the fast way has seen that.
  if (!is_indexed && unknown_met_.empty() && !hides_unknown_) {
    rescued_->AppendNull();
    return true;
  }
  unknown_met_.clear();
  if (!is_indexed && !tokens_.Index(value)) {
    return false;
  }
  path_ = root_->path;
  rescued_text_.clear();
  RescueValue(*known_, tokens_.begin());
  if (rescued_text_.empty()) {
    rescued_->AppendNull();
  } else {
    rescued_text_ += '}';
    rescued_->Append(rescued_text_);
  }
  return true;
}

// Looks into the value at `at`, whose path is `path_`, and returns the place behind it. A value of
// another kind than the field's has been refused, or is not built and has no fields to look at.
JsonDecoder::Token JsonDecoder::RescueValue(const Known& known, Token at) {
  const char first = TokenAt(at);
  const size_t path_size = path_.size();
  if (first == '[' && known.type == TypeId::kList) {
    ++at;
    for (size_t index = 0; text_[*at] != ']'; ++index) {
      if (text_[*at] == ',') {
        ++at;
      }
      path_ += "[" + std::to_string(index) + "]";
      at = RescueValue(*known.item, at);
      path_.resize(path_size);
    }
    return at + 1;
  }
  if (first != '{' || (known.type != TypeId::kStruct && known.type != TypeId::kMap)) {
    return SkipValidated(at);
  }
  for (const Member& member : ReadMembers(&at)) {
    path_ += PathStep(member.key);
    const auto found = known.fields.find(member.key);
    if (known.type == TypeId::kMap) {
      RescueValue(*known.item, member.value);
    } else if (found != known.fields.end()) {
      RescueValue(*found->second, member.value);
    } else {
      rescued_text_ += rescued_text_.empty() ? '{' : ',';
      AppendQuoted(path_, &rescued_text_);
      rescued_text_ += ':';
      const char* const begin = text_ + *member.value;
      const char* const end = text_ + *SkipValidated(member.value);
      const std::string_view text(begin, static_cast<size_t>(end - begin));
      const size_t size = rescued_text_.size();
      rescued_text_.resize(size + text.size());
      char* const out = rescued_text_.data() + size;
      rescued_text_.resize(size + static_cast<size_t>(CopyCompact(text, out) - out));
    }
    path_.resize(path_size);
  }
  return at;
}

}  // namespace sabot
