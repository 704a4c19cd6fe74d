"""gmqtt (PyPI) against a broker.

    with_gmqtt.py SCENARIO URL VERSION [CA]

runs one scenario, named below, with MQTT 3.1.1 or 5, and ends with 0 when everything is as it must
be. URL is one of mqtt and mqtts; CA signs the certificate of the broker. The environment may have
MQTT_USERNAME and MQTT_PASSWORD.
"""

import asyncio
import os
import ssl
import sys
from urllib.parse import urlparse

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

PATIENCE_SECS = 60
VERSIONS = {"3.1.1": MQTTv311, "5": MQTTv50}

SCENARIO = sys.argv[1]
URL = urlparse(sys.argv[2])
VERSION = VERSIONS[sys.argv[3]]
TLS = ssl.create_default_context(cafile=sys.argv[4]) if URL.scheme == "mqtts" else False
IS_V5 = VERSION == MQTTv50
USERNAME, PASSWORD = os.environ.get("MQTT_USERNAME"), os.environ.get("MQTT_PASSWORD")


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def soon(waiting):
    return asyncio.wait_for(waiting, PATIENCE_SECS)


class Client:
    """A client whose callbacks become queues that can be waited on."""

    def __init__(self, name, clean=True, expiry_secs=0, will=None, **extra):
        if IS_V5:
            extra["session_expiry_interval"] = expiry_secs
        self.gmqtt = gmqtt.Client(name, clean_session=clean, will_message=will, **extra)
        if USERNAME is not None:
            self.gmqtt.set_auth_credentials(USERNAME, PASSWORD)
        self.messages, self.subacks, self.unsubacks = (asyncio.Queue() for _ in range(3))
        self.connacks, self.ends = asyncio.Queue(), asyncio.Queue()
        self.gmqtt.on_connect = self.on_connect
        self.gmqtt.on_subscribe = lambda _c, _m, codes, _p: self.subacks.put_nowait(codes)
        self.gmqtt.on_unsubscribe = lambda _c, _m, codes: self.unsubacks.put_nowait(codes)
        self.gmqtt.on_disconnect = lambda _c, packet, exc=None: self.ends.put_nowait(packet)
        self.gmqtt.on_message = self.on_message

    def on_connect(self, _client, flags, _code, properties):
        self.properties = properties
        self.connacks.put_nowait(flags)

    def on_message(self, _client, topic, payload, qos, properties):
        self.messages.put_nowait((topic, payload, qos, properties))
        return 0

    async def connect(self):
        """Connects; gives session present."""
        await soon(self.gmqtt.connect(URL.hostname, URL.port, ssl=TLS, version=VERSION))
        return await soon(self.connacks.get())

    async def subscribe(self, topic_filter, qos, **extra):
        self.gmqtt.subscribe(topic_filter, qos, **extra)
        equal(await soon(self.subacks.get()), (qos,), f"granted for {topic_filter}")

    async def publish(self, topic, payload, qos, **extra):
        """Publishes, and waits until the handshake of the quality of service is done."""
        self.gmqtt.publish(topic, payload, qos, **extra)
        await soon(self.gmqtt._persistent_storage.wait_empty())

    async def take(self, count=1):
        return [await soon(self.messages.get()) for _ in range(count)]

    async def nothing_more(self):
        """Nothing waits: what comes next is what is sent now."""
        await self.subscribe("nothing/more", 1)
        await self.publish("nothing/more", self.gmqtt._client_id, 1)
        equal((await self.take())[0][0], "nothing/more", "after everything")

    async def settle(self):
        """What was acknowledged before this has reached the broker: one stream, one order."""
        await self.publish("nobody/listens", "x", 1)

    async def disconnect(self):
        await soon(self.gmqtt.disconnect())

    async def vanish(self):
        """The network breaks: no DISCONNECT, and it does not reconnect."""
        self.gmqtt._is_active = False
        self.gmqtt._connection._transport.abort()
        await soon(self.ends.get())


async def connected(name, **extra):
    client = Client(name, **extra)
    await client.connect()
    return client


def payloads(messages):
    return [payload.decode() for _, payload, _, _ in messages]


async def delivery():
    """Every QoS to every QoS, in order, the lower of both on arrival."""
    sizes = [0, 1, 127, 128, 5_000, 70_000]
    publisher = await connected("publisher")
    for granted in range(3):
        subscriber = await connected(f"subscriber-{granted}")
        await subscriber.subscribe("delivery/+/#", granted)
        for qos in range(3):
            topic = f"delivery/{granted}/{qos}"
            for size in sizes:
                await publisher.publish(topic, bytes([65 + qos]) * size, qos)
            got = await subscriber.take(len(sizes))
            equal([len(payload) for _, payload, _, _ in got], sizes, topic)
            equal({it[2] for it in got}, {min(qos, granted)}, f"QoS of {topic}")
        subscriber.gmqtt.unsubscribe("delivery/+/#")
        await soon(subscriber.unsubacks.get())
        await publisher.publish("delivery/no/more", "x", 1)
        await subscriber.nothing_more()
        await subscriber.disconnect()
    await publisher.disconnect()


async def retained():
    """The last retained message greets a subscriber, until it is cleared."""
    publisher = await connected("publisher")
    for qos in range(3):
        await publisher.publish(f"retained/{qos}", "old", qos, retain=True)
        await publisher.publish(f"retained/{qos}", f"new {qos}", qos, retain=True)
    subscriber = await connected("subscriber")
    await subscriber.subscribe("retained/#", 2)
    got = sorted(await subscriber.take(3), key=lambda it: it[0])
    equal(payloads(got), ["new 0", "new 1", "new 2"], "retained")
    equal([(it[2], it[3]["retain"]) for it in got], [(0, 1), (1, 1), (2, 1)], "flags")
    for qos in range(3):
        await publisher.publish(f"retained/{qos}", b"", 1, retain=True)
    equal(payloads(await subscriber.take(3)), ["", "", ""], "live clears")
    late = await connected("late")
    await late.subscribe("retained/#", 2)
    await late.nothing_more()
    for client in (publisher, subscriber, late):
        await client.disconnect()


