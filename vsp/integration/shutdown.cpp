// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/shutdown.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace bulkhead::vsp::integration {

using namespace abi::integration;
using namespace std::chrono_literals;

namespace {

constexpr state::Nanoseconds kLimit = 10s;
constexpr std::uint32_t kTimeoutSeconds = 300;  // what the guest may take
constexpr Version kFirstThatHibernates{3, 2};
constexpr std::array<Version, 4> kVersions = {kFirstThatHibernates, Version{3, 1}, Version{3, 0}, Version{1, 0}};
constexpr Profile kProfile = {.name = "shutdown",
                              .title = "shutdown service",
                              .interface_type = kShutdownInterface,
                              .instance = kShutdownInstance,
                              .type = MessageType::Shutdown,
                              .message_versions = kVersions};

std::uint32_t flags_of(ShutdownKind kind, bool force) {
  std::uint32_t flags = force ? ShutdownFlags::kForce : 0;
  if (kind == ShutdownKind::Restart) flags |= ShutdownFlags::kRestart;
  if (kind == ShutdownKind::Hibernate) flags |= ShutdownFlags::kHibernate;
  return flags;
}

}  // namespace

Shutdown::Shutdown(state::Clock& clock) : Service(kProfile, clock) {}

void Shutdown::shut_down(ShutdownKind kind, bool force, std::string_view message, Done done) {
  if (phase() == Phase::Ready && kind == ShutdownKind::Hibernate && versions().message < kFirstThatHibernates) {
    return done(fail(fmt::format("the guest's shutdown service is version {}.{}, which cannot hibernate",
                                 versions().message.major, versions().message.minor)));
  }
  abi::integration::Shutdown body{};
  body.reason = kShutdownReasonPlanned;
  body.timeout_seconds = kTimeoutSeconds;
  body.flags = flags_of(kind, force);
  std::memcpy(body.message, message.data(), std::min(message.size(), sizeof body.message - 1));
  if (auto requested = request(bytes_of(body), kLimit); !requested) return done(std::move(requested));
  done_ = std::move(done);
}

void Shutdown::finish(Result<> result) {
  if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
}

bool Shutdown::on_answer(Status status, std::span<const std::uint8_t>) {
  if (status == Status::Ok)
    finish({});
  else
    finish(fail(fmt::format("the guest refuses, with the status {:#x}", std::to_underlying(status))));
  return true;
}

void Shutdown::on_silence() { finish(fail("the guest does not answer")); }
void Shutdown::on_closed() { finish(fail("the guest has closed the shutdown service")); }
void Shutdown::on_restored() { finish(fail("the machine was saved meanwhile")); }

}  // namespace bulkhead::vsp::integration
