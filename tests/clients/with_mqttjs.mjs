// MQTT.js (npm) in Node against a broker.
//
//     with_mqttjs.mjs SCENARIO URL VERSION [CA]
//
// runs one scenario of mqttjs_scenarios.mjs or flespi_mqttjs.mjs with MQTT 3.1, 3.1.1 or 5, and ends
// with 0 when everything is as it must be. CA signs the certificate of the broker. NODE_PATH leads
// to MQTT.js. The environment may have MQTT_USERNAME and MQTT_PASSWORD, and REST_URL of the API.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as flespi from './flespi_mqttjs.mjs';
import * as all from './mqttjs_scenarios.mjs';

const mqtt = createRequire(import.meta.url)('mqtt');
const [, , scenario, url, version, ca] = process.argv;
const { MQTT_USERNAME: username, MQTT_PASSWORD: password, REST_URL: rest } = process.env;
const at = {
  mqtt,
  url,
  rest,
  version: { 3.1: 3, '3.1.1': 4, 5: 5 }[version],
  options: { username, password, ...(ca ? { ca: readFileSync(ca) } : {}) },
};

try {
  await { ...all, ...flespi }[scenario](at);
  console.log('ok');
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
