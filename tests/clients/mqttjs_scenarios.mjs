// What MQTT.js does with a broker, the same in Node and in a browser.
//
// Each function that is exported runs one scenario and throws when something is not as it must be,
// but for those at the foot, which other scenarios are made with.
// `at` says where and how: `mqtt` is the library, `url` the broker, `version` 3, 4 or 5, and
// `options` go into each connection.

const PATIENCE_MS = 60_000;

function equal(got, want, what) {
  const [left, right] = [JSON.stringify(got), JSON.stringify(want)];
  if (left !== right) throw new Error(`${what}: got ${left}, want ${right}`);
}

function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A client whose messages wait in a queue.
class Client {
  static async connect(at, name, extra = {}) {
    const client = new Client();
    const options = {
      clientId: name,
      protocolVersion: at.version,
      protocolId: at.version === 3 ? 'MQIsdp' : 'MQTT',
      reconnectPeriod: 0,
      ...at.options,
      ...extra,
    };
    if (at.version === 5 && options.clean === false) {
      options.properties = { sessionExpiryInterval: 3_600, ...options.properties };
    }
    client.messages = [];
    client.waiting = [];
    client.mqtt = at.mqtt.connect(at.url, options);
    client.mqtt.on('message', (topic, payload, packet) => client.arrived(packet));
    client.mqtt.on('packetreceive', (packet) => client.packets?.push(packet.cmd));
    client.ended = new Promise((done) => client.mqtt.on('close', done));
    client.connack = await soon(
      new Promise((done, fail) => client.mqtt.once('connect', done).once('error', fail)),
      'CONNACK',
    );
    return client;
  }

  arrived(packet) {
    const waiting = this.waiting.shift();
    if (waiting) waiting(packet);
    else this.messages.push(packet);
  }

  next() {
    const message = this.messages.shift();
    if (message) return message;
    return soon(new Promise((done) => this.waiting.push(done)), 'a message');
  }

  async take(count) {
    const taken = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }

  async subscribe(filter, qos, options = {}) {
    const [granted] = await soon(this.mqtt.subscribeAsync(filter, { qos, ...options }), 'SUBACK');
    equal(granted.qos, qos, `granted for ${filter}`);
  }

  // Resolves when the handshake of the quality of service is done.
  publish(topic, payload, qos, options = {}) {
    const published = this.mqtt.publishAsync(topic, payload, { qos, ...options });
    return soon(published, `the end of the handshake of ${topic}`);
  }

  // Nothing waits: what comes next is what is sent now.
  async nothingMore() {
    await this.subscribe('nothing/more', 1);
    await this.publish('nothing/more', 'now', 1);
    equal((await this.next()).topic, 'nothing/more', 'after everything');
  }

  // What was acknowledged before this has reached the broker: one stream, one order.
  async settle() {
    await this.publish('nobody/listens', 'x', 1);
  }

  async end() {
    await soon(this.mqtt.endAsync(), 'the end');
  }

  // The network breaks: no DISCONNECT.
  async vanish() {
    this.mqtt.stream.destroy();
    await soon(this.ended, 'the end');
  }
}

const payloads = (messages) => messages.map((it) => it.payload.toString());

// Every QoS to every QoS, in order, the lower of both on arrival.
export async function delivery(at) {
  const sizes = [0, 1, 127, 128, 5_000, 70_000, 1_000_000];
  const publisher = await Client.connect(at, 'publisher');
  for (const granted of [0, 1, 2]) {
    const subscriber = await Client.connect(at, `subscriber-${granted}`);
    await subscriber.subscribe('delivery/+/#', granted);
    for (const qos of [0, 1, 2]) {
      const topic = `delivery/${granted}/${qos}`;
      for (const size of sizes) await publisher.publish(topic, 'x'.repeat(size), qos);
      const got = await subscriber.take(sizes.length);
      equal(got.map((it) => it.payload.length), sizes, topic);
      equal([...new Set(got.map((it) => it.qos))], [Math.min(qos, granted)], `QoS of ${topic}`);
    }
    await soon(subscriber.mqtt.unsubscribeAsync('delivery/+/#'), 'UNSUBACK');
    await publisher.publish('delivery/no/more', 'x', 1);
    await subscriber.nothingMore();
    await subscriber.end();
  }
  await publisher.end();
}

