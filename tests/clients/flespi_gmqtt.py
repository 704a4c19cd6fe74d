"""gmqtt (PyPI) the way users of flespi run it, with a token as user name.

    flespi_gmqtt.py SCENARIO URL VERSION

runs one scenario, named below, with MQTT 3.1.1 or 5, and ends with 0 when everything is as it must
be. They are what the tests of gmqtt itself ask of a broker. MQTT_USERNAME is the token.
"""

import asyncio

import gmqtt

from with_gmqtt import IS_V5, SCENARIO, URL, USERNAME, VERSION
from with_gmqtt import Client, connected, equal, payloads, soon

MESSAGES = 10


async def reconnected(client):
    """Reconnects, and waits until the broker knows; gmqtt does not."""
    await soon(client.gmqtt.reconnect())
    await soon(client.connacks.get())


async def basic():
    """Every QoS to a subscriber, and nothing after UNSUBSCRIBE."""
    publisher, subscriber = await connected("myclientid"), await connected("myclientid2")
    for topic in ("TopicA", "TopicA/B"):
        await subscriber.subscribe(topic, 2)
    for qos in range(3):
        await publisher.publish("TopicA", f"qos {qos}", qos)
    equal(payloads(await subscriber.take(3)), ["qos 0", "qos 1", "qos 2"], "basic")
    subscriber.gmqtt.unsubscribe("TopicA")
    await soon(subscriber.unsubacks.get())
    await publisher.publish("TopicA", "gone", 1)
    await publisher.publish("TopicA/B", "still there", 1)
    equal(payloads(await subscriber.take()), ["still there"], "after UNSUBSCRIBE")
    await subscriber.nothing_more()
    for client in (publisher, subscriber):
        await client.disconnect()


async def retained():
    """What is retained has RETAIN and says who published it; QoS 0 and no payload clear it."""
    publisher = await connected("myclientid")
    extra = {"user_property": [("a", "2"), ("c", "3")]} if IS_V5 else {}
    for qos, name in enumerate("BCD"):
        await publisher.publish(f"TopicA/{name}", f"ret qos {qos}", qos, retain=True, **extra)
    await publisher.settle()
    subscriber = await connected("myclientid2")
    await subscriber.subscribe("TopicA/+", 2)
    got = sorted(await subscriber.take(3), key=lambda it: it[0])
    equal(payloads(got), ["ret qos 0", "ret qos 1", "ret qos 2"], "retained")
    equal([(it[2], it[3]["retain"]) for it in got], [(0, 1), (1, 1), (2, 1)], "QoS and RETAIN")
    for message in got if IS_V5 else ():
        properties = message[3]["user_property"]
        equal(properties[:2], [("a", "2"), ("c", "3")], "user properties of the publisher")
        stamps = dict(properties[2:])
        equal(sorted(stamps), ["cid", "timestamp", "token_id"], "user properties of the broker")
        equal(stamps["cid"], "1", "cid")
        assert float(stamps["timestamp"]) > 1.6e9, stamps
    await publisher.publish("TopicA/B", "live", 1, retain=True)
    equal((await subscriber.take())[0][3]["retain"], 0, "RETAIN of a live message")
    for name in "BCD":
        await publisher.publish(f"TopicA/{name}", b"", 0, retain=True)
    await publisher.settle()
    late = await connected("late")
    await late.subscribe("TopicA/+", 2)
    await late.nothing_more()
    for client in (publisher, subscriber, late):
        await client.disconnect()


async def offline():
    """A session that lasts gets what was published at QoS 1 and 2 meanwhile."""
    persistent = {"clean": False, "expiry_secs": 99_999}
    sleeper = await connected("myclientid", **persistent)
    await sleeper.subscribe("TopicA/#", 2)
    await sleeper.disconnect()
    publisher = await connected("myclientid2")
    for qos in range(3):
        await publisher.publish("TopicA/C", f"qos {qos}", qos)
    await publisher.settle()
    sleeper = Client("myclientid", **persistent)
    equal(await sleeper.connect(), 1, "session present")
    equal(sorted(payloads(await sleeper.take(2))), ["qos 1", "qos 2"], "what waited")
    await sleeper.nothing_more()
    for client in (publisher, sleeper):
        await client.disconnect()


async def will():
    """A will is sent when its client says so or vanishes, and not when it leaves gently."""
    watcher = await connected("myclientid2")
    await watcher.subscribe("TopicA/C", 1)
    message = gmqtt.Message("TopicA/C", "I am gone", qos=1)
    mortal = await connected("myclientid3", will=message)
    await mortal.disconnect()
    # Under a name of its own: it would take over a connection whose DISCONNECT is not yet read.
    mortal = await connected("myclientid4", will=message)
    if IS_V5:
        await soon(mortal.gmqtt.disconnect(reason_code=4))
    else:
        await mortal.vanish()
    equal(payloads(await watcher.take()), ["I am gone"], "the will")
    await watcher.nothing_more()
    await watcher.disconnect()


