// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/key_value_exchange.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "tests/vsp/integration/service_guest.hpp"

namespace bulkhead::vsp::integration {
namespace {

using namespace std::chrono_literals;
using namespace abi::integration;

/// UTF-16 with a zero, into a field of a message; its size in bytes.
std::uint32_t put(std::uint8_t* field, std::u16string_view text) {
  std::memcpy(field, text.data(), text.size() * 2);
  std::memset(field + text.size() * 2, 0, 2);
  return static_cast<std::uint32_t>(text.size() * 2 + 2);
}
std::u16string get(const std::uint8_t* field, std::uint32_t size) {
  std::u16string text(size / 2, u'\0');
  std::memcpy(text.data(), field, size);
  return text;
}

/// A guest's daemon: pools of keys and values, and one adapter.
class KeyValueTest : public testing::Test {
 protected:
  using Pool = std::vector<std::pair<std::u16string, std::u16string>>;

  void connect(Version version = {5, 0}) {
    rig.guest.connect(version);
    serve();
  }
  /// Answers what has come, until nothing more does.
  void serve() {
    while (const auto request = rig.guest.receive()) {
      ++requests;
      const auto head = request->as<KeyValueHeader>();
      switch (head.operation) {
        case KeyValueOperation::Get: serve_get(*request); break;
        case KeyValueOperation::Set: serve_set(*request); break;
        case KeyValueOperation::Delete: serve_delete(*request); break;
        case KeyValueOperation::Enumerate: serve_enumerate(*request); break;
        default: addresses = *request; return;
      }
    }
  }
  void serve_get(const HostMessage& request) {
    auto body = request.as<KeyValueMessage>();
    EXPECT_EQ(body.item.key_size % 2, 0u);
    const std::u16string key = get(body.item.key, body.item.key_size - 2);
    for (const auto& [known, value] : pools[body.header.pool]) {
      if (known != key) continue;
      body.item.value_size = put(body.item.value, forgets_values ? u"" : value);
      return rig.guest.answer_with(request, body);
    }
    rig.guest.answer(request, request.body, Status::NoMoreItems);
  }
  void serve_set(const HostMessage& request) {
    const auto body = request.as<KeyValueMessage>();
    pools[body.header.pool].emplace_back(get(body.item.key, body.item.key_size - 2),
                                         get(body.item.value, body.item.value_size - 2));
    rig.guest.answer(request, request.body);
  }
  void serve_delete(const HostMessage& request) {
    const auto body = request.as<KeyDeleteMessage>();
    const auto erased = std::erase_if(pools[body.header.pool],
                                      [&](const auto& item) { return item.first == get(body.key, body.key_size - 2); });
    rig.guest.answer(request, request.body, erased > 0 ? Status::Ok : Status::NoMoreItems);
  }
  void serve_enumerate(const HostMessage& request) {
    auto body = request.as<KeyEnumerateMessage>();
    const auto& pool = pools[body.header.pool];
    if (body.index >= pool.size()) return rig.guest.answer(request, request.body, Status::NoMoreItems);
    body.item.key_size = put(body.item.key, pool[body.index].first);
    body.item.value_size = put(body.item.value, pool[body.index].second);
    rig.guest.answer_with(request, body);
  }

  KeyValueExchange::Done<> note() {
    outcome = "none yet";
    return [this](Result<> result) { outcome = result ? "done" : result.error().message(); };
  }
  std::string get_value(KeyValuePool pool, std::string_view key) {
    std::string found = "none yet";
    rig.service.get(pool, key, [&](Result<std::optional<std::string>> value) {
      found = !value ? value.error().message() : value->value_or("(no such key)");
    });
    serve();
    return found;
  }