// Many messages in flight at once arrive exactly, and in order.
export async function burst(at) {
  const count = 1_000;
  const numbers = Array.from({ length: count }, (_, number) => String(number));
  const publisher = await Client.connect(at, 'publisher');
  const subscriber = await Client.connect(at, 'subscriber');
  for (const qos of [1, 2]) {
    await subscriber.subscribe(`burst/${qos}`, qos);
    const acks = numbers.map((number) => publisher.publish(`burst/${qos}`, number, qos));
    equal(payloads(await subscriber.take(count)), numbers, `burst at QoS ${qos}`);
    await Promise.all(acks);
  }
  await subscriber.nothingMore();
  await publisher.end();
  await subscriber.end();
}

// The last retained message greets a subscriber, until it is cleared.
export async function retained(at) {
  const publisher = await Client.connect(at, 'publisher');
  for (const qos of [0, 1, 2]) {
    await publisher.publish(`retained/${qos}`, 'old', qos, { retain: true });
    await publisher.publish(`retained/${qos}`, `new ${qos}`, qos, { retain: true });
  }
  const subscriber = await Client.connect(at, 'subscriber');
  await subscriber.subscribe('retained/#', 2);
  const got = await subscriber.take(3);
  equal(payloads(got).sort(), ['new 0', 'new 1', 'new 2'], 'retained');
  equal(got.map((it) => it.retain), [true, true, true], 'retain');
  for (const qos of [0, 1, 2]) await publisher.publish(`retained/${qos}`, '', 1, { retain: true });
  equal(payloads(await subscriber.take(3)), ['', '', ''], 'live clears');
  const late = await Client.connect(at, 'late');
  await late.subscribe('retained/#', 2);
  await late.nothingMore();
  for (const client of [publisher, subscriber, late]) await client.end();
}

// A will is sent when the network breaks, and not after DISCONNECT.
export async function will(at) {
  const watcher = await Client.connect(at, 'watcher');
  await watcher.subscribe('will/#', 2);
  for (const qos of [0, 1, 2]) {
    const topic = `will/${qos}`;
    const extra = { will: { topic, payload: `gone ${qos}`, qos, retain: true } };
    const mortal = await Client.connect(at, `mortal-${qos}`, extra);
    await mortal.vanish();
    const got = await watcher.next();
    equal([got.topic, got.payload.toString(), got.qos], [topic, `gone ${qos}`, qos], 'will');
  }
  const extra = { will: { topic: 'will/polite', payload: 'never', qos: 1 } };
  const polite = await Client.connect(at, 'polite', extra);
  await polite.end();
  await watcher.nothingMore();
  await watcher.end();
}

// What a persistent session misses waits for it, in order; its subscriptions last.
export async function session(at) {
  const persistent = { clean: false };
  let sleeper = await Client.connect(at, 'sleeper', persistent);
  equal(sleeper.connack.sessionPresent, false, 'session present at first');
  for (const qos of [0, 1, 2]) await sleeper.subscribe(`session/${qos}`, qos);
  await sleeper.end();
  const publisher = await Client.connect(at, 'publisher');
  for (let number = 0; number < 100; number += 1) {
    const qos = 1 + (number % 2);
    await publisher.publish(`session/${qos}`, String(number), qos);
  }
  sleeper = await Client.connect(at, 'sleeper', persistent);
  equal(sleeper.connack.sessionPresent, at.version > 3, 'session present');
  const got = await sleeper.take(100);
  for (const qos of [1, 2]) {
    const mine = got.filter((it) => it.topic === `session/${qos}`);
    const want = Array.from({ length: 50 }, (_, at) => String(2 * at + qos - 1));
    equal(payloads(mine), want, `what waited at QoS ${qos}`);
  }
  await publisher.publish('session/0', 'still subscribed', 0);
  equal(payloads(await sleeper.take(1)), ['still subscribed'], 'after the reconnect');
  // What comes again after the network broke is only what was not acknowledged.
  await sleeper.settle();
  await sleeper.vanish();
  await publisher.publish('session/1', 'while broken', 1);
  sleeper = await Client.connect(at, 'sleeper', persistent);
  equal(payloads(await sleeper.take(1)), ['while broken'], 'after the network broke');
  await sleeper.end();
  const fresh = await Client.connect(at, 'sleeper');
  equal(fresh.connack.sessionPresent, false, 'session present after a clean start');
  await fresh.nothingMore();
  await fresh.end();
  await publisher.end();
}

// MQTT.js reconnects by itself and goes on where it was.
export async function reconnect(at) {
  const client = await Client.connect(at, 'stayer', { clean: false, reconnectPeriod: 10 });
  await client.subscribe('reconnect', 1);
  for (let round = 0; round < 5; round += 1) {
    const again = new Promise((done) => client.mqtt.once('connect', done));
    client.mqtt.stream.destroy();
    await soon(again, 'the reconnect');
    await client.publish('reconnect', String(round), 1);
    equal((await client.next()).payload.toString(), String(round), 'after the reconnect');
    // What comes again next time is only what was not acknowledged.
    await client.settle();
  }
  await client.end();
}

