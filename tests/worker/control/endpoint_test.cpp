// SPDX-License-Identifier: Apache-2.0
// Names, and who may use the socket behind one.
#include "worker/control/endpoint.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/worker/control/control_test.hpp"

namespace bulkhead::worker::control {
namespace {

class EndpointTest : public testing::Test {
 protected:
  std::string error_of(const std::string& name) {
    auto made = make_endpoint(name);
    return made ? "" : made.error().message();
  }
  unsigned mode_of(const std::string& path) {
    struct stat status{};
    EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 0777;
  }

  RunFolder folder;
};

TEST_F(EndpointTest, ASocketIsItsOwnersAlone) {
  const auto endpoint = make_endpoint("web");
  ASSERT_TRUE(endpoint) << endpoint.error().message();
  EXPECT_EQ(endpoint->path, folder.path("web.sock"));
  EXPECT_EQ(mode_of(folder.path("web.sock")), 0600u);
  EXPECT_EQ(mode_of(folder.path("web.lock")), 0600u);
  EXPECT_TRUE(connect_to_machine("web"));
}

TEST_F(EndpointTest, AFolderThatOthersCanWriteToIsRefused) {
  ASSERT_EQ(chmod(folder.path().c_str(), 0777), 0);
  EXPECT_NE(error_of("web").find("is not a folder that only this user can write to"), std::string::npos);
}

TEST_F(EndpointTest, AFolderThatIsALinkIsRefused) {
  const std::string link = folder.path("link");
  ASSERT_EQ(symlink(folder.path().c_str(), link.c_str()), 0);
  setenv("BULKHEAD_RUN_FOLDER", link.c_str(), 1);
  EXPECT_NE(error_of("web").find("is not a folder"), std::string::npos);
}

TEST_F(EndpointTest, ANameIsOneMachines) {
  auto first = make_endpoint("web");
  ASSERT_TRUE(first);
  EXPECT_EQ(error_of("web"), "a machine named 'web' is running");
  EXPECT_EQ(error_of("mail"), "");
  // It is dead: what it has left behind is replaced.
  *first = Endpoint{};
  EXPECT_EQ(connect_to_machine("web").error().message(), "no machine named 'web' is running");
  EXPECT_EQ(error_of("web"), "");
}

TEST_F(EndpointTest, NamesThatLeadElsewhereAreNone) {
  for (const auto& name :
       std::vector<std::string>{"", ".", "..", "a/b", "-x", "a b", "ü", "a\n", "../web", std::string(65, 'a')}) {
    EXPECT_NE(error_of(name).find("is no name of a machine"), std::string::npos) << name;
    EXPECT_FALSE(connect_to_machine(name)) << name;
  }
  for (const auto& name : std::vector<std::string>{"a", "A.b_c-9", std::string(64, 'a')})
    EXPECT_EQ(error_of(name), "") << name;
}

TEST_F(EndpointTest, ALockThatIsALinkIsNotFollowed) {
  ASSERT_EQ(symlink("/tmp/elsewhere", folder.path("web.lock").c_str()), 0);
  EXPECT_NE(error_of("web").find("cannot open"), std::string::npos);
}

/// What a process of another user gets.
class OtherUser : public EndpointTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "only the superuser can become another user";
    endpoint = make_endpoint("web").value();
    server.emplace(event_loop, std::move(endpoint.listener), handler);
  }
  /// Connects as somebody else and sends a request: 0 if it was answered, 1 if the connection ended, 2 if there was none.
  int ask_as(uid_t user) {
    const pid_t child = fork();
    if (child == 0) {
      if (setgid(user) != 0 || setuid(user) != 0) _exit(9);
      auto socket = connect_to_machine("web");
      if (!socket) _exit(2);
      const std::string_view request = "{\"do\":\"status\"}\n";
      static_cast<void>(send(socket->get(), request.data(), request.size(), MSG_NOSIGNAL));
      char byte = 0;
      _exit(recv(socket->get(), &byte, 1, 0) == 1 ? 0 : 1);
    }
    int status = -1;
    while (waitpid(child, &status, WNOHANG) == 0) {
      event_loop.restart();
      event_loop.poll();
      usleep(1000);
    }
    return WEXITSTATUS(status);
  }

  class Handler final : public RequestHandler {
    Abandoned handle(const std::string&, const Json&, Files, Reply reply) override {
      reply(Json::object());
      return nullptr;
    }
  };
  boost::asio::io_context event_loop;
  Handler handler;
  Endpoint endpoint;
  std::optional<Server> server;
};

TEST_F(OtherUser, CannotConnect) {
  EXPECT_EQ(ask_as(0), 0);
  EXPECT_EQ(ask_as(65534), 2);
}

TEST_F(OtherUser, IsNotServedEvenIfTheFilesLetItIn) {
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(folder.path("web.sock").c_str(), 0666), 0);
  EXPECT_EQ(ask_as(65534), 1);
  EXPECT_EQ(ask_as(0), 0);
}

}  // namespace
}  // namespace bulkhead::worker::control
