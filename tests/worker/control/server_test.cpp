// SPDX-License-Identifier: Apache-2.0
// The protocol of the control socket (docs/control-protocol.md), and clients that do not keep to it.
#include "worker/control/server.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/worker/control/control_test.hpp"
#include "worker/control/session.hpp"

namespace bulkhead::worker::control {
namespace {

class ServerTest : public testing::Test, protected RequestHandler {
 protected:
  /// Answers "echo" with the request, keeps "wait", and refuses everything else.
  Abandoned handle(const std::string& what, const Json& request, Files files, Reply reply) override {
    received = std::move(files);
    if (what == "echo") {
      reply(request);
    } else if (what == "wait") {
      waiting.push_back(std::move(reply));
      return [this] { ++abandoned; };
    } else if (what == "large") {
      reply(std::string(request.value("size", 0), 'x'));
    } else {
      reply(fail("there is no such thing"));
    }
    return nullptr;
  }
  TestClient connect() { return {event_loop, connect_to_machine("test").value()}; }

  RunFolder folder;
  boost::asio::io_context event_loop;
  Endpoint endpoint = make_endpoint("test").value();
  RequestHandler& handler = *this;
  std::optional<Server> server{std::in_place, event_loop, std::move(endpoint.listener), handler};
  Files received;
  std::vector<Reply> waiting;
  unsigned abandoned = 0;
};

TEST_F(ServerTest, AnAnswerHasTheRequestsId) {
  auto client = connect();
  EXPECT_EQ(client.call(R"({"id": 7, "do": "echo"})").dump(), R"({"id":7,"result":{"id":7,"do":"echo"}})");
  EXPECT_EQ(client.call(R"({"id": "x", "do": "nothing"})").dump(), R"({"id":"x","error":"there is no such thing"})");
  EXPECT_EQ(client.call(R"({"do": "echo"})")["id"], nullptr);
  EXPECT_EQ(client.call(R"({"id": [1], "do": "echo"})")["id"], nullptr);
}

TEST_F(ServerTest, AnswersMayComeInAnotherOrder) {
  auto client = connect();
  client.send("{\"id\":1,\"do\":\"wait\"}\n{\"id\":2,\"do\":\"echo\"}\n");
  EXPECT_EQ(client.object()["id"], 2);
  waiting.front()(Json("late"));
  EXPECT_EQ(client.object().dump(), R"({"id":1,"result":"late"})");
}

TEST_F(ServerTest, ARequestMayComeInPieces) {
  auto client = connect();
  for (const char letter : std::string("{\"id\":1,\"do\":\"echo\"}")) client.send(std::string(1, letter));
  EXPECT_EQ(client.line(), std::nullopt);
  client.send("\n");
  EXPECT_EQ(client.object()["id"], 1);
}

TEST_F(ServerTest, WhatIsNoRequestIsToldSoAndCutOff) {
  for (const auto* line : {"", "hello", "[1,2]", "17", "{\"do\":", "{\"do\":\"echo\"} {}", "\xff\xfe"}) {
    auto client = connect();
    EXPECT_EQ(client.error_of(line), "a request is a line with one JSON object") << line;
    EXPECT_TRUE(client.is_cut_off()) << line;
  }
}

TEST_F(ServerTest, ARequestSaysWhatToDo) {
  auto client = connect();
  EXPECT_EQ(client.error_of("{}"), "a request says what to do in \"do\"");
  EXPECT_EQ(client.error_of(R"({"do": 5})"), "a request says what to do in \"do\"");
  EXPECT_EQ(client.call(R"({"id":1,"do":"echo"})")["id"], 1) << "it is not cut off for that";
}

TEST_F(ServerTest, DeeplyNestedRequestsAreNoTrouble) {
  auto client = connect();
  const std::string deep = R"({"do":"nothing","x":)" + std::string(30'000, '[') + std::string(30'000, ']') + "}";
  EXPECT_EQ(client.error_of(deep), "there is no such thing");
}

TEST_F(ServerTest, ALineOf64KibibytesIsTakenAndALongerOneCutOff) {
  const std::string frame = R"({"do":"echo","x":""})";
  auto client = connect();
  client.send(R"({"do":"echo","x":")" + std::string(65536 - frame.size(), 'x') + "\"}\n");
  EXPECT_TRUE(client.object().contains("result"));
  client.send(R"({"do":"echo","x":")" + std::string(65537 - frame.size(), 'x') + "\"}\n");
  EXPECT_EQ(client.object().value("error", ""), "a request is longer than 65536 bytes");
  EXPECT_TRUE(client.is_cut_off());

