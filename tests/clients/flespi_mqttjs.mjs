// MQTT.js the way flespi's own programs use it: over WebSocket, with a token as user name, and the
// REST API, which is at `at.rest`. See mqttjs_scenarios.mjs.

import { Client, equal, payloads, soon } from './mqttjs_scenarios.mjs';

const named = (packet) => ({ ...packet.properties?.userProperties });
const sorted = (messages) => payloads(messages).sort();

// Calls the REST API; gives `result`.
async function rest(at, method, path, body, extra = {}) {
  const headers = { Authorization: at.options.username, ...extra };
  const asked = fetch(at.rest + path, { method, headers, body: JSON.stringify(body) });
  const response = await soon(asked, path);
  const answer = await response.json();
  equal([response.status, answer.errors], [200, undefined], `${method} ${path}`);
  return answer.result;
}

// A new token of an account, with its key.
async function token(at, access, cid = 1) {
  const body = [{ info: 'of MQTT.js', ttl: 600, access }];
  const [made] = await rest(at, 'POST', '/platform/tokens', body, { 'x-flespi-cid': String(cid) });
  return made;
}

// The same broker, for another token.
const as = (at, key) => ({ ...at, options: { ...at.options, username: `FlespiToken ${key}` } });

// An account below, and a client of its own.
async function child(at, name) {
  const [{ id }] = await rest(at, 'POST', '/platform/subaccounts', [{ name }]);
  const { key } = await token(at, { type: 0 }, id);
  return { cid: id, client: await Client.connect(as(at, key), name) };
}

// The reason code of a promise that must fail.
async function refused(promise, what) {
  const code = (error) => error.code ?? error.packet?.granted?.[0] ?? String(error);
  return soon(promise.then(() => 'granted', code), what);
}

// Messages are told apart by subscription identifiers alone, live and retained ones (12.5, 12.6).
export async function identifiers(at) {
  const client = await Client.connect(at, 'panes');
  await client.publish('panes/a/1', 'old', 1, { retain: true });
  const pane = (subscriptionIdentifier) => ({ properties: { subscriptionIdentifier } });
  const of = (packet) => [packet.properties.subscriptionIdentifier].flat().sort();
  await client.subscribe('panes/a/+', 1, pane(1));
  const greeting = await client.next();
  equal([greeting.retain, of(greeting)], [true, [1]], 'retained');
  await client.subscribe('panes/#', 0, pane(2));
  equal(of(await client.next()), [2], 'retained, for another');
  await client.publish('panes/a/1', 'both', 1);
  const got = await client.next();
  equal([got.qos, of(got)], [1, [1, 2]], 'one copy for both');
  await client.subscribe('panes/a/+', 1, { ...pane(3), rh: 2 });
  await client.publish('panes/a/1', 'replaced', 1);
  equal(of(await client.next()), [2, 3], 'a new identifier');
  await soon(client.mqtt.unsubscribeAsync('panes/#'), 'UNSUBACK');
  await client.publish('panes/a/1', 'one', 1);
  equal(of(await client.next()), [3], 'the one that is left');
  await client.nothingMore();
  await client.end();
}

// CONNACK tells of the token in JSON, and never its key (11.11).
export async function connack(at) {
  const client = await Client.connect(at, 'told');
  const told = JSON.parse(named(client.connack).token);
  equal([told.cid, told.access.type, told.key], [1, 1, undefined], 'the master token');
  equal(JSON.parse(named(client.connack).subscriptions ?? '[]'), [], 'nothing yet');
  const acl = [{ uri: 'mqtt', topic: 'plant/7/#', actions: ['subscribe'] }];
  const made = await token(at, { type: 2, acl });
  const bound = await Client.connect(as(at, made.key), 'bound');
  const mine = JSON.parse(named(bound.connack).token);
  equal([mine.id, mine.cid, mine.access.acl[0].topic], [made.id, 1, 'plant/7/#'], 'an ACL token');
  equal(named(bound.connack).token.includes(made.key), false, 'the key is not told');
  await bound.end();
  await client.end();
}

