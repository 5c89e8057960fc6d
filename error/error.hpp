// SPDX-License-Identifier: Apache-2.0
//
// How the user-mode rooms say that something failed.
//
// A fallible function returns Result<T>. An Error is one line that a user can act on: what was tried, on what, and
// why it failed. Whoever passes an error on may put what it was doing in front of it, so that the line reads from the
// outside in: "cannot start the machine: cannot open 'vmlinuz': No such file or directory".
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace bulkhead {

class [[nodiscard]] Error {
 public:
  explicit Error(std::string message) : message_(std::move(message)) {}

  /// "`attempt`: <what errno value `number` means>".
  static Error from_errno(std::string_view attempt, int number);

  /// The same error with what the caller was doing in front of it.
  Error within(std::string_view attempt) const { return Error(std::string(attempt) + ": " + message_, number_); }

  /// The errno value that it began with; 0: with none. For callers that can do something about a certain one.
  int number() const { return number_; }

  /// One line, without a full stop or a newline at its end.
  const std::string& message() const { return message_; }

 private:
  Error(std::string message, int number) : message_(std::move(message)), number_(number) {}

  std::string message_;
  int number_ = 0;
};

template <typename T = void>
using Result = std::expected<T, Error>;

/// `return fail(fmt::format("cannot map {}", name));` in a function that returns Result<T>.
inline std::unexpected<Error> fail(std::string message) { return std::unexpected(Error(std::move(message))); }

}  // namespace bulkhead
