/**
 * Users of the Node client who click again as soon as they have bought; prints what they bought:
 *
 *     CLIENT=folder node clicks.js single|gathered ITEM USERS SECONDS
 *
 * Single calls are made under `grouped`, each user over a connection of its own. CLIENT is the
 * client's folder, where its modules are.
 */

const { createRequire } = require('node:module');
const { pathToFileURL } = require('node:url');

const CONNECTIONS = 2; // of the gatherer: one call is made while the answers of another are read

const [how, ...numbers] = process.argv.slice(2);
const [item, users, seconds] = numbers.map(Number);

async function clicks(user, buy, until, waits) {
  let bought = 0;
  for (let began = performance.now(); began < until; began = performance.now()) {
    const answer = await buy(`user ${user} ${bought}`);
    if (!answer.success) throw new Error(answer.reason);
    bought += 1;
    waits.push(performance.now() - began);
  }
  return bought;
}

async function main() {
  const pg = createRequire(pathToFileURL(`${process.env.CLIENT}/`))('pg');
  const { Gatherer, purchaseItem } = await import(pathToFileURL(`${process.env.CLIENT}/dist/index.js`));
  const pool = new pg.Pool({ max: users });
  const gatherer = new Gatherer(pool, { connections: CONNECTIONS });
  const idempotencyKey = 'click';
  const buy = {
    single: (user) => purchaseItem(pool, item, user, { idempotencyKey, strategy: 'grouped' }),
    gathered: (user) => gatherer.purchase(item, user, { idempotencyKey }),
  }[how];
  const connected = Array.from({ length: how === 'single' ? users : CONNECTIONS }, () => pool.connect());
  for (const client of await Promise.all(connected)) client.release();

  const waits = [];
  const began = performance.now();
  const until = began + 1000 * seconds;
  const done = await Promise.all(Array.from({ length: users }, (_, n) => clicks(n, buy, until, waits)));
  const lasted = (performance.now() - began) / 1000;
  await gatherer.close();
  await pool.end();
  waits.sort((a, b) => a - b);
  const bought = done.reduce((sum, each) => sum + each, 0);
  const told = { per_second: bought / lasted, p99_ms: waits[Math.floor(0.99 * waits.length)], bought };
  console.log(JSON.stringify(told));
}

main();
