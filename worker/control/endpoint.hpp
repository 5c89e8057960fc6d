// SPDX-License-Identifier: Apache-2.0
//
// Where the control socket of a machine lies, and who owns a name.
//
//   /run/bulkhead/NAME.sock   the worker listens here; the superuser's machines
//                 NAME.lock   locked (flock) while the machine lives, however it ends
//
// Other users' machines are in $XDG_RUNTIME_DIR/bulkhead, or else in /tmp/bulkhead-UID; $BULKHEAD_RUN_FOLDER is another
// place for both. The folder is the user's alone.
// The starter of a machine makes the socket and hands it to the worker. A socket that a dead worker has left behind is
// replaced: its lock is free.
#pragma once

#include <string>
#include <string_view>

#include "engine/file_descriptor.hpp"
#include "error/error.hpp"

namespace bulkhead::worker::control {

/// Error: the name is empty, longer than 64 characters, or has others than letters, digits, '.', '_' and '-', or begins
/// with '.' or '-'.
Result<> check_machine_name(std::string_view name);

/// The folder for this user's machines.
std::string runtime_folder();

/// A name that is ours, with a socket that listens. Both go to the worker, which keeps them for its life.
struct Endpoint {
  engine::FileDescriptor listener;
  engine::FileDescriptor lock;
  std::string path;  // of the socket; whoever sees the machine end may remove it
};

/// Errors: the name is no name, is a running machine's, or the folder is not this user's.
Result<Endpoint> make_endpoint(std::string_view name);

/// Connects to a running machine: one of this user's, or of the superuser's where this is the superuser.
/// Error: there is none of this name.
Result<engine::FileDescriptor> connect_to_machine(std::string_view name);

}  // namespace bulkhead::worker::control
