// axios (npm), of the version that flespi's nodes for Node-RED have, asks what they ask: make a
// device of whatever ident a message has, and link it to a stream.
//
// FLESPI_TOKEN is the token of https://flespi.io, which must lead to a broker; NODE_PATH leads to
// axios. Ends with 0 when everything is as it must be.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const axios = createRequire(import.meta.url)('axios');
const headers = { Authorization: `FlespiToken ${process.env.FLESPI_TOKEN}` };

// The nodes take `result` and `errors` from an answer whatever its status is.
async function post(path, body) {
  const asked = axios.post(`https://flespi.io${path}`, body, { headers });
  return (await asked.catch((error) => error.response)).data;
}

// A node whose type and time were left empty sends 0 for both, and an ident as it came.
const device = (ident) => ({
  name: `device ${ident}`,
  device_type_id: 0,
  messages_ttl: 0,
  configuration: { ident },
});

try {
  const made = [];
  for (const ident of ['353451000000017', 353451000000018]) {
    const { result, errors } = await post('/gw/devices', [device(ident)]);
    assert.deepEqual([errors, result.length], [undefined, 1]);
    assert.equal(result[0].configuration.ident, String(ident));
    made.push(result[0]);
  }
  const configuration = { uri: 'http://example.com/', protocol: 'http' };
  const { result } = await post('/gw/streams', [{ name: 'on', configuration }]);
  for (const { id } of made) {
    const linked = await post(`/gw/streams/${result[0].id}/devices/${id}`, null);
    assert.equal(linked.errors, undefined);
    assert.deepEqual(linked.result[0], { stream_id: result[0].id, device_id: id });
  }
  const nowhere = await post(`/gw/streams/${result[0].id + 1}/devices/${made[0].id}`, null);
  assert.equal(nowhere.errors[0].id, result[0].id + 1);
  console.log('ok');
} catch (error) {
  console.error(error);
  process.exit(1);
}