  auto endless = connect();
  endless.send(std::string(200'000, 'x'));
  EXPECT_EQ(endless.object().value("error", ""), "a request is longer than 65536 bytes");
  EXPECT_TRUE(endless.is_cut_off());
}

TEST_F(ServerTest, SixteenRequestsMayBeUnderWay) {
  auto client = connect();
  for (unsigned count = 0; count < 16; ++count) client.send("{\"do\":\"wait\"}\n");
  EXPECT_EQ(client.error_of(R"({"id":1,"do":"echo"})"), "too many requests are under way");
  waiting.front()(Json());
  EXPECT_TRUE(client.object().contains("result"));
  EXPECT_TRUE(client.call(R"({"do":"echo"})").contains("result"));
}

TEST_F(ServerTest, SixteenClientsAreServedAndTheNextWhenOneHasGone) {
  std::vector<TestClient> clients;
  for (unsigned count = 0; count < 16; ++count) clients.push_back(connect());
  auto surplus = connect();
  EXPECT_TRUE(surplus.is_cut_off());
  for (auto& client : clients) EXPECT_TRUE(client.call(R"({"do":"echo"})").contains("result"));
  clients.pop_back();
  clients.front().turn();
  auto next = connect();
  EXPECT_TRUE(next.call(R"({"do":"echo"})").contains("result"));
}

TEST_F(ServerTest, AClientThatDoesNotReadIsCutOff) {
  auto lazy = connect();
  auto other = connect();
  for (unsigned count = 0; count < 100; ++count) lazy.send("{\"do\":\"large\",\"size\":60000}\n");
  EXPECT_TRUE(other.call(R"({"do":"echo"})").contains("result"));
  unsigned answers = 0;
  while (lazy.line()) ++answers;
  EXPECT_LT(answers, 100u);
  EXPECT_TRUE(lazy.is_cut_off());
}

TEST_F(ServerTest, AFloodOfRequestsIsServedAndOthersToo) {
  auto flood = connect();
  auto other = connect();
  std::string many;
  for (unsigned count = 0; count < 2000; ++count) many += "{\"do\":\"echo\"}\n";
  flood.send(many);
  EXPECT_TRUE(other.call(R"({"do":"echo"})").contains("result"));
  unsigned answers = 0;
  while (flood.line()) ++answers;
  EXPECT_EQ(answers, 2000u);
}

TEST_F(ServerTest, RequestsOfAClientThatGoesAreAbandoned) {
  auto client = connect();
  client.send("{\"do\":\"wait\"}\n{\"do\":\"wait\"}\n");
  EXPECT_EQ(abandoned, 0u);
  client.hang_up();
  auto other = connect();
  EXPECT_EQ(abandoned, 2u);
  waiting.front()(Json());  // nobody is there, and nothing happens
  EXPECT_TRUE(other.call(R"({"do":"echo"})").contains("result"));
}

TEST_F(ServerTest, FilesComeWithTheirRequestInTheirOrder) {
  auto client = connect();
  const auto first = nameless_file("first"), second = nameless_file("second");
  client.call(R"({"do":"echo"})", {first.get(), second.get()});
  ASSERT_EQ(received.size(), 2u);
  char text[7] = {};
  EXPECT_EQ(pread(received[1].get(), text, 6, 0), 6);
  EXPECT_STREQ(text, "second");
  client.call(R"({"do":"echo"})");
  EXPECT_TRUE(received.empty());
}

TEST_F(ServerTest, MoreThan64FilesAreCutOff) {
  auto client = connect();
  const auto file = nameless_file("x");
  EXPECT_TRUE(client.call(R"({"do":"echo"})", std::vector<int>(64, file.get())).contains("result"));
  EXPECT_EQ(received.size(), 64u);
  EXPECT_EQ(client.error_of(R"({"do":"echo"})", std::vector<int>(65, file.get())),
            "a request brings more than 64 files");
  EXPECT_TRUE(client.is_cut_off());
  // Nor can they be collected without a request.
  auto collector = connect();
  for (unsigned count = 0; count < 65; ++count) collector.send(" ", {file.get()});
  EXPECT_TRUE(collector.is_cut_off());
}

TEST_F(ServerTest, EventsGoToThoseWhoAskedForThem) {
  auto listener = connect();
  auto other = connect();
  EXPECT_EQ(listener.call(R"({"id":1,"do":"events"})").dump(), R"({"id":1,"result":{}})");
  server->broadcast({{"event", "paused"}});
  EXPECT_EQ(listener.line(), R"({"event":"paused"})");
  EXPECT_EQ(other.line(), std::nullopt);
}

TEST_F(ServerTest, AListenerThatDoesNotReadIsCutOffAndTheMachineDoesNotNotice) {
  auto lazy = connect();
  lazy.call(R"({"do":"events"})");
  for (unsigned count = 0; count < 200'000; ++count) server->broadcast({{"event", "memory"}, {"assigned", count}});
  EXPECT_TRUE(lazy.is_cut_off());
}

TEST_F(ServerTest, TextThatIsNoUtf8IsAnsweredAllTheSame) {
  auto client = connect();
  EXPECT_EQ(client.error_of("{\"do\":\"echo\",\"x\":\"\xff\"}"), "a request is a line with one JSON object");
}

TEST_F(ServerTest, AMachineThatEndsEndsItsConnections) {
  auto client = connect();
  client.send("{\"do\":\"wait\"}\n");
  server.reset();
  EXPECT_EQ(abandoned, 1u);
  EXPECT_TRUE(client.is_cut_off());
}

}  // namespace
}  // namespace bulkhead::worker::control
