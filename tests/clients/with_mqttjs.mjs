// MQTT.js (npm) in Node against a broker.
//
//     with_mqttjs.mjs SCENARIO URL VERSION [CA]
//
// runs one scenario of mqttjs_scenarios.mjs with MQTT 3.1, 3.1.1 or 5, and ends with 0 when
// everything is as it must be. CA signs the certificate of the broker. NODE_PATH leads to MQTT.js.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as scenarios from './mqttjs_scenarios.mjs';

const mqtt = createRequire(import.meta.url)('mqtt');
const [, , scenario, url, version, ca] = process.argv;
const at = {
  mqtt,
  url,
  version: { 3.1: 3, '3.1.1': 4, 5: 5 }[version],
  options: ca ? { ca: readFileSync(ca) } : {},
};

try {
  await scenarios[scenario](at);
  console.log('ok');
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
