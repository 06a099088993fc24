/** Purchases with retry: after `busy`, over lost connections, up to a deadline. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

import { OutcomeUnknown, purchaseItem, purchaseWithRetry, withRetry } from 'flashsale-client';

import { callsThatWait, freeUnits, killCallsThatWait, lock, open, until } from './shop.js';

/** A pool whose connections close before the answer is passed on, `times` times. */
class AnswersGetLost {
  tries = 0;

  constructor(times) {
    this.times = times;
  }

  async query(query) {
    this.tries += 1;
    const client = new pg.Client();
    client.on('error', () => {});
    await client.connect();
    try {
      const answer = await client.query(query);
      if (this.tries > this.times) return answer;
      client.connection.stream.destroy();
      return await client.query('SELECT 1'); // rejects with the driver's error
    } finally {
      await client.end();
    }
  }
}

test('busy is tried again', async (t) => {
  const { pool, item } = await open(t);
  const release = await lock(t, item);
  setTimeout(release, 100);
  const options = { strategy: 'nowait', withinMs: 60_000 };
  const answer = await purchaseWithRetry(pool, item, 'alice', options);
  assert.ok(answer.success);
  assert.equal(await freeUnits(pool, item), 9);
});

test('after the deadline the last refusal is the answer', async (t) => {
  const { pool, item } = await open(t);
  const release = await lock(t, item);
  const options = { strategy: 'nowait', withinMs: 200 };
  assert.equal((await purchaseWithRetry(pool, item, 'alice', options)).reason, 'busy');
  await release();
});

test('a lost answer is asked for with the same key', async (t) => {
  const { pool, item } = await open(t);
  const lossy = new AnswersGetLost(2);
  const options = { idempotencyKey: 'basket 1', withinMs: 60_000 };
  const answer = await purchaseWithRetry(lossy, item, 'bob', options);
  assert.ok(answer.success && answer.replayed);
  assert.equal(lossy.tries, 3);
  assert.equal(await freeUnits(pool, item), 9);
});

test('without a key the outcome is unknown', async (t) => {
  const { pool, item } = await open(t);
  const lossy = new AnswersGetLost(1);
  await assert.rejects(purchaseWithRetry(lossy, item, 'carol'), (error) => {
    return error instanceof OutcomeUnknown && error.cause instanceof Error;
  });
  assert.equal(lossy.tries, 1);
  assert.equal(await freeUnits(pool, item), 9);
});

test('the outcome stays unknown if all answers get lost', async (t) => {
  const { pool, item } = await open(t);
  const lossy = new AnswersGetLost(Infinity);
  const options = { idempotencyKey: 'basket 1', withinMs: 300 };
  await assert.rejects(purchaseWithRetry(lossy, item, 'dave', options), OutcomeUnknown);
  assert.equal(await freeUnits(pool, item), 9);
});

test('a killed session', async (t) => {
  const { pool, item } = await open(t);
  const release = await lock(t, item);
  const options = { idempotencyKey: 'basket 1', strategy: 'atomic', withinMs: 60_000 };
  const answer = purchaseWithRetry(pool, item, 'erin', options);
  await until(async () => (await callsThatWait(pool)) > 0);
  assert.equal(await killCallsThatWait(pool), 1);
  await release();
  assert.ok((await answer).success);
  assert.equal(await freeUnits(pool, item), 9);
});

test('no connection', async () => {
  const nowhere = new pg.Pool({ host: '/nowhere' });
  await assert.rejects(purchaseWithRetry(nowhere, 1, 'frank', { withinMs: 200 }), { syscall: 'connect' });
  await nowhere.end();
});

test('wrong arguments are not tried again', async (t) => {
  const { item } = await open(t);
  const lossy = new AnswersGetLost(0);
  await assert.rejects(purchaseWithRetry(lossy, item, ''), { code: '22023' });
  assert.equal(lossy.tries, 1);
});

test('any call can be repeated', async (t) => {
  const { pool, item } = await open(t);
  let tries = 0;
  const answer = await withRetry(
    async () => {
      tries += 1;
      if (tries < 3) return { success: false, reason: 'busy', message: '', retryable: true };
      await sleep(0);
      return purchaseItem(pool, item, 'gina');
    },
    { repeatable: false },
  );
  assert.ok(answer.success);
  assert.equal(tries, 3);
});

test('a signal ends the pause between two tries', async () => {
  const hour = 3_600_000;
  const busy = { success: false, reason: 'busy', message: '', retryable: true, retryAfterMs: hour };
  const leave = new AbortController();
  const options = { repeatable: true, withinMs: 2 * hour, signal: leave.signal };
  const answer = withRetry(async () => busy, options);
  setTimeout(() => leave.abort(new Error('impatient')), 20);
  await assert.rejects(answer, { message: 'impatient' });
});

test('nothing is asked with a signal that is aborted', async () => {
  let tries = 0;
  const call = async () => {
    tries += 1;
    return { success: true };
  };
  const options = { repeatable: true, signal: AbortSignal.abort(new Error('left')) };
  await assert.rejects(withRetry(call, options), { message: 'left' });
  assert.equal(tries, 0);
});
