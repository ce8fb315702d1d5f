#include "kafka/librdkafka_api.h"

#include <dlfcn.h>

namespace sabot {

Result<std::shared_ptr<const LibrdkafkaApi>> LibrdkafkaApi::Load(const std::string& path) {
  std::shared_ptr<LibrdkafkaApi> api(new LibrdkafkaApi);
  api->library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (api->library_ == nullptr) {
    return Status::Unavailable("cannot open librdkafka: " + std::string(dlerror()));
  }
#define SABOT_RESOLVE(name, returns, parameters)                                                  \
  api->name = reinterpret_cast<returns(*) parameters>(api->Symbol(#name));                        \
  if (api->name == nullptr) {                                                                     \
    return Status::Unavailable("librdkafka in '" + path +                                         \
                               "' has no function " #name "; install confluent-kafka >= 2.13.2"); \
  }
  SABOT_LIBRDKAFKA_FUNCTIONS(SABOT_RESOLVE)
#undef SABOT_RESOLVE
  constexpr int kOldestVersion = 0x020d02ff;
  if (api->rd_kafka_version() < kOldestVersion) {
    return Status::Unavailable("librdkafka " + std::string(api->rd_kafka_version_str()) +
                               " is too old; install confluent-kafka >= 2.13.2");
  }
  return Api(std::move(api));
}

void* LibrdkafkaApi::Symbol(const char* name) const { return dlsym(library_, name); }

}  // namespace sabot
