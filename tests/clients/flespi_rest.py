"""Programs of PyPI that know flespi's REST API: flespi, flespi-gateway and flespi-sdk.

    flespi_rest.py SCENARIO

runs one scenario, named below, and ends with 0 when everything is as it must be. All three ask
https://flespi.io and nobody else, so that name must lead here. FLESPI_TOKEN is the token.
"""

import asyncio
import os
import socket
import sys
import time
from urllib.parse import quote

import flespi_sdk
from flespi.rest import FlespiClient
from flespi_gateway.gateway import Device
from flespi_sdk.exception import FlespiException

TOKEN = os.environ["FLESPI_TOKEN"]
IDENT = "353451000000017"
PATIENCE_SECS = 60
# 2023-11-14T22:13:20Z, when the tracker began to speak.
BEGIN = 1_700_000_000
MESSAGES = 25

client = FlespiClient(TOKEN)


def equal(got, want, what):
    assert got == want, f"{what}: {got!r} and not {want!r}"


def result(answer):
    """The objects in an answer of the package flespi, which must be a good one."""
    assert answer.get("code") == 200 and not answer["error"], answer
    assert "errors" not in answer["message"], answer
    return answer["message"]["result"]


def until(ask, is_it, what):
    """Asks until the answer is the one; what a device says reaches its modules a little later."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not is_it(answer := ask()):
        assert time.monotonic() < deadline, f"{what}: {answer!r}"
        time.sleep(0.05)
    return answer


class Tracker:
    """A tracker that speaks Wialon IPS 1.1 to a channel."""

    def __init__(self, uri):
        host, port = uri.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), PATIENCE_SECS)
        self.lines = self.socket.makefile("rb")
        self.say(f"#L#{IDENT};NA", "#AL#1")

    def say(self, line, want):
        self.socket.sendall(line.encode() + b"\r\n")
        equal(self.lines.readline().strip().decode(), want, line)

    def drive(self, number):
        """Where it is, `number` seconds after it began, with as many km/h."""
        moment = time.strftime("%d%m%y;%H%M%S", time.gmtime(BEGIN + number))
        self.say(f"#SD#{moment};5544.6025;N;03739.6834;E;{number};215;155;7", "#ASD#1")


def hub():
    """A channel with a tracker and the device that the tracker is; numbers of both, and the
    tracker."""
    body = [{"name": "trackers", "protocol_name": "wialon_ips"}]
    (channel,) = result(client.post("/gw/channels", body))
    path = "/gw/channel-protocols/wialon_ips/device-types/all"
    of_type = result(client.get(path + "?fields=id"))[0]["id"]
    body = [{"name": "lorry", "device_type_id": of_type, "configuration": {"ident": IDENT}}]
    (device,) = result(client.post("/gw/devices", body))
    return channel["id"], device["id"], Tracker(channel["uri"])


def said(device):
    """What a device has said, once all of it is there."""
    path = f"/gw/devices/{device}/messages"
    return until(
        lambda: result(client.get(path)), lambda got: len(got) == MESSAGES, "messages of a device"
    )


def flespi():
    """Objects are made, read, changed and removed; a pull acknowledges what it has."""
    channel, device, tracker = hub()
    for number in range(MESSAGES):
        tracker.drive(number)
    equal([it["position.speed"] for it in said(device)], list(range(MESSAGES)), "what it said")
    path = f"/gw/channels/{channel}/messages"
    pulled, key = [], 0
    while True:
        data = f'{{"curr_key":{key},"limit_count":10,"delete":true}}'
        answer = client.get(f"{path}?data={data}")
        batch, key = result(answer), answer["message"]["next_key"]
        if not batch:
            break
        pulled += batch
    equal([it["position.speed"] for it in pulled], list(range(MESSAGES)), "what was pulled")
    # The last answer acknowledged the batch before it.
    equal(result(client.get(path)), [], "what is left")
    (changed,) = result(client.put(f"/gw/channels/{channel}", {"messages_ttl": 0}))
    equal(changed["messages_ttl"], 0, "the changed field")
    (stream,) = result(
        client.post(
            "/gw/streams",
            [{"name": "on", "configuration": {"protocol": "http", "uri": "http://example.com/"}}],
        )
    )
    linked = result(client.post(f"/gw/streams/{stream['id']}/devices/{device}", None))
    equal((linked[0]["stream_id"], linked[0]["device_id"]), (stream["id"], device), "the link")
    for kind, number in (("streams", stream["id"]), ("devices", device), ("channels", channel)):
        result(client.delete(f"/gw/{kind}/{number}"))
        answer = client.get(f"/gw/{kind}/{number}")
        equal(answer["message"]["errors"][0]["id"], number, "what is gone")


def flespi_gateway():
    """All that the package asks of a device."""
    _, number, tracker = hub()
    for second in range(MESSAGES):
        tracker.drive(second)
    said(number)
    device = Device(device_number=number, flespi_token=TOKEN)
    for every in (True, False):
        (found,) = device.get_devices(all=every)["result"]
        equal((found["id"], found["configuration"]), (number, {"ident": IDENT}), "the device")
    speeds = lambda answer: [it["position.speed"] for it in answer["result"]]
    equal(speeds(device.get_messages()), list(range(MESSAGES)), "all messages")
    window = {"from": BEGIN + 5, "to": BEGIN + 9, "fields": "timestamp,position.*"}
    equal(speeds(device.get_messages(data=window)), [5, 6, 7, 8, 9], "messages of a time")
    latest = device.get_messages(params={"data": '{"count": 2, "reverse": true}'})
    equal(speeds(latest), [MESSAGES - 1, MESSAGES - 2], "the latest messages")
    fast = device.get_messages(data={"filter": "position.speed>=20"})
    equal(speeds(fast), list(range(20, MESSAGES)), "messages by a filter")
    batches = list(device.iter_messages_since(BEGIN, count=10))
    equal([len(it) for it in batches], [10, 10, 5], "messages in batches")
    equal([it["position.speed"] for batch in batches for it in batch], list(range(MESSAGES)), "all")
    (telemetry,) = device.get_telemetry()["result"]
    equal(telemetry["id"], number, "whose telemetry")
    speed = {"ts": BEGIN + MESSAGES - 1, "value": MESSAGES - 1}
    equal(telemetry["telemetry"]["position.speed"], speed, "the latest speed")
    (connection,) = until(
        lambda: device.get_connections()["result"], lambda got: got, "connections"
    )
    equal((connection["ident"], connection["transport"]), (IDENT, "tcp"), "the connection")
    now = time.time()
    recent = {"data": f'{{"from": {int(now) - 600}, "to": {int(now) + 600}}}'}
    codes = until(
        lambda: [it["event_code"] for it in device.get_logs(recent)["result"]],
        lambda got: 300 in got,
        "logs",
    )
    equal(codes[0], 1, "the first of the log is that it was made")
    equal(device.get_logs()["result"], [], "a time before it was made")
    settings = {it["name"]: it for it in device.get_settings()["result"]}
    assert all(it["device_id"] == number for it in settings.values()), settings
    equal(device.get_packets(recent)["result"], [], "no raw traffic is kept")


async def flespi_sdk_account():
    """An account and its devices as flespi-sdk sees them, with metadata and what is retained."""
    _, number, tracker = hub()
    tracker.drive(7)
    until(
        lambda: result(client.get(f"/gw/devices/{number}/telemetry/all"))[0]["telemetry"],
        lambda got: got,
        "telemetry",
    )
    path = f"/gw/devices/{number}?fields=connected"
    until(lambda: result(client.get(path))[0]["connected"], lambda got: got, "the connection")
    topic = f"flespi/state/gw/devices/{number}/telemetry/position.speed"
    retained = f"/mqtt/messages/{quote(topic, safe='')}"
    until(lambda: result(client.get(retained)), lambda got: got, "what is retained of a parameter")
    account = await flespi_sdk.token_login(TOKEN)
    try:
        equal((account.id, await account.subaccounts.list()), (1, []), "the account")
        for selector in ("all", "name=lor*", '{name == "lorry"}', str(number)):
            found = await account.devices.list(selector)
            equal([it.id for it in found], [number], selector)
        device = await account.devices.get(number)
        equal(device.configuration, {"ident": IDENT}, "the configuration")
        equal(device.telemetry["position.speed"]["value"], 7, "telemetry in the object")
        assert device.enabled and device.connected, vars(device)
        equal(await device.get_name(), "lorry", "the name")
        # Values are texts, so that a client that knows nothing else can read them (R4.2).
        await device.set_metadata({"row": "3"})
        equal(await device.get_metadata_value("row"), "3", "metadata")
        await device.set_metadata_value("garage", "b")
        await device.delete_metadata_value("row")
        equal(await device.get_metadata(), {"garage": "b"}, "metadata at last")
        await account.mqtt.publish("fleet/note", "7", retained=True)
        equal((await account.mqtt.get("fleet/note"))["payload"], "7", "what is retained")
        equal((await account.mqtt.get(topic))["payload"], "7", "the state of a parameter")
    finally:
        await account.stop()
    try:
        await flespi_sdk.token_login("a" * 64)
    except FlespiException as error:
        assert "401" in str(error), error
    else:
        raise AssertionError("it came in")


if __name__ == "__main__":
    outcome = globals()[sys.argv[1]]()
    if asyncio.iscoroutine(outcome):
        asyncio.run(outcome)
    print("ok")