// A session that lasts is told what it is subscribed to, as it subscribed (11.11).
export async function restored(at) {
  const persistent = { clean: false };
  const fast = `$filter/payload=${encodeURIComponent('speed>50')}/restored/fast`;
  let client = await Client.connect(at, 'board', persistent);
  const properties = { subscriptionIdentifier: 7 };
  await client.subscribe('restored/+/#', 1, { nl: true, rap: true, rh: 2, properties });
  await client.subscribe(fast, 0);
  await client.subscribe('$share/group/restored/shared', 1);
  await client.vanish();
  client = await Client.connect(at, 'board', persistent);
  equal(client.connack.sessionPresent, true, 'session present');
  const told = JSON.parse(named(client.connack).subscriptions);
  const find = (topic) => told.find((it) => it.topic === topic);
  equal(told.length, 3, 'subscriptions');
  const one = find('restored/+/#');
  const want = [1, true, true, 2, 7];
  const got = [one.qos, one.no_local, one.rap, one.retain_handling, one.subscription_id];
  equal(got.map(Number), want.map(Number), 'options');
  equal([find(fast).qos, find(fast).subscription_id ?? 0], [0, 0], 'with a filter');
  equal(find('$share/group/restored/shared').qos, 1, 'shared');
  const publisher = await Client.connect(at, 'publisher');
  await publisher.publish('restored/fast', '{"speed": 60}', 1);
  const [, shown] = [await client.next(), await rest(at, 'GET', '/mqtt/sessions/client_id=board')];
  equal([shown.length, shown[0].connected, shown[0].clean], [1, true, false], 'in REST');
  const path = `/mqtt/sessions/${shown[0].id}/subscriptions/all?fields=topic`;
  equal((await rest(at, 'GET', path)).length, 3, 'subscriptions in REST');
  // Each is taken back by the text it was told as (14.1.8).
  for (const { topic } of told) await soon(client.mqtt.unsubscribeAsync(topic), 'UNSUBACK');
  await publisher.publish('restored/fast', '{"speed": 60}', 1);
  await client.nothingMore();
  for (const each of [client, publisher]) await each.end();
}

// A parent sees its children, or the account that it asks for, and a child itself (6.3 to 6.6).
export async function accounts(at) {
  const watchers = [];
  const [left, right] = [await child(at, 'left'), await child(at, 'right')];
  const rows = [
    ['accounts/#', undefined, ['left', 'right', 'root']],
    ['accounts/#', String(left.cid), ['left']],
    ['accounts/#', '1', ['root']],
    [`$filter/cid=${right.cid}/accounts/#`, undefined, ['right']],
  ];
  for (const [filter, cid, want] of rows) {
    const watcher = await Client.connect(at, `watcher-${watchers.length}`);
    const options = cid && { properties: { userProperties: { cid } } };
    await watcher.subscribe(filter, 1, options);
    watchers.push([watcher, want]);
  }
  const root = await Client.connect(at, 'root');
  await left.client.subscribe('accounts/#', 1);
  const owners = [['root', root], ['left', left.client], ['right', right.client]];
  for (const [name, client] of owners) {
    const options = { retain: true, properties: { userProperties: { cid: '99', own: 'x' } } };
    await client.publish('accounts/t', name, 1, options);
  }
  const cids = { root: '1', left: String(left.cid), right: String(right.cid) };
  for (const [watcher, want] of watchers) {
    const got = await watcher.take(want.length);
    equal(sorted(got), want, 'what is seen');
    for (const packet of got) {
      const { cid, own, token_id: publisher, timestamp } = named(packet);
      equal([cid, own], [cids[packet.payload.toString()], 'x'], 'who published it');
      equal([Number(publisher) > 0, Number(timestamp) > 1.6e9], [true, true], 'stamps');
    }
    await watcher.nothingMore();
    await watcher.end();
  }
  equal(payloads(await left.client.take(1)), ['left'], 'a child sees itself');
  await left.client.nothingMore();
  const cid = { properties: { userProperties: { cid: '1' } } };
  const above = left.client.mqtt.subscribeAsync('#', { qos: 1, ...cid });
  equal(await refused(above, 'SUBACK'), 0x87, 'the account above');
  for (const client of [root, left.client, right.client]) await client.end();
}