  std::map<KeyValuePool, Pool> pools;
  bool forgets_values = false;           // as Linux's daemon does, when it is asked for one key
  std::optional<HostMessage> addresses;  // a request about addresses, unanswered
  unsigned requests = 0;
  std::string outcome;
  Rig<KeyValueExchange> rig;
};

TEST_F(KeyValueTest, AKeySetOnTheHostIsInTheGuestAndTheOtherWayRound) {
  for (const Version version : {Version{5, 0}, Version{4, 0}, Version{3, 0}, Version{1, 0}}) {
    pools.clear();
    connect(version);
    rig.service.set(KeyValuePool::External, "rôle", "frontend \U0001f600", note());
    serve();
    EXPECT_EQ(outcome, "done");
    EXPECT_EQ(pools[KeyValuePool::External], (Pool{{u"rôle", u"frontend \U0001f600"}}));

    pools[KeyValuePool::Guest] = {{u"state", u"up"}};
    EXPECT_EQ(get_value(KeyValuePool::Guest, "state"), "up");
    EXPECT_EQ(get_value(KeyValuePool::Guest, "State"), "(no such key)");

    rig.service.remove(KeyValuePool::External, "rôle", note());
    serve();
    EXPECT_EQ(outcome, "done");
    EXPECT_TRUE(pools[KeyValuePool::External].empty());
    rig.service.remove(KeyValuePool::External, "rôle", note());
    serve();
    EXPECT_EQ(outcome, "there is no such key");
    rig.guest.close();
  }
}

TEST_F(KeyValueTest, AValueThatTheGuestLeavesOutIsFoundAmongAllItems) {
  connect();
  forgets_values = true;
  pools[KeyValuePool::Guest] = {{u"other", u"x"}, {u"state", u"up"}, {u"empty", u""}};
  EXPECT_EQ(get_value(KeyValuePool::Guest, "state"), "up");
  EXPECT_EQ(get_value(KeyValuePool::Guest, "empty"), "");
  EXPECT_EQ(get_value(KeyValuePool::Guest, "nothing"), "(no such key)");
  // The key goes while it is looked for.
  std::string found = "none yet";
  rig.service.get(KeyValuePool::Guest, "state",
                  [&](Result<std::optional<std::string>> value) { found = value && *value ? **value : "nothing"; });
  serve_get(*rig.guest.receive());
  pools[KeyValuePool::Guest].clear();
  serve();
  EXPECT_EQ(found, "");
}

TEST_F(KeyValueTest, KnowsWhatTheGuestSaysOfItselfAndLooksAgainEveryTenSeconds) {
  pools[KeyValuePool::Auto] = {{u"OSName", u"Debian"}, {u"OSBuildNumber", u"6.1.0"}};
  connect();
  EXPECT_EQ(rig.service.known("OSName"), "Debian");
  EXPECT_EQ(rig.service.known("OSBuildNumber"), "6.1.0");
  EXPECT_EQ(rig.service.known("nothing"), "");
  pools[KeyValuePool::Auto] = {{u"OSName", u"Other"}};
  rig.clock.advance(10s);
  serve();
  EXPECT_EQ(rig.service.known("OSName"), "Other");
  EXPECT_EQ(rig.service.known("OSBuildNumber"), "");
  rig.guest.close();
  EXPECT_TRUE(rig.service.known().empty());
}

TEST_F(KeyValueTest, AGuestThatNeverComesToAnEndIsStoppedAt256Items) {
  connect();
  rig.clock.advance(10s);
  for (unsigned count = 0; count < 1000; ++count) {
    const auto request = rig.guest.receive();
    if (!request) break;
    auto body = request->as<KeyEnumerateMessage>();
    EXPECT_LT(body.index, 256u);
    body.item.key_size = put(body.item.key, u"again");
    body.item.value_size = put(body.item.value, u"and again");
    rig.guest.answer_with(*request, body);
  }
  EXPECT_EQ(rig.service.known().size(), 256u);
}

TEST_F(KeyValueTest, ValuesOfAllTypesReadAsText) {
  connect();
  const struct {
    KeyValueType type;
    std::uint64_t value;
    std::string text;
  } cases[] = {{KeyValueType::Number, 0xffff'ffff'0000'0007, "7"},
               {KeyValueType::LongNumber, UINT64_MAX, "18446744073709551615"},
               {KeyValueType::ExpandString, 'x' | std::uint64_t{'y'} << 16, "xy"}};
  for (const auto& [type, value, text] : cases) {
    std::string found;
    rig.service.get(KeyValuePool::Guest, "number",
                    [&](Result<std::optional<std::string>> got) { found = got && *got ? **got : "nothing"; });
    const auto request = rig.guest.receive();
    auto body = request->as<KeyValueMessage>();
    body.item.type = type;
    body.item.value_size = 8;
    std::memcpy(body.item.value, &value, sizeof value);
    rig.guest.answer_with(*request, body);
    EXPECT_EQ(found, text);
  }
}

TEST_F(KeyValueTest, SizesBeyondTheFieldsAreSenseless) {
  connect();
  const auto attempt = [&](const std::function<void(KeyValueMessage&)>& change) {
    std::string found;
    rig.service.get(KeyValuePool::Guest, "key",
                    [&](Result<std::optional<std::string>> got) { found = got ? "taken" : got.error().message(); });
    const auto request = rig.guest.receive();
    auto body = request->as<KeyValueMessage>();
    body.item.value_size = put(body.item.value, u"value");
    change(body);
    rig.guest.answer_with(*request, body);
    return found;
  };
  EXPECT_EQ(attempt([](auto& body) { body.item.value_size = 2049; }), "the guest's answer makes no sense");
  EXPECT_EQ(attempt([](auto& body) { body.item.key_size = UINT32_MAX; }), "the guest's answer makes no sense");
  EXPECT_EQ(attempt([](auto& body) { body.item.type = KeyValueType{99}; }), "the guest's answer makes no sense");
  EXPECT_EQ(attempt([](auto& body) { body.item.value_size = 2048; }), "taken");
}

TEST_F(KeyValueTest, TextThatDoesNotFitOrIsNoneIsRefusedHere) {
  connect();
  const auto set = [&](std::string_view key, std::string_view value) {
    const unsigned before = requests;
    rig.service.set(KeyValuePool::External, key, value, note());
    serve();
    EXPECT_EQ(requests, before + (outcome == "done"));
    return outcome;
  };
  EXPECT_EQ(set("", "value"), "the key is empty");
  EXPECT_EQ(set("\xff", "value"), "the key is not UTF-8 text");
  EXPECT_EQ(set(std::string_view("a\0b", 3), "value"), "the key has a zero character in it");
  EXPECT_EQ(set(std::string(256, 'k'), "value"), "the key has 256 characters; 255 are possible");
  EXPECT_EQ(set("key", std::string(1024, 'v')), "the value has 1024 characters; 1023 are possible");
  EXPECT_EQ(set(std::string(255, 'k'), std::string(1023, 'v')), "done");
  EXPECT_EQ(set("key", ""), "done");
}

TEST_F(KeyValueTest, OperationsWaitForOneAnother) {
  connect();
  std::vector<std::string> ends;
  for (const char* key : {"a", "b", "c"}) {
    rig.service.set(KeyValuePool::External, key, "x",
                    [&, key](Result<> result) { ends.push_back(result ? key : "no"); });
  }
  EXPECT_TRUE(ends.empty());
  serve();
  EXPECT_EQ(ends, (std::vector<std::string>{"a", "b", "c"}));
}

TEST_F(KeyValueTest, NoMoreThan32OperationsWait) {
  connect();
  unsigned refused = 0, failed = 0;
  for (unsigned count = 0; count < 40; ++count) {
    rig.service.set(KeyValuePool::External, "k", "v", [&](Result<> result) {
      if (result) return;
      ++(result.error().message() == "too many key-value operations wait already" ? refused : failed);
    });
  }
  EXPECT_EQ(refused, 8u);
  rig.guest.close();
  EXPECT_EQ(failed, 32u);
}

TEST_F(KeyValueTest, ASilentDaemonIsAnErrorForEachAndTheNextIsAsked) {
  connect();
  rig.service.set(KeyValuePool::External, "k", "v", note());
  ASSERT_TRUE(rig.guest.receive());
  std::string second = "none yet";
  rig.service.set(KeyValuePool::External, "l", "v", [&](Result<> result) { second = result ? "done" : "no"; });
  rig.clock.advance(35s);
  EXPECT_EQ(outcome, "the guest does not answer");
  serve();
  EXPECT_EQ(second, "done");
}

TEST_F(KeyValueTest, AMissingDaemonIsNamed) {
  connect();
  rig.service.set(KeyValuePool::External, "k", "v", note());
  rig.guest.answer(*rig.guest.receive(), {}, Status::Fail);
  EXPECT_EQ(outcome, "the guest could not do it; perhaps its key-value daemon does not run");
}

TEST_F(KeyValueTest, WhoHearsOfTheEndMayAskForMore) {
  connect();
  std::string second = "none yet";
  rig.service.set(KeyValuePool::External, "a", "x", [&](Result<>) {
    rig.service.set(KeyValuePool::External, "b", "y", [&](Result<> result) { second = result ? "done" : "no"; });
  });
  serve();
  EXPECT_EQ(second, "done");
  // And again, when it hears that the guest has gone.
  rig.service.set(KeyValuePool::External, "a", "x", [&](Result<>) {
    rig.service.set(KeyValuePool::External, "b", "y", [&](Result<> result) { second = result.error().message(); });
  });
  rig.guest.close();
  EXPECT_EQ(second, "the guest does not use the key-value exchange");
}

TEST_F(KeyValueTest, PrefixLengthsInTextAreNumbersHoweverTheGuestWritesThem) {
  for (const Version version : {Version{4, 0}, Version{3, 0}}) {
    connect(version);
    std::optional<GuestAddresses> found;
    rig.service.get_addresses("a", [&](Result<GuestAddresses> got) { found = got.value(); });
    serve();
    auto body = addresses->as<AddressTextMessage>();
    put(body.addresses, u"fe80::1;10.0.0.1");
    put(body.subnets, u"/64;255.0.0.0");
    rig.guest.answer_with(*addresses, body);
    EXPECT_EQ(found->subnets, (std::vector<std::string>{"64", "255.0.0.0"}));
    rig.guest.close();
  }
}

/// Addresses: text before 5.0, bytes from it on.
class AddressTest : public KeyValueTest, public testing::WithParamInterface<Version> {
 protected:
  bool has_bytes() const { return GetParam() >= Version{5, 0}; }
  GuestAddresses wanted() const {
    return {.dhcp = false,
            .addresses = {"192.0.2.17", "2001:db8::17"},
            .subnets = {"255.255.255.0", "64"},
            .gateways = {"192.0.2.1", "2001:db8::1"},
            .dns_servers = {"192.0.2.53"}};
  }
};

TEST_P(AddressTest, TheHostSetsThem) {
  connect(GetParam());
  rig.service.set_addresses("{0a1b2c3d-0000-0000-0000-000000000001}", wanted(), note());
  serve();
  ASSERT_TRUE(addresses);
  if (has_bytes()) {
    ASSERT_EQ(addresses->body.size(), 3716u);
    const auto body = addresses->as<AddressMessage>();
    EXPECT_EQ(body.header.operation, KeyValueOperation::SetAddresses);
    EXPECT_EQ(body.family, AddressFamily::kIpv4 | AddressFamily::kIpv6);
    EXPECT_EQ(body.dhcp, 0);
    const std::uint32_t v4 = body.ipv4_address_count, v6 = body.ipv6_address_count;
    EXPECT_EQ(v4, 1u);
    EXPECT_EQ(v6, 1u);
    const std::uint32_t prefix = body.ipv6_prefix_lengths[0];
    EXPECT_EQ(prefix, 64u);
    EXPECT_EQ(std::memcmp(body.ipv4_addresses[0], "\xc0\x00\x02\x11", 4), 0);
    EXPECT_EQ(std::memcmp(body.ipv4_subnets[0], "\xff\xff\xff\x00", 4), 0);
    EXPECT_EQ(std::memcmp(body.ipv4_gateways[0], "\xc0\x00\x02\x01", 4), 0);
    EXPECT_EQ(std::memcmp(body.ipv4_dns_servers[0], "\xc0\x00\x02\x35", 4), 0);
  } else {
    ASSERT_EQ(addresses->body.size(), 7428u);
    const auto body = addresses->as<AddressTextMessage>();
    EXPECT_EQ(body.operation, KeyValueOperation::SetAddresses);
    EXPECT_EQ(body.family, AddressFamily::kIpv4 | AddressFamily::kIpv6);
    EXPECT_EQ(get(body.addresses, 46), u"192.0.2.17;2001:db8::17");
    EXPECT_EQ(get(body.subnets, 32), u"255.255.255.0;64");
    EXPECT_EQ(get(body.gateways, 42), u"192.0.2.1;2001:db8::1");
    EXPECT_EQ(get(body.dns_servers, 20), u"192.0.2.53");
  }
  rig.guest.answer(*addresses, addresses->body);
  EXPECT_EQ(outcome, "done");
}

TEST_P(AddressTest, TheGuestTellsThem) {
  connect(GetParam());
  std::optional<GuestAddresses> found;
  rig.service.get_addresses("00:15:5d:01:02:03", [&](Result<GuestAddresses> got) { found = got.value(); });
  serve();
  ASSERT_TRUE(addresses);
  // What a guest says looks as what it is told.
  const auto message = set_addresses_message({{3, 0}, GetParam()}, "00:15:5d:01:02:03", wanted());
  ASSERT_TRUE(message);
  rig.guest.answer(*addresses, *message);
  EXPECT_EQ(found, wanted());
}

TEST_P(AddressTest, AnAdapterIsNamedAsGuestsSpellIt) {
  connect(GetParam());
  for (const auto& [said, sent] :
       {std::pair("00:15:5d:01:02:af", u"00:15:5D:01:02:AF"),
        std::pair("0A1B2C3D-0000-0000-0000-00000000ABCD", u"{0a1b2c3d-0000-0000-0000-00000000abcd}"),
        std::pair("{0A1B2C3D-0000-0000-0000-00000000ABCD}", u"{0a1b2c3d-0000-0000-0000-00000000abcd}"),
        std::pair("Ethernet 2", u"Ethernet 2")}) {
    addresses.reset();
    rig.service.get_addresses(said, [](const Result<GuestAddresses>&) {});
    serve();
    ASSERT_TRUE(addresses);
    const std::size_t offset = has_bytes() ? offsetof(AddressMessage, adapter) : offsetof(AddressTextMessage, adapter);
    EXPECT_EQ(get(addresses->body.data() + offset, static_cast<std::uint32_t>(std::u16string_view(sent).size() * 2)),
              sent);
    rig.guest.answer(*addresses, addresses->body);
  }
}

TEST_P(AddressTest, CountsBeyondTheFieldsAreCut) {
  connect(GetParam());
  std::optional<GuestAddresses> found;
  rig.service.get_addresses("a", [&](Result<GuestAddresses> got) { found = got.value(); });
  serve();
  ASSERT_TRUE(addresses);
  rig.guest.answer(*addresses, Bytes(addresses->body.size(), 0xff));
  ASSERT_TRUE(found);
  EXPECT_LE(found->addresses.size(), 128u);
  EXPECT_LE(found->gateways.size(), 10u);
}

TEST_P(AddressTest, AnAnswerThatIsCutShortIsSenseless) {
  connect(GetParam());
  std::string why;
  rig.service.get_addresses("a", [&](Result<GuestAddresses> got) { why = got ? "taken" : got.error().message(); });
  serve();
  rig.guest.answer(*addresses, Bytes(100));
  EXPECT_EQ(why, "the guest's answer makes no sense");
}

TEST_P(AddressTest, WhatIsNoAddressIsRefusedHere) {
  connect(GetParam());
  const auto attempt = [&](const GuestAddresses& bad) {
    rig.service.set_addresses("a", bad, note());
    return outcome;
  };
  EXPECT_EQ(attempt({}), "neither DHCP nor an IP address is wanted");
  EXPECT_EQ(attempt({.addresses = {"300.1.1.1"}, .subnets = {"255.0.0.0"}}), "'300.1.1.1' is no IP address");
  EXPECT_EQ(attempt({.addresses = {"10.0.0.1"}}), "each IP address needs its subnet mask or prefix");
  EXPECT_EQ(attempt({.addresses = {"10.0.0.1"}, .subnets = {"24"}}), "'24' is no subnet mask of an IPv4 address");
  EXPECT_EQ(attempt({.addresses = {"fe80::1"}, .subnets = {"129"}}), "'129' is no prefix length of an IPv6 address");
  EXPECT_EQ(attempt({.dhcp = true, .gateways = {"nowhere"}}), "'nowhere' is no gateway's IP address");
  EXPECT_EQ(attempt({.dhcp = true, .dns_servers = {"nowhere"}}), "'nowhere' is no DNS server's IP address");
  EXPECT_EQ(attempt({.dhcp = true}), "none yet");
}

INSTANTIATE_TEST_SUITE_P(Versions, AddressTest, testing::Values(Version{5, 0}, Version{4, 0}, Version{3, 0}),
                         [](const auto& instance) { return "Version" + std::to_string(instance.param.major); });

}  // namespace
}  // namespace bulkhead::vsp::integration
