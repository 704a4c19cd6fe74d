"""paho-mqtt (PyPI) against a broker.

    with_paho.py SCENARIO URL VERSION [CA]

runs one scenario, named below, with MQTT 3.1, 3.1.1 or 5, and ends with 0 when everything is as it
must be. URL is one of mqtt, mqtts, ws and wss; CA signs the certificate of the broker.
"""

import queue
import socket
import sys
import time
from urllib.parse import urlparse

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE_SECS = 60
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}

SCENARIO = sys.argv[1]
URL = urlparse(sys.argv[2])
VERSION = VERSIONS[sys.argv[3]]
CA = sys.argv[4] if len(sys.argv) > 4 else None
IS_V5 = VERSION == mqtt.MQTTv5


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def properties(packet, **values):
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Client:
    """A client whose callbacks become queues that can be waited on."""

    def __init__(self, name, clean=True, expiry_secs=0, keep_alive_secs=60):
        transport = "websockets" if URL.scheme in ("ws", "wss") else "tcp"
        self.clean, self.expiry_secs, self.keep_alive_secs = clean, expiry_secs, keep_alive_secs
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name,
            clean_session=None if IS_V5 else clean,
            protocol=VERSION,
            transport=transport,
            reconnect_on_failure=False,
        )
        if URL.scheme in ("mqtts", "wss"):
            self.paho.tls_set(ca_certs=CA)
        self.connacks, self.subacks, self.unsubacks = queue.Queue(), queue.Queue(), queue.Queue()
        self.messages, self.ends, self.acks = queue.Queue(), queue.Queue(), queue.Queue()
        self.paho.on_connect = lambda _c, _u, flags, code, props: self.connacks.put(
            (flags.session_present, code, props)
        )
        self.paho.on_subscribe = lambda _c, _u, _mid, codes, _p: self.subacks.put(codes)
        self.paho.on_unsubscribe = lambda _c, _u, _mid, codes, _p: self.unsubacks.put(codes)
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_publish = lambda _c, _u, _mid, code, _p: self.acks.put(code)
        self.paho.on_disconnect = lambda _c, _u, _f, code, _p: self.ends.put(code)

    def connect(self):
        """Connects; gives session present and, from version 5 on, the properties of CONNACK."""
        extra = {}
        if IS_V5:
            extra["clean_start"] = self.clean
            extra["properties"] = properties(
                PacketTypes.CONNECT, SessionExpiryInterval=self.expiry_secs
            )
        self.paho.connect(URL.hostname, URL.port, self.keep_alive_secs, **extra)
        self.paho.loop_start()
        present, code, props = self.connacks.get(timeout=PATIENCE_SECS)
        assert not code.is_failure, f"refused: {code}"
        return present, props

    def subscribe(self, topic_filter, qos, **extra):
        self.paho.subscribe(topic_filter, qos, **extra)
        codes = self.subacks.get(timeout=PATIENCE_SECS)
        granted = [code.value for code in codes]
        equal(granted, [qos], f"granted for {topic_filter}")

    def unsubscribe(self, topic_filter):
        self.paho.unsubscribe(topic_filter)
        self.unsubacks.get(timeout=PATIENCE_SECS)

    def publish(self, topic, payload, qos, retain=False, props=None):
        """Publishes, and waits until it is acknowledged as its quality of service has it."""
        self.paho.publish(topic, payload, qos, retain, props).wait_for_publish(PATIENCE_SECS)
        return self.acks.get(timeout=PATIENCE_SECS)

    def take(self, count=1):
        return [self.messages.get(timeout=PATIENCE_SECS) for _ in range(count)]

    def nothing_more(self):
        """Nothing waits: what comes next is what is sent now."""
        self.subscribe("nothing/more", 1)
        self.publish("nothing/more", self.paho._client_id, 1)
        equal(self.take()[0].topic, "nothing/more", "after everything")

    def settle(self):
        """What was acknowledged before this has reached the broker: one stream, one order."""
        self.publish("nobody/listens", "x", 1)

    def disconnect(self):
        self.paho.disconnect()
        self.ends.get(timeout=PATIENCE_SECS)
        self.paho.loop_stop()

    def vanish(self):
        """The network breaks: no DISCONNECT."""
        raw = self.paho.socket()
        raw = getattr(raw, "_socket", raw)
        socket.socket.shutdown(raw, socket.SHUT_RDWR)
        self.ends.get(timeout=PATIENCE_SECS)
        self.paho.loop_stop()


