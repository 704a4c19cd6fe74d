// MQTT.js (npm) in headless Chromium against a broker.
//
//     in_chromium.mjs CHROMIUM SCENARIO[,SCENARIO]... URL VERSION [CERT]
//
// serves a page from a port of its own, so that the broker is a foreign origin to it, and runs
// scenarios of mqttjs_scenarios.mjs there, over ws or wss. Ends with 0 when all is as it must be.
// CERT is the certificate of the broker, which Chromium is told to accept. NODE_PATH leads to
// MQTT.js and playwright-core.

import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const { chromium } = require('playwright-core');
const [, , executablePath, names, url, version, cert] = process.argv;

const PAGE = `<!doctype html>
<meta charset="utf-8">
<title>MQTT.js</title>
<link rel="icon" href="data:,">
<script type="module">
  import mqtt from '/mqtt.js';
  import * as scenarios from '/scenarios.mjs';
  window.run = (name, url, version) => scenarios[name]({ mqtt, url, version, options: {} });
</script>
`;

const script = (path) => ['text/javascript', readFileSync(path)];
const bundle = join(dirname(require.resolve('mqtt/package.json')), 'dist/mqtt.esm.js');
const files = {
  '/': ['text/html', PAGE],
  '/mqtt.js': script(bundle),
  '/scenarios.mjs': script(join(import.meta.dirname, 'mqttjs_scenarios.mjs')),
};

function serve() {
  const server = createServer((request, response) => {
    const [type, body] = files[request.url] ?? ['text/plain', null];
    response.writeHead(body === null ? 404 : 200, { 'content-type': type });
    response.end(body);
  });
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done(server.address().port)));
}

// Chromium takes a certificate that nobody knows when it is told the hash of its key.
function trust() {
  if (!cert) return [];
  const key = new X509Certificate(readFileSync(cert)).publicKey;
  const hash = createHash('sha256').update(key.export({ type: 'spki', format: 'der' }));
  return [`--ignore-certificate-errors-spki-list=${hash.digest('base64')}`];
}

const quiet = ['--disable-gpu', '--disable-quic', '--no-first-run'];
const local = ['--disable-background-networking', '--disable-component-update', '--disable-sync'];
const port = await serve();
const args = ['--no-sandbox', ...quiet, ...local, ...trust()];
const browser = await chromium.launch({ executablePath, headless: true, args });
let code = 0;
try {
  const page = await browser.newPage();
  page.on('console', (message) => console.log(`page: ${message.text()}`));
  page.on('pageerror', (error) => console.log(`page: ${error}`));
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.waitForFunction(() => window.run);
  for (const name of names.split(',')) {
    console.log(name);
    const run = [name, url, { 3.1: 3, '3.1.1': 4, 5: 5 }[version]];
    await page.evaluate(([name, url, version]) => window.run(name, url, version), run);
  }
  console.log('ok');
} catch (error) {
  console.error(error);
  code = 1;
}
await browser.close();
process.exit(code);
