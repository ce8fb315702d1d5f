#include "decode_threads.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "testing.h"

namespace sabot {
namespace {

std::shared_ptr<DecodeThreads> Start(size_t count) {
  auto started = DecodeThreads::Start(count);
  EXPECT(started.ok());
  EXPECT_EQ(started.value()->count(), count);
  return started.value();
}

TEST(RunDoesEachPartOnceAndWaitsForAll) {
  const auto threads = Start(3);
  for (size_t parts = 0; parts < 6; ++parts) {
    for (int round = 0; round < 200; ++round) {
      // Not atomic: what the threads have written must be seen when Run returns.
      std::vector<int> done(parts);
      threads->Run(parts, [&](size_t part) { ++done[part]; });
      EXPECT(done == std::vector<int>(parts, 1));
    }
  }
}

TEST(RunDoesPartsAtTheSameTime) {
  const auto threads = Start(3);
  std::atomic<int> running{0};
  // Each part waits for the others.
  threads->Run(3, [&](size_t) {
    ++running;
    while (running < 3) {
      std::this_thread::yield();
    }
  });
  EXPECT_EQ(running.load(), 3);
}

TEST(RunWhileAnotherHasTheThreadsDoesItsPartsAlone) {
  const auto threads = Start(2);
  std::atomic<bool> is_held{false};
  std::atomic<bool> may_go{false};
  std::thread other([&] {
    threads->Run(1, [&](size_t) {
      is_held = true;
      while (!may_go) {
        std::this_thread::yield();
      }
    });
  });
  while (!is_held) {
    std::this_thread::yield();
  }
  int done = 0;
  threads->Run(4, [&](size_t) { ++done; });
  EXPECT_EQ(done, 4);
  may_go = true;
  other.join();
}

TEST(ThreadsTakeNoSignals) {
  const auto threads = Start(2);
  std::atomic<int> running{0};
  std::atomic<bool> is_blocked{false};
  const auto caller = std::this_thread::get_id();
  threads->Run(2, [&](size_t) {
    ++running;
    while (running < 2) {
      std::this_thread::yield();
    }
    if (std::this_thread::get_id() != caller) {
      sigset_t blocked;
      pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
      is_blocked = sigismember(&blocked, SIGINT) == 1;
    }
  });
  EXPECT(is_blocked.load());
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&blocked, SIGINT), 0);
}

TEST(StartWhereTheSystemGivesNoThreadSaysSo) {
  pthread_attr_t before;
  pthread_attr_t huge;
  pthread_getattr_default_np(&before);
  pthread_attr_init(&huge);
  pthread_attr_setstacksize(&huge, size_t{1} << 50);
  pthread_setattr_default_np(&huge);
  const auto started = DecodeThreads::Start(3);
  pthread_setattr_default_np(&before);
  EXPECT_EQ(started.status().message().substr(0, 46),
            "decode_threads: of 3 threads only 1 can run (R");
}

}  // namespace
}  // namespace sabot