def connected(name, **extra):
    client = Client(name, **extra)
    client.connect()
    return client


def payloads(messages):
    return [message.payload.decode() for message in messages]


def delivery():
    """Every QoS to every QoS, in order, the lower of both on arrival."""
    sizes = [0, 1, 127, 128, 5_000, 70_000]
    publisher = connected("publisher")
    for granted in range(3):
        subscriber = connected(f"subscriber-{granted}")
        subscriber.subscribe("delivery/+/#", granted)
        for qos in range(3):
            topic = f"delivery/{granted}/{qos}"
            for size in sizes:
                publisher.publish(topic, bytes([65 + qos]) * size, qos)
            got = subscriber.take(len(sizes))
            equal([len(it.payload) for it in got], sizes, topic)
            equal({it.qos for it in got}, {min(qos, granted)}, f"QoS of {topic}")
            equal({it.retain for it in got}, {False}, f"retain of {topic}")
        subscriber.unsubscribe("delivery/+/#")
        publisher.publish("delivery/no/more", "x", 1)
        subscriber.nothing_more()
        subscriber.disconnect()
    publisher.disconnect()


def burst():
    """Many messages in flight at once arrive exactly, and in order."""
    count = 2_000
    publisher, subscriber = Client("publisher"), connected("subscriber")
    publisher.paho.max_inflight_messages_set(200)
    publisher.connect()
    for qos in (1, 2):
        subscriber.subscribe(f"burst/{qos}", qos)
        for number in range(count):
            publisher.paho.publish(f"burst/{qos}", str(number), qos)
        got = payloads(subscriber.take(count))
        equal(got, [str(number) for number in range(count)], f"burst at QoS {qos}")
    subscriber.nothing_more()
    subscriber.disconnect()
    publisher.disconnect()


def retained():
    """The last retained message greets a subscriber, until it is cleared."""
    publisher = connected("publisher")
    for qos in range(3):
        publisher.publish(f"retained/{qos}", "old", qos, retain=True)
        publisher.publish(f"retained/{qos}", f"new {qos}", qos, retain=True)
    subscriber = connected("subscriber")
    subscriber.subscribe("retained/#", 2)
    got = sorted(subscriber.take(3), key=lambda it: it.topic)
    equal(payloads(got), ["new 0", "new 1", "new 2"], "retained")
    equal([(it.qos, it.retain) for it in got], [(0, True), (1, True), (2, True)], "flags")
    publisher.publish("retained/1", "live", 1, retain=True)
    equal([it.retain for it in subscriber.take()], [False], "retain of a live message")
    for qos in range(3):
        publisher.publish(f"retained/{qos}", None, 1, retain=True)
    equal(payloads(subscriber.take(3)), ["", "", ""], "live clears")
    late = connected("late")
    late.subscribe("retained/#", 2)
    late.nothing_more()
    for client in (publisher, subscriber, late):
        client.disconnect()


def will():
    """A will is sent when the network breaks, and not after DISCONNECT."""
    watcher = connected("watcher")
    watcher.subscribe("will/#", 2)
    for qos in range(3):
        client = Client(f"mortal-{qos}")
        client.paho.will_set(f"will/{qos}", f"gone {qos}", qos, retain=True)
        client.connect()
        client.vanish()
        (got,) = watcher.take()
        equal((got.topic, got.payload, got.qos), (f"will/{qos}", b"gone %d" % qos, qos), "will")
    polite = Client("polite")
    polite.paho.will_set("will/polite", "never", 1)
    polite.connect()
    polite.disconnect()
    watcher.nothing_more()
    heir = connected("heir")
    heir.subscribe("will/#", 2)
    equal({it.retain for it in heir.take(3)}, {True}, "wills that were retained")
    watcher.disconnect()
    heir.disconnect()