async def wildcard_delete():
    """An empty message to a filter clears what matches, and reaches nobody."""
    publisher = await connected("publisher")
    for qos in range(3):
        for topic in ("a/1", "a/2", "b/1"):
            await publisher.publish(f"delete/{topic}", topic, 1, retain=True)
        subscriber = await connected("subscriber")
        await subscriber.subscribe("delete/#", 1)
        equal(sorted(payloads(await subscriber.take(3))), ["a/1", "a/2", "b/1"], "before")
        await publisher.publish("delete/a/+", b"", qos, retain=qos == 2)
        await publisher.settle()
        late = await connected("late")
        await late.subscribe("delete/#", 1)
        equal(payloads(await late.take()), ["b/1"], "after")
        for client in (late, subscriber):
            await client.nothing_more()
            await client.disconnect()
        await publisher.publish("#", b"", qos)
    await publisher.disconnect()


async def will():
    """A will is sent when the network breaks, and not after DISCONNECT."""
    watcher = await connected("watcher")
    await watcher.subscribe("will/#", 2)
    for qos in range(3):
        message = gmqtt.Message(f"will/{qos}", f"gone {qos}", qos=qos, retain=True)
        client = await connected(f"mortal-{qos}", will=message)
        await client.vanish()
        ((topic, payload, got_qos, _),) = await watcher.take()
        equal((topic, payload, got_qos), (f"will/{qos}", b"gone %d" % qos, qos), "will")
    message = gmqtt.Message("will/polite", "never", qos=1)
    polite = await connected("polite", will=message)
    await polite.disconnect()
    await watcher.nothing_more()
    await watcher.disconnect()


async def session():
    """What a persistent session misses waits for it, in order; its subscriptions last."""
    persistent = {"clean": False, "expiry_secs": 3_600}
    sleeper = Client("sleeper", **persistent)
    equal(await sleeper.connect(), 0, "session present at first")
    for qos in range(3):
        await sleeper.subscribe(f"session/{qos}", qos)
    await sleeper.disconnect()
    publisher = await connected("publisher")
    for number in range(100):
        await publisher.publish(f"session/{1 + number % 2}", str(number), 1 + number % 2)
    sleeper = Client("sleeper", **persistent)
    equal(await sleeper.connect(), 1, "session present")
    got = await sleeper.take(100)
    for qos in (1, 2):
        mine = [it[1].decode() for it in got if it[0] == f"session/{qos}"]
        equal(mine, [str(it) for it in range(qos - 1, 100, 2)], f"what waited at QoS {qos}")
    await publisher.publish("session/0", "still subscribed", 0)
    equal(payloads(await sleeper.take()), ["still subscribed"], "after the reconnect")
    # What comes again after the network broke is only what was not acknowledged.
    await sleeper.settle()
    await sleeper.vanish()
    await publisher.publish("session/1", "while broken", 1)
    sleeper = await connected("sleeper", **persistent)
    equal(payloads(await sleeper.take()), ["while broken"], "after the network broke")
    await sleeper.disconnect()
    fresh = Client("sleeper")
    equal(await fresh.connect(), 0, "session present after a clean start")
    await publisher.publish("session/1", "for nobody", 1)
    await fresh.nothing_more()
    await fresh.disconnect()
    await publisher.disconnect()


async def shared():
    """Each message goes to one of the group, and both get some."""
    members = [await connected(f"member-{number}") for number in range(2)]
    got = asyncio.Queue()
    for number, member in enumerate(members):
        member.gmqtt.on_message = (
            lambda _c, _t, payload, _q, _p, number=number: got.put_nowait((number, payload)) or 0
        )
        await member.subscribe("$share/group/shared/+", 2)
    publisher = await connected("publisher")
    for number in range(100):
        await publisher.publish(f"shared/{number % 3}", str(number), 1 + number % 2)
    pairs = [await soon(got.get()) for _ in range(100)]
    equal(sorted(int(payload) for _, payload in pairs), list(range(100)), "shared")
    equal({number for number, _ in pairs}, {0, 1}, "who got some")
    for client in (*members, publisher):
        await client.disconnect()


async def user_properties():
    """What version 5 carries with a message arrives as it was sent."""
    subscriber, publisher = await connected("subscriber"), await connected("publisher")
    await subscriber.subscribe("properties", 1, subscription_identifier=268_435_455)
    await publisher.publish(
        "properties",
        "text",
        2,
        payload_format_id=1,
        message_expiry_interval=1_000,
        content_type="text/plain",
        response_topic="answer/here",
        correlation_data=b"12",
        user_property=[("b", "1"), ("a", "2"), ("b", "1"), ("", "")],
    )
    ((_, _, _, got),) = await subscriber.take()
    equal(got["payload_format_id"], [1], "payload format")
    assert 900 <= got["message_expiry_interval"][0] <= 1_000, got
    equal(got["content_type"], ["text/plain"], "content type")
    equal(got["response_topic"], ["answer/here"], "response topic")
    equal(got["correlation_data"], [b"12"], "correlation data")
    equal(got["user_property"], [("b", "1"), ("a", "2"), ("b", "1"), ("", "")], "user properties")
    equal(got["subscription_identifier"], [268_435_455], "subscription identifier")
    await subscriber.disconnect()
    await publisher.disconnect()


if __name__ == "__main__":
    asyncio.run(globals()[SCENARIO]())
    print("ok")