// `$filter` as flespi's programs write it: encodeURIComponent of an expression (14.1).
export async function filters(at) {
  const all = {
    fast: `$filter/payload=${encodeURIComponent('speed>50 && name=="a/b"')}/filters/#`,
    hot: `$filter/message=${encodeURIComponent('tonumber(payload)>10 && topic~"filters/*"')}/#`,
    mine: '$filter/cid=1&payload=speed%3E50/filters/+',
  };
  const clients = {};
  for (const [name, filter] of Object.entries(all)) {
    clients[name] = await Client.connect(at, name);
    await clients[name].subscribe(filter, 1, { rh: 2 });
  }
  const publisher = await Client.connect(at, 'publisher');
  const [a, c] = ['{"speed":60,"name":"a/b"}', '{"speed":60,"name":"c"}'];
  const sent = [a, c, '{"speed":40,"name":"a/b"}', '{"name":"a/b"}', 'no JSON', '11', '9'];
  for (const payload of sent) await publisher.publish('filters/x', payload, 1);
  equal(payloads(await clients.fast.take(1)), [a], 'payload');
  equal(payloads(await clients.hot.take(1)), ['11'], 'message');
  equal(payloads(await clients.mine.take(2)), [a, c], 'cid and payload');
  for (const [name, filter] of Object.entries(all)) {
    await clients[name].nothingMore();
    await soon(clients[name].mqtt.unsubscribeAsync(filter), 'UNSUBACK');
  }
  for (const payload of sent) await publisher.publish('filters/x', payload, 1);
  for (const client of [...Object.values(clients), publisher]) {
    await client.nothingMore();
    await client.end();
  }
}

// Levels with commas stand for each of their members, live and retained (8.2).
export async function selectors(at) {
  const publisher = await Client.connect(at, 'publisher');
  const each = async (options) => {
    for (const [left, right] of ['ae', 'af', 'be', 'bf', 'ce', 'ag'].map((it) => [...it])) {
      await publisher.publish(`topic/${left}/${right}/field`, left + right, 1, options);
    }
  };
  await each({ retain: true });
  const client = await Client.connect(at, 'selector');
  const granted = client.mqtt.subscribeAsync('topic/a,b/e,f/field', { qos: 1 });
  equal((await soon(granted, 'SUBACK')).map((it) => it.qos), [1], 'one code');
  equal(sorted(await client.take(4)), ['ae', 'af', 'be', 'bf'], 'retained');
  await each({});
  equal(payloads(await client.take(4)), ['ae', 'af', 'be', 'bf'], 'live');
  await soon(client.mqtt.unsubscribeAsync('topic/a,b/e,f/field'), 'UNSUBACK');
  await each({});
  await client.nothingMore();
  for (const each of [client, publisher]) await each.end();
}

// Nothing, sent to a filter, deletes what of the account is retained there (9.7).
export async function wildcardDeletion(at) {
  const root = await Client.connect(at, 'root');
  const below = await child(at, 'below');
  for (const topic of ['delete/a/1', 'delete/a/2', 'delete/b/1', 'delete/c/1']) {
    await root.publish(topic, topic, 1, { retain: true });
  }
  await below.client.publish('delete/a/1', 'of the child', 1, { retain: true });
  const live = await Client.connect(at, 'live');
  await live.subscribe('delete/#', 1);
  await live.take(5);
  await root.publish('delete/+/2', '', 1, { retain: true });
  await root.publish('delete/a,b/+', '', 1);
  await live.nothingMore();
  const late = await Client.connect(at, 'late');
  await late.subscribe('delete/#', 1);
  equal(sorted(await late.take(2)), ['delete/c/1', 'of the child'], 'what is left');
  await late.nothingMore();
  for (const client of [root, below.client, live, late]) await client.end();
}

