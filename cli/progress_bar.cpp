// SPDX-License-Identifier: Apache-2.0
#include "cli/progress_bar.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

namespace bulkhead::cli {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

void ask_to_stop(int signal) {
  stop_asked = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

ProgressBar::ProgressBar(std::string title) : title_(std::move(title)), terminal_(isatty(STDERR_FILENO) == 1) {
  std::signal(SIGINT, ask_to_stop);
  std::signal(SIGTERM, ask_to_stop);
}

ProgressBar::~ProgressBar() {
  if (terminal_ && shown_ >= 0) {
    fmt::print(stderr, "\r\033[K");
  }
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

bool ProgressBar::show(std::uint64_t done, std::uint64_t total) {
  const auto percent = total == 0 ? 100 : static_cast<int>(std::min(done, total) / (total / 100 + 1));
  if (terminal_ && percent != shown_) {
    constexpr int kWidth = 40;
    const auto filled = static_cast<std::size_t>(percent * kWidth / 100);
    fmt::print(stderr, "\r{} [{}{}] {:3}%", title_, std::string(filled, '#'), std::string(kWidth - filled, ' '),
               percent);
    std::fflush(stderr);
    shown_ = percent;
  }
  return stop_asked == 0;
}

}  // namespace bulkhead::cli