// An idle client pings and stays. On a machine that is busy it may be late by half of that.
export async function keepAlive(at) {
  const client = await Client.connect(at, 'idle', { keepalive: 3 });
  const pongs = () => client.packets.filter((it) => it === 'pingresp').length;
  client.packets = [];
  await soon(
    new Promise((done) => client.mqtt.on('packetreceive', () => pongs() >= 2 && done())),
    'PINGRESP',
  );
  await client.nothingMore();
  await client.end();
}

// Each message goes to one of the group, and both get some.
export async function shared(at) {
  const members = [await Client.connect(at, 'one'), await Client.connect(at, 'two')];
  for (const member of members) await member.subscribe('$share/group/shared/+', 1);
  const publisher = await Client.connect(at, 'publisher');
  const all = new Promise((done) => {
    const check = () => members[0].messages.length + members[1].messages.length >= 100 && done();
    for (const member of members) member.mqtt.on('message', check);
  });
  for (let number = 0; number < 100; number += 1) {
    await publisher.publish(`shared/${number % 3}`, String(number), 1);
  }
  await soon(all, 'all messages');
  const got = members.flatMap((it) => payloads(it.messages)).map(Number).sort((a, b) => a - b);
  equal(got, Array.from({ length: 100 }, (_, number) => number), 'shared');
  equal(members.every((it) => it.messages.length > 0), true, 'both got some');
  for (const client of [...members, publisher]) await client.end();
}

// What version 5 carries with a message arrives as it was sent.
export async function userProperties(at) {
  const subscriber = await Client.connect(at, 'subscriber');
  const publisher = await Client.connect(at, 'publisher');
  await subscriber.subscribe('properties', 1, { properties: { subscriptionIdentifier: 9 } });
  const properties = {
    payloadFormatIndicator: true,
    messageExpiryInterval: 1_000,
    contentType: 'text/plain',
    responseTopic: 'answer/here',
    correlationData: '12',
    userProperties: { b: ['1', '3'], a: '2' },
  };
  await publisher.publish('properties', 'text', 2, { properties });
  const got = (await subscriber.next()).properties;
  equal(got.payloadFormatIndicator, true, 'payload format');
  equal(got.messageExpiryInterval > 900 && got.messageExpiryInterval <= 1_000, true, 'expiry');
  equal(got.contentType, 'text/plain', 'content type');
  equal(got.responseTopic, 'answer/here', 'response topic');
  equal(got.correlationData.toString(), '12', 'correlation data');
  equal({ ...got.userProperties }, { b: ['1', '3'], a: '2' }, 'user properties');
  equal(got.subscriptionIdentifier, 9, 'subscription identifier');
  await subscriber.end();
  await publisher.end();
}

// Topic aliases in both directions stand for the topics they were set for.
export async function topicAliases(at) {
  const publisher = await Client.connect(at, 'publisher', { autoAssignTopicAlias: true });
  equal(publisher.connack.properties.topicAliasMaximum > 0, true, 'aliases are allowed');
  const properties = { topicAliasMaximum: 2 };
  const subscriber = await Client.connect(at, 'subscriber', { properties });
  await subscriber.subscribe('alias/#', 1);
  const topics = Array.from({ length: 100 }, (_, at) => `alias/${(at * 7) % 5}`);
  const acks = topics.map((topic) => publisher.publish(topic, topic, 1));
  const got = await subscriber.take(topics.length);
  equal(payloads(got), topics, 'payloads in order');
  await Promise.all(acks);
  await publisher.end();
  await subscriber.end();
}

// One message of nearly 256 MB, the largest that MQTT has.
export async function large(at) {
  const client = await Client.connect(at, 'large');
  await client.subscribe('large', 1);
  const room = 268_435_455 - 2 - 'large'.length - 2 - (at.version === 5 ? 1 : 0);
  const payload = Buffer.alloc(room);
  for (let place = 0; place < room; place += 4_093) payload[place] = place % 251;
  const published = client.mqtt.publishAsync('large', payload, { qos: 1 });
  const got = await client.next();
  equal(got.payload.length, room, 'length');
  equal(payload.equals(got.payload), true, 'the same bytes');
  await soon(published, 'PUBACK');
  await client.end();
}

export { Client, equal, payloads, soon };