// The number of a token and 16 characters of its key are enough, and no less (3.4).
export async function special(at) {
  const { id, key } = await token(at, { type: 2, acl: [] });
  const options = (username, password) => ({ ...at, options: { username, password } });
  const client = await Client.connect(options(String(id), key.slice(0, 16)), 'small');
  if (at.version === 5) equal(JSON.parse(named(client.connack).token).id, id, 'the token');
  await client.end();
  const code = at.version === 5 ? 0x86 : 5;
  for (const [username, password] of [
    [String(id), key.slice(0, 15)],
    [String(id), key.slice(1, 17)],
    [String(id + 1), key.slice(0, 16)],
    [key.slice(0, 16), String(id)],
  ]) {
    const attempt = Client.connect(options(username, password), 'small');
    equal(await refused(attempt, 'CONNACK'), code, `${username.length} ${password.length}`);
  }
  // The whole key in the password is a token, too (3.2).
  const whole = await Client.connect(options('anything', `FlespiToken ${key}`), 'whole');
  await whole.end();
}

// An ACL token reads what it may of a wider filter, and is told what it may not (5.1 to 5.5).
export async function rules(at) {
  const acl = [
    { uri: 'mqtt', topic: 'plant/7,8/#', actions: ['publish', 'subscribe'] },
    { uri: 'mqtt', topic: 'command/+', actions: ['subscribe'] },
  ];
  const { key } = await token(at, { type: 2, acl });
  const bound = await Client.connect(as(at, key), 'bound');
  const master = await Client.connect(at, 'master');
  await bound.subscribe('#', 1);
  equal(await refused(bound.mqtt.subscribeAsync('other/#', { qos: 1 }), 'SUBACK'), 0x87, 'other/#');
  for (const topic of ['plant/7/pump', 'plant/9/pump', 'command/stop', 'other']) {
    await master.publish(topic, topic, 1);
  }
  equal(payloads(await bound.take(2)), ['plant/7/pump', 'command/stop'], 'narrowed');
  await bound.publish('plant/8', 'own', 1);
  equal(payloads(await bound.take(1)), ['own'], 'its own');
  for (const topic of ['command/stop', 'plant/9', 'flespi/state/x']) {
    const published = bound.mqtt.publishAsync(topic, 'no', { qos: 1 });
    equal(await refused(published, 'PUBACK'), 0x87, topic);
  }
  const reserved = master.mqtt.publishAsync('flespi/message/x', 'no', { qos: 1 });
  equal(await refused(reserved, 'PUBACK'), 0x87, 'below flespi/');
  for (const client of [bound, master]) await client.end();
}

// A publisher that asks is told how many it reached, also when it wants no other words (9.5, 9.6).
export async function counting(at) {
  for (const requestProblemInformation of [true, false]) {
    const members = [];
    for (const [name, filter] of [['a', 'count/#'], ['b', 'count/+'], ['c', 'count/x']]) {
      members.push(await Client.connect(at, name));
      await members.at(-1).subscribe(filter, 1);
    }
    const properties = { requestProblemInformation };
    const publisher = await Client.connect(at, 'publisher', { properties });
    const puback = new Promise((done) => {
      publisher.mqtt.on('packetreceive', (it) => it.cmd === 'puback' && done(it));
    });
    const userProperties = { count_subscribers: '1' };
    await publisher.publish('count/x', 'x', 1, { properties: { userProperties } });
    equal(named(await soon(puback, 'PUBACK')).subscribers_count, '3', 'subscribers');
    equal(named(await members[0].next()).count_subscribers, undefined, 'it is for the broker');
    for (const client of [...members, publisher]) await client.end();
  }
}
