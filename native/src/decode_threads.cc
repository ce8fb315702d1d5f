#include "decode_threads.h"

#include <pthread.h>
#include <signal.h>

#include <string>
#include <system_error>

namespace sabot {

Result<std::shared_ptr<DecodeThreads>> DecodeThreads::Start(size_t count) {
  std::shared_ptr<DecodeThreads> threads(new DecodeThreads);
  // Signals are for the application's own threads: a wait of theirs must end with them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Status status;
  try {
    while (threads->count() < count) {
      std::thread& thread = threads->threads_.emplace_back(&DecodeThreads::Serve, threads.get());
      pthread_setname_np(thread.native_handle(), "sabot-decode");
    }
  } catch (const std::system_error& error) {
    status = Status::Invalid("decode_threads: of " + std::to_string(count) + " threads only " +
                             std::to_string(threads->count()) + " can run (" + error.what() +
                             "); ask for fewer");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!status.ok()) {
    return status;
  }
  return threads;
}

DecodeThreads::~DecodeThreads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  has_work_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void DecodeThreads::Run(size_t parts, const std::function<void(size_t)>& work) {
  const std::unique_lock running(running_, std::try_to_lock);
  if (!running.owns_lock()) {
    for (size_t part = 0; part < parts; ++part) {
      work(part);
    }
    return;
  }
  std::unique_lock lock(mutex_);
  work_ = &work;
  next_part_ = 0;
  parts_ = unfinished_ = parts;
  has_work_.notify_all();
  TakeParts(&lock);
  is_done_.wait(lock, [&] { return unfinished_ == 0; });
}

void DecodeThreads::TakeParts(std::unique_lock<std::mutex>* lock) {
  while (next_part_ < parts_) {
    const size_t part = next_part_++;
    lock->unlock();
    (*work_)(part);
    lock->lock();
    if (--unfinished_ == 0) {
      is_done_.notify_one();
    }
  }
}

void DecodeThreads::Serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    has_work_.wait(lock, [&] { return stopping_ || next_part_ < parts_; });
    if (stopping_) {
      return;
    }
    TakeParts(&lock);
  }
}

}  // namespace sabot
