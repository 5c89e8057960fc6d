// SPDX-License-Identifier: Apache-2.0
//
// What the requests of the control socket mean: a table of commands, each a function.
//
//   commands.cpp         status, inspect, pause, resume, turn-off, reset, set-memory
//   guest_commands.cpp   what the guest does: shutdown, key-value exchange, addresses, freeze, thaw
//   disk_commands.cpp    attach-disk, detach-disk, resize-disk, set-limits
//   copy_command.cpp     copy
#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <string>

#include "worker/control/arguments.hpp"
#include "worker/control/controlled_machine.hpp"
#include "worker/control/server.hpp"

namespace bulkhead::worker::control {

class Commands final : public RequestHandler {
 public:
  /// Both live longer.
  Commands(boost::asio::io_context& event_loop, ControlledMachine& machine)
      : event_loop_(event_loop), machine_(machine) {}

  Abandoned handle(const std::string& what, const Json& request, Files files, Reply reply) override;

 private:
  using Command = void (Commands::*)(Arguments& arguments, const Reply& reply);
  static const std::map<std::string, Command, std::less<>>& table();

  void status(Arguments& arguments, const Reply& reply);
  void inspect(Arguments& arguments, const Reply& reply);
  void pause(Arguments& arguments, const Reply& reply);
  void resume(Arguments& arguments, const Reply& reply);
  void turn_off(Arguments& arguments, const Reply& reply);
  void reset(Arguments& arguments, const Reply& reply);
  void set_memory(Arguments& arguments, const Reply& reply);

  void shutdown(Arguments& arguments, const Reply& reply);
  void kvp_get(Arguments& arguments, const Reply& reply);
  void kvp_set(Arguments& arguments, const Reply& reply);
  void kvp_delete(Arguments& arguments, const Reply& reply);
  void kvp_list(Arguments& arguments, const Reply& reply);
  void get_addresses(Arguments& arguments, const Reply& reply);
  void set_addresses(Arguments& arguments, const Reply& reply);
  void freeze(Arguments& arguments, const Reply& reply);
  void thaw(Arguments& arguments, const Reply& reply);

  void attach_disk(Arguments& arguments, Files files, const Reply& reply);
  void detach_disk(Arguments& arguments, const Reply& reply);
  void resize_disk(Arguments& arguments, const Reply& reply);
  void set_limits(Arguments& arguments, const Reply& reply);

  Abandoned copy(Arguments& arguments, Files files, const Reply& reply);

  /// A reply that may be given from any thread and with the machine's lock held: it goes by the event loop.
  Reply by_event_loop(Reply reply);
  /// For a service that only says that it is done, or why not.
  static std::function<void(Result<>)> done(const Reply& reply);

  boost::asio::io_context& event_loop_;
  ControlledMachine& machine_;
};

/// The live tree as an object: values first, then children.
Json to_json(const state::Inspection& node);

}  // namespace bulkhead::worker::control