def session():
    """What a persistent session misses waits for it, in order; its subscriptions last."""
    name = "sleeper"
    sleeper = Client(name, clean=False, expiry_secs=3_600)
    equal(sleeper.connect()[0], False, "session present at first")
    for qos in range(3):
        sleeper.subscribe(f"session/{qos}", qos)
    sleeper.disconnect()
    publisher = connected("publisher")
    for number in range(100):
        publisher.publish(f"session/{1 + number % 2}", str(number), 1 + number % 2)
    sleeper = Client(name, clean=False, expiry_secs=3_600)
    equal(sleeper.connect()[0], VERSION != mqtt.MQTTv31, "session present")
    got = sleeper.take(100)
    for qos in (1, 2):
        mine = [it.payload.decode() for it in got if it.topic == f"session/{qos}"]
        equal(mine, [str(it) for it in range(qos - 1, 100, 2)], f"what waited at QoS {qos}")
    publisher.publish("session/0", "still subscribed", 0)
    equal(payloads(sleeper.take()), ["still subscribed"], "after the reconnect")
    # What comes again after the network broke is only what was not acknowledged.
    sleeper.settle()
    sleeper.vanish()
    publisher.publish("session/1", "while broken", 1)
    sleeper = Client(name, clean=False, expiry_secs=3_600)
    sleeper.connect()
    equal(payloads(sleeper.take()), ["while broken"], "after the network broke")
    sleeper.disconnect()
    fresh = Client(name)
    equal(fresh.connect()[0], False, "session present after a clean start")
    publisher.publish("session/1", "for nobody", 1)
    fresh.nothing_more()
    fresh.disconnect()
    publisher.disconnect()


def takeover():
    """A second client of the same name ends the first."""
    first = connected("twin")
    second = connected("twin")
    code = first.ends.get(timeout=PATIENCE_SECS)
    if IS_V5:
        equal(code.value, 0x8E, "why the first ended")
    first.paho.loop_stop()
    second.nothing_more()
    second.disconnect()


def keep_alive():
    """An idle client pings and stays."""
    pings = queue.Queue()
    # On a machine that is busy it is to be late by half of that, and no more.
    client = Client("idle", keep_alive_secs=3)
    client.paho.on_log = lambda _c, _u, _l, text: pings.put(text) if "PINGRESP" in text else None
    client.connect()
    for _ in range(2):
        pings.get(timeout=PATIENCE_SECS)
    client.nothing_more()
    client.disconnect()


def shared():
    """Each message goes to one of the group, and both get some."""
    members = [connected(f"member-{number}") for number in range(2)]
    for member in members:
        member.subscribe("$share/group/shared/+", 1)
    publisher = connected("publisher")
    for number in range(100):
        publisher.publish(f"shared/{number % 3}", str(number), 1)
    got = []
    deadline = time.monotonic() + PATIENCE_SECS
    while sum(map(len, got)) < 100 and time.monotonic() < deadline:
        got = [list(member.messages.queue) for member in members]
        time.sleep(0.01)
    for member in members:
        member.messages.queue.clear()
        member.nothing_more()
        member.disconnect()
    equal(sorted(int(it) for part in got for it in payloads(part)), list(range(100)), "shared")
    assert all(got), "one member got nothing"
    publisher.disconnect()


def user_properties():
    """What version 5 carries with a message arrives as it was sent."""
    subscriber, publisher = connected("subscriber"), connected("publisher")
    subscriber.subscribe("properties", 1)
    sent = properties(
        PacketTypes.PUBLISH,
        PayloadFormatIndicator=1,
        MessageExpiryInterval=1_000,
        ContentType="text/plain",
        ResponseTopic="answer/here",
        CorrelationData=b"\x00\xff",
        UserProperty=[("b", "1"), ("a", "2"), ("b", "1"), ("", "")],
    )
    publisher.publish("properties", "text", 1, props=sent)
    got = subscriber.take()[0].properties
    equal(got.PayloadFormatIndicator, 1, "payload format")
    assert 900 <= got.MessageExpiryInterval <= 1_000, got.MessageExpiryInterval
    equal(got.ContentType, "text/plain", "content type")
    equal(got.ResponseTopic, "answer/here", "response topic")
    equal(got.CorrelationData, b"\x00\xff", "correlation data")
    equal(got.UserProperty, sent.UserProperty, "user properties")
    code = publisher.publish("nobody/listens", "x", 1)
    equal(code.value, 0x10, "the answer when nobody subscribes")
    subscriber.disconnect()
    publisher.disconnect()