async def shared():
    """Ten messages reach two members once each, and both get some; a plain topic reaches both."""
    members = [await connected(name) for name in ("myclientid", "myclientid2")]
    for member in members:
        await member.subscribe("$share/sharename/x", 1)
        await member.subscribe("TopicA", 1)
    publisher = await connected("myclient3")
    for number in range(MESSAGES):
        await publisher.publish("TopicA", f"message {number}", 0)
    want = [f"message {number}" for number in range(MESSAGES)]
    for member in members:
        equal(payloads(await member.take(MESSAGES)), want, "to both")
    for number in range(MESSAGES):
        await publisher.publish("x", f"message {number}", 0)
    await publisher.publish("TopicA", "end", 1)
    shares = []
    for member in members:
        share = []
        while (got := (await member.take())[0])[1] != b"end":
            share.append(got[1].decode())
        shares.append(share)
    equal(sorted(shares[0] + shares[1]), want, "each once")
    assert all(shares), f"both get some: {shares}"
    for client in (*members, publisher):
        await client.disconnect()


async def overlapping():
    """Overlapping subscriptions give one copy, with all identifiers and the highest QoS."""
    subscriber, publisher = await connected("myclientid"), await connected("myclientid2")
    named = lambda number: {"subscription_identifier": number} if IS_V5 else {}
    await subscriber.subscribe("TopicA/D", 2, **named(21))
    await subscriber.subscribe("TopicA/#", 1, **named(42))
    await publisher.publish("TopicA/D", "overlapping topic filters", 2)
    ((_, _, qos, properties),) = await subscriber.take()
    equal(qos, 2, "QoS")
    if IS_V5:
        equal(sorted(properties["subscription_identifier"]), [21, 42], "identifiers")
    await subscriber.nothing_more()
    for client in (publisher, subscriber):
        await client.disconnect()


async def redelivery():
    """What a client has not acknowledged comes again with DUP when it is back [MQTT-4.4.0-1]; what
    it has refused does not [MQTT-4.4.0-2]."""
    persistent = {"clean": False, "expiry_secs": 99_999, "optimistic_acknowledgement": False}
    client = await connected("myclientid3", **persistent)
    seen, never, refuse = asyncio.Queue(), asyncio.Event(), False

    async def on_message(_client, topic, payload, qos, properties):
        seen.put_nowait((payload.decode(), properties["dup"]))
        if not refuse:
            await never.wait()
        return 131

    client.gmqtt.on_message = on_message
    await client.subscribe("TopicA/#", 2)
    publisher = await connected("myclientid")
    await publisher.publish("TopicA/B", "one", 1)
    await publisher.publish("TopicA/D", "two", 2)
    equal([await soon(seen.get()) for _ in range(2)], [("one", 0), ("two", 0)], "at first")
    refuse = IS_V5
    await reconnected(client)
    equal([await soon(seen.get()) for _ in range(2)], [("one", 1), ("two", 1)], "once more")
    if IS_V5:
        await client.settle()
        await reconnected(client)
        await publisher.publish("TopicA/B", "three", 1)
        equal(await soon(seen.get()), ("three", 0), "after a refusal")
    # What hangs is let go, or it would complain of its end.
    never.set()
    for each in (client, publisher):
        await each.disconnect()


async def request_response():
    """An answer goes to the response topic with the data of its question."""
    asking, answering = await connected("myclientid"), await connected("myclientid2")
    await asking.subscribe("response/topic", 1)
    await answering.subscribe("request/topic", 1)
    extra = {"response_topic": "response/topic", "correlation_data": b"334"}
    await asking.publish("request/topic", "request", 1, **extra)
    ((_, _, _, properties),) = await answering.take()
    topic, data = properties["response_topic"][0], properties["correlation_data"][0]
    await answering.publish(topic, "response", 1, correlation_data=data)
    ((_, payload, _, properties),) = await asking.take()
    equal((payload, properties["correlation_data"]), (b"response", [b"334"]), "the answer")
    for client in (asking, answering):
        await client.disconnect()


async def assigned():
    """A client without a name is given one, and is told (3.8)."""
    names = []
    for _ in range(2):
        client = Client("")
        # gmqtt of today would make one up.
        client.gmqtt._client_id = ""
        await client.connect()
        names += client.properties["assigned_client_identifier"]
        await client.disconnect()
    assert len(set(names)) == 2 and all(names), names


async def subscribe_property():
    """A user property that means nothing in SUBSCRIBE is ignored (9.10), and options hold."""
    client = await connected("myclientid")
    await client.publish("TopicA/B", "old", 1, retain=True)
    extra = {"user_property": [("key", "value"), ("any", "thing")], "retain_handling_options": 2}
    await client.subscribe("TopicA/B", 1, **extra)
    await client.publish("TopicA/B", "new", 1, retain=True)
    equal(payloads(await client.take()), ["new"], "no retained message")
    await client.subscribe("TopicA/C", 1, no_local=True)
    await client.publish("TopicA/C", "own", 1)
    await client.nothing_more()
    await client.disconnect()


async def stranger():
    """A token that nobody knows is refused for good: gmqtt does not try again (3.7)."""
    client = Client("myclientid")
    client.gmqtt.set_auth_credentials(USERNAME[:-1] + ("b" if USERNAME[-1] == "a" else "a"))
    try:
        await soon(client.gmqtt.connect(URL.hostname, URL.port, version=VERSION))
    except gmqtt.mqtt.handler.MQTTConnectError as error:
        assert str(error).startswith(f"code {134 if IS_V5 else 5} "), error
    else:
        raise AssertionError("it came in")


if __name__ == "__main__":
    asyncio.run(globals()[SCENARIO]())
    print("ok")