def message_expiry():
    """A message past its expiry is not delivered; the rest of the time goes with one that is."""
    sleeper = connected("sleeper", clean=False, expiry_secs=3_600)
    sleeper.subscribe("expiry", 1)
    sleeper.disconnect()
    publisher = connected("publisher")
    for payload, secs in (("short", 1), ("long", 1_000)):
        props = properties(PacketTypes.PUBLISH, MessageExpiryInterval=secs)
        publisher.publish("expiry", payload, 1, props=props)
        publisher.publish(f"kept/{payload}", payload, 1, retain=True, props=props)
    # Nothing but time makes a message expire.
    time.sleep(2.1)
    sleeper = connected("sleeper", clean=False, expiry_secs=3_600)
    (got,) = sleeper.take()
    equal(got.payload, b"long", "what did not expire")
    assert 900 <= got.properties.MessageExpiryInterval <= 998, got.properties
    sleeper.subscribe("kept/#", 1)
    (got,) = sleeper.take()
    equal(got.payload, b"long", "what is still retained")
    sleeper.nothing_more()
    sleeper.disconnect()
    publisher.disconnect()


def request_response():
    """A responder answers where it is asked to, with the correlation data of the question."""
    responder, requester = connected("responder"), connected("requester")
    responder.subscribe("question", 2)
    requester.subscribe("answer/requester", 2)
    for number in range(10):
        asked = properties(
            PacketTypes.PUBLISH, ResponseTopic="answer/requester", CorrelationData=b"%d" % number
        )
        requester.publish("question", str(number), 2, props=asked)
        (question,) = responder.take()
        answer = properties(
            PacketTypes.PUBLISH, CorrelationData=question.properties.CorrelationData
        )
        square = str(int(question.payload) ** 2)
        responder.publish(question.properties.ResponseTopic, square, 2, props=answer)
        (got,) = requester.take()
        equal((got.payload, got.properties.CorrelationData), (b"%d" % number**2, b"%d" % number),
              "answer")
    responder.disconnect()
    requester.disconnect()


def subscribe_options():
    """No local, retain as published, retain handling, and subscription identifiers."""
    client, other = connected("client"), connected("other")
    other.publish("options/kept", "kept", 1, retain=True)

    def subscribe(topic_filter, identifier, **options):
        # paho takes filter and options as one pair.
        props = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier)
        client.paho.subscribe([(topic_filter, SubscribeOptions(**options))], properties=props)
        equal([it.value for it in client.subacks.get(timeout=PATIENCE_SECS)], [1], "granted")

    subscribe("options/kept", 7, qos=1)
    (got,) = client.take()
    equal((got.retain, got.properties.SubscriptionIdentifier), (True, [7]), "retained")
    again = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
    subscribe("options/kept", 8, qos=1, retainHandling=again, retainAsPublished=True)
    subscribe("options/#", 9, qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
    client.nothing_more()
    other.publish("options/kept", "live", 1, retain=True)
    (got,) = client.take()
    equal(got.retain, True, "retain as published")
    equal(sorted(got.properties.SubscriptionIdentifier), [8, 9], "identifiers of both")
    subscribe("own/#", 10, qos=1, noLocal=True)
    client.publish("own/words", "mine", 1)
    other.publish("own/words", "theirs", 1)
    equal(payloads(client.take()), ["theirs"], "no local")
    client.nothing_more()
    client.disconnect()
    other.disconnect()


def nameless():
    """A client without a name gets one, and may show any credentials to an open broker."""
    client = Client("")
    client.paho.username_pw_set("anybody", "anything")
    present, props = client.connect()
    equal(present, False, "session present")
    if IS_V5:
        assert props.AssignedClientIdentifier, "no name was assigned"
    client.nothing_more()
    client.disconnect()


if __name__ == "__main__":
    globals()[SCENARIO]()
    print("ok")
