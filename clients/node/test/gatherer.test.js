/** The gatherer: exact, and no caller harms another. */

import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';

import pg from 'pg';

import { Closed, Gatherer, OutcomeUnknown, Overloaded, audit, userOrders, withRetry } from 'flashsale-client';

import {
  callsThatWait,
  callsUnderWay,
  cancelCallsThatWait,
  counting,
  freeUnits,
  killCallsThatWait,
  lock,
  lockOrders,
  nextInLine,
  now,
  open,
  openPool,
  trigger,
  until,
  untilAskedAgain,
  untilTried,
} from './shop.js';

/** A gatherer which gives up nothing because the machine is slow, or because a test takes its time. */
function patient(pool, options) {
  return new Gatherer(pool, { patienceMs: 60_000, callTimeoutMs: 60_000, ...options });
}

/** Each call waits until it has as many clicks, however slow the machine is. */
function callsOf(count) {
  return { largestBatch: count, longestWaitMs: 60_000 };
}

/** What became of each click: an answer or an error. */
async function settle(clicks) {
  return (await Promise.allSettled(clicks)).map((click) => click.value ?? click.reason);
}

function sold(answers) {
  return answers.filter((answer) => answer.success).length;
}

function underWay(pool) {
  return until(async () => (await callsThatWait(pool)) > 0);
}

const numbers = (count, from = 0) => Array.from({ length: count }, (_, n) => n + from);

test('a crowd gets exactly what there is', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool, { connections: 2 });
  const answers = await settle(numbers(2_000).map((n) => gatherer.purchase(item, n)));
  await gatherer.close();
  assert.equal(sold(answers), 100);
  assert.equal(answers.filter((answer) => answer.reason === 'out_of_stock').length, 1_900);
  assert.equal(new Set(answers.map((answer) => answer.orderId)).size, 101); // undefined is one
  assert.deepEqual(await audit(pool), []);
});

test('each caller gets its own answer', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool);
  const quantities = numbers(10, 1);
  const answers = await settle(
    quantities.map((n) => gatherer.purchase(item, n, { quantity: n, idempotencyKey: `key ${n}` })),
  );
  assert.deepEqual(answers.map((answer) => answer.quantity), quantities);
  const again = await gatherer.purchase(item, 3, { quantity: 3, idempotencyKey: 'key 3' });
  assert.ok(again.replayed);
  await gatherer.close();
});

test('a caller who leaves harms nobody', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool, callsOf(2));
  const release = await lock(t, item);
  const leave = new AbortController();
  const { signal } = leave;
  const users = [`sent ${item}`, `queued ${item}`];
  const first = [gatherer.purchase(item, 'a'), gatherer.purchase(item, users[0], { signal })];
  await underWay(pool);
  const then = [gatherer.purchase(item, users[1], { signal }), gatherer.purchase(item, 'z')];
  leave.abort(new Error('impatient'));
  const answers = settle([...first, ...then]);
  await release();
  const [a, sent, queued, z] = await answers;
  assert.equal(sold([a, z]), 2);
  assert.deepEqual([sent.message, queued.message], ['impatient', 'impatient']);
  await gatherer.close();
  // What was sent is bought all the same, what was not is not.
  assert.deepEqual(
    await Promise.all(users.map(async (user) => (await userOrders(pool, user)).success)),
    [true, false],
  );
});

test('a slow database overloads it', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool, { ...callsOf(2), queueSize: 4 });
  const release = await lock(t, item);
  const clicks = numbers(2).map((n) => gatherer.purchase(item, n));
  await underWay(pool);
  clicks.push(...numbers(4, 2).map((n) => gatherer.purchase(item, n)));
  await assert.rejects(gatherer.purchase(item, 'one too many'), Overloaded);
  await release();
  assert.equal(sold(await settle(clicks)), 6);
  assert.equal(sold(await settle(numbers(2, 6).map((n) => gatherer.purchase(item, n)))), 2);
  await gatherer.close();
});

test('clicks that are to be sent again count', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool, { ...callsOf(2), queueSize: 2 });
  const release = await lock(t, item);
  const clicks = numbers(2).map((n) => gatherer.purchase(item, n));
  await underWay(pool);
  clicks.push(...numbers(2, 2).map((n) => gatherer.purchase(item, n)));
  const since = await now(pool);
  assert.equal(await cancelCallsThatWait(pool), 1);
  await untilAskedAgain(pool, since); // the queue is empty
  const late = settle([gatherer.purchase(item, 'one too many')]);
  await release();
  assert.ok((await late)[0] instanceof Overloaded);
  assert.equal(sold(await settle(clicks)), 4);
  await gatherer.close();
});

test('it drains when it closes', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool, { connections: 2, largestBatch: 8 });
  let done = 0;
  const clicks = numbers(50).map((n) => gatherer.purchase(item, n).finally(() => (done += 1)));
  await gatherer.close();
  assert.equal(done, 50);
  assert.equal(sold(await settle(clicks)), 50);
  await assert.rejects(gatherer.purchase(item, 'late'), Closed);
});

test('it closes even if the database hangs', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool, { largestBatch: 1 });
  const release = await lock(t, item);
  const sent = gatherer.purchase(item, 'sent', { idempotencyKey: 'basket 1' });
  await underWay(pool);
  const answers = settle([sent, gatherer.purchase(item, 'queued')]);
  await gatherer.close({ withinMs: 100 });
  const [first, second] = await answers;
  assert.ok(first instanceof OutcomeUnknown);
  assert.ok(second instanceof Closed);
  await release();
});

test('a lost connection', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool, callsOf(2));
  const release = await lock(t, item);
  const keyed = gatherer.purchase(item, 'keyed', { idempotencyKey: 'basket 1' });
  const unkeyed = settle([gatherer.purchase(item, 'unkeyed')]);
  await underWay(pool);
  const queued = numbers(2).map((n) => gatherer.purchase(item, `queued ${n}`));
  assert.equal(await killCallsThatWait(pool), 1);
  assert.ok((await unkeyed)[0] instanceof OutcomeUnknown);
  await release();
  assert.equal(sold(await settle([keyed, ...queued])), 3);
  await gatherer.close();
  assert.equal(await freeUnits(pool, item), 97);
});

/** A click whose call was lost, and whose item is busy until `unlock`. */
async function lostInMidCall(t, options) {
  const { pool, item } = await open(t, 100);
  const counted = counting(pool);
  const gatherer = patient(counted, { strategy: 'nowait', ...options });
  const unlockOrders = await lockOrders(t);
  const click = settle([gatherer.purchase(item, 'alice', { idempotencyKey: 'basket 1' })]);
  await underWay(pool);
  const locked = await nextInLine(t, pool, item);
  assert.equal(await killCallsThatWait(pool), 1);
  const unlock = await locked();
  await unlockOrders();
  t.after(() => gatherer.close());
  return { pool, item, counted, gatherer, unlock, click };
}

test('busy does not tell what became of a lost call', async (t) => {
  const { pool, item, counted, unlock, click } = await lostInMidCall(t);
  let done = false;
  void click.then(() => (done = true));
  await until(() => counted.answers > 1); // the second shows that the first one was none for the click
  assert.ok(!done);
  await unlock();
  assert.ok((await click)[0].success);
  assert.equal(await freeUnits(pool, item), 99);
});

test('a lost call whose repeats are busy stays unknown', async (t) => {
  const { unlock, click } = await lostInMidCall(t, { patienceMs: 1_000 });
  assert.ok((await click)[0] instanceof OutcomeUnknown);
  await unlock();
});

test('others are served while a click rests', async (t) => {
  const { gatherer, unlock, click } = await lostInMidCall(t);
  const { item: other } = await open(t);
  assert.ok((await gatherer.purchase(other, 'bob')).success);
  await unlock();
  assert.ok((await click)[0].success);
});

test('a call takes no longer than it may', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool, { callTimeoutMs: 300 });
  const release = await lock(t, item);
  const [slow] = await settle([gatherer.purchase(item, 'slow')]);
  assert.ok(slow instanceof OutcomeUnknown);
  await release();
  // With a key it is made again if it takes too long, too.
  assert.ok((await gatherer.purchase(item, 'next', { idempotencyKey: 'basket 1' })).success);
  await gatherer.close();
});

test('a call without an answer is cancelled in the server', async (t) => {
  const { pool, item } = await open(t, 100);
  const lift = await trigger(pool, `NEW.user_id = 'slow' AND (SELECT true FROM pg_sleep(60))`, 'P0001');
  const gatherer = patient(pool, { callTimeoutMs: 300 });
  const [slow] = await settle([gatherer.purchase(item, 'slow')]);
  assert.ok(slow instanceof OutcomeUnknown);
  await until(async () => (await callsUnderWay(pool)) === 0);
  await gatherer.close();
  await lift();
});

test('a cancelled call is made again', async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool);
  const release = await lock(t, item);
  const click = gatherer.purchase(item, 'alice');
  await underWay(pool);
  const since = await now(pool);
  assert.equal(await cancelCallsThatWait(pool), 1);
  await untilAskedAgain(pool, since);
  await release();
  assert.ok((await click).success);
  await gatherer.close();
  assert.equal(await freeUnits(pool, item), 99);
});

for (const [how, endCall] of [['cancelled', cancelCallsThatWait], ['lost', killCallsThatWait]]) {
  test(`others are served while a ${how} call is repeated`, async (t) => {
    const { pool, item } = await open(t, 100);
    const { item: other } = await open(t);
    const counted = counting(pool);
    const gatherer = patient(counted, callsOf(4));
    const release = await lock(t, item);
    const clicks = numbers(4).map((n) => gatherer.purchase(item, n, { idempotencyKey: 'basket 1' }));
    await underWay(pool);
    const since = await now(pool);
    assert.equal(await endCall(pool), 1);
    await untilAskedAgain(pool, since);
    assert.deepEqual(counted.calls, [4, 2]);
    const others = numbers(4).map((n) => gatherer.purchase(other, n));
    assert.equal(await endCall(pool), 1);
    assert.equal(sold(await settle(others)), 4);
    assert.equal(counted.calls[2], 4);
    await release();
    assert.equal(sold(await settle(clicks)), 4);
    await gatherer.close();
    assert.equal(await freeUnits(pool, item), 96);
  });
}

test('cancelled calls are repeated no longer than patience', async (t) => {
  const { pool, item } = await open(t, 100);
  const counted = counting(pool);
  const gatherer = patient(counted, { ...callsOf(8), patienceMs: 100 });
  const release = await lock(t, item);
  const clicks = settle(numbers(8).map((n) => gatherer.purchase(item, n)));
  await underWay(pool);
  await sleep(100); // patience has ended
  assert.equal(await cancelCallsThatWait(pool), 1);
  assert.deepEqual((await clicks).map((error) => error.code), Array(8).fill('57014'));
  assert.deepEqual(counted.calls, [8]);
  await release();
  await gatherer.close();
});

test('a signal ends the tries', async (t) => {
  const { pool, item } = await open(t);
  const gatherer = patient(pool, { strategy: 'nowait' });
  const release = await lock(t, item);
  const leave = new AbortController();
  const options = { idempotencyKey: 'basket 1', withinMs: 60_000, signal: leave.signal };
  const click = settle([gatherer.purchaseWithRetry(item, 'alice', options)]);
  setTimeout(() => leave.abort(new Error('impatient')), 100);
  assert.equal((await click)[0].message, 'impatient');
  await release();
  await gatherer.close();
});

test('many clicks share a listener of their signal, and leave none behind', async (t) => {
  const { item } = await open(t, 100);
  const gatherer = patient(openPool(t));
  const { signal } = new AbortController();
  const listeners = () => getEventListeners(signal, 'abort').length;
  const clicks = numbers(20).map((n) => gatherer.purchase(item, n, { signal }));
  const pauses = numbers(20).map(() => pausing({ signal }));
  assert.equal(listeners(), 1);
  assert.equal(sold(await settle(clicks)), 20);
  await Promise.all(pauses);
  assert.equal(listeners(), 0);
  await gatherer.close();
});

/** Resolves when a pause between two tries has begun, and ended. */
async function pausing(options) {
  const busy = { success: false, reason: 'busy', message: '', retryable: true, retryAfterMs: 50 };
  const answers = [busy, { success: true }];
  await withRetry(async () => answers.shift(), { repeatable: true, ...options });
}

test('two who close it', async (t) => {
  const { pool, item } = await open(t);
  const gatherer = patient(pool);
  const click = gatherer.purchase(item, 'alice');
  const began = performance.now();
  await Promise.all([gatherer.close(), gatherer.close()]);
  assert.ok((await click).success);
  assert.ok(performance.now() - began < 20_000); // neither waited until its time was up
});

test('a connection whose first query was cancelled is opened again', async (t) => {
  const { pool, item } = await open(t);
  let isFirst = true;
  const cancelled = async () => {
    throw Object.assign(new Error('a late cancel'), { severity: 'ERROR', code: '57014' });
  };
  const lender = {
    async connect() {
      const client = await pool.connect();
      if (!isFirst) return client;
      isFirst = false;
      return { on() {}, off() {}, release: () => client.release(true), query: cancelled };
    },
  };
  const gatherer = patient(lender);
  assert.ok((await gatherer.purchase(item, 'alice')).success);
  await gatherer.close();
});

test('without a database', async (t) => {
  const nowhere = openPool(t, { host: '/nowhere' });
  const gatherer = patient(nowhere, { patienceMs: 200 });
  const answers = await settle(numbers(3).map((n) => gatherer.purchase(1, n)));
  assert.deepEqual(answers.map((error) => error.syscall), ['connect', 'connect', 'connect']);
  await gatherer.close();
});

test('a database that comes back', async (t) => {
  const { pool, item } = await open(t);
  const nowhere = openPool(t, { host: '/nowhere' });
  let tries = 0;
  const later = { connect: () => ((tries += 1) > 3 ? pool : nowhere).connect() };
  const gatherer = patient(later);
  assert.ok((await gatherer.purchase(item, 'alice')).success); // without a key: it was not asked
  await gatherer.close();
});

test('a connection that was never good', async (t) => {
  const { pool, item } = await open(t);
  let tries = 0;
  const connect = async () => {
    const client = await pool.connect();
    if ((tries += 1) === 1) client.connection.stream.destroy();
    return client;
  };
  const gatherer = patient({ connect });
  assert.ok((await gatherer.purchase(item, 'alice')).success); // without a key: it was not asked
  await gatherer.close();
});

test('a connection is tried once', async (t) => {
  const { item } = await open(t);
  const counted = counting(openPool(t, { max: 1 }));
  const gatherer = patient(counted);
  for (const user of numbers(3)) assert.ok((await gatherer.purchase(item, user)).success);
  await gatherer.close();
  assert.equal(counted.probes, 1);
});

test('a connect that hangs', async (t) => {
  const { pool, item } = await open(t);
  let tries = 0;
  const gatherer = patient({ connect: () => ((tries += 1) > 1 ? pool.connect() : new Promise(() => {})) });
  assert.ok((await gatherer.purchase(item, 'alice')).success);
  await gatherer.close();
});

test("wrong arguments are their callers' errors", async (t) => {
  const { pool, item } = await open(t, 100);
  const gatherer = patient(pool);
  const wrong = [
    [[item, 'alice', { quantity: 0 }], '22023'],
    [[item, ''], '22023'],
    [[item, 'x'.repeat(256)], '22023'],
    [[item, 'nul \0'], '22023'],
    [[item, null], '22004'],
    [[undefined, 'alice'], '22004'],
    [[2 ** 63, 'alice'], '22003'],
    [[item, 'alice', { quantity: 1.5 }], '22003'],
    [[item, 'half \ud800'], '22023'],
    [[item, 'alice', { idempotencyKey: '\udc00' }], '22023'],
    [[item, {}], '22023'],
    [[item, NaN], '22023'],
    [[item, 1.5], '22023'],
    [[item, 2 ** 53], '22023'],
    [[item, true], '22023'],
    [[item, Symbol('alice')], '22023'],
    [[item, 'alice', { idempotencyKey: {} }], '22023'],
  ];
  const good = numbers(20).map((n) => gatherer.purchase(item, n));
  const bad = wrong.map(([parameters]) => gatherer.purchase(...parameters));
  good.push(...numbers(20, 20).map((n) => gatherer.purchase(item, n)));
  const errors = await settle(bad);
  wrong.forEach(([parameters, code], at) => {
    assert.ok(errors[at] instanceof pg.DatabaseError, inspect(parameters));
    assert.equal(errors[at].code, code, inspect(parameters));
  });
  assert.equal(sold(await settle(good)), 40);
  await gatherer.close();
});

/** What became of the click for which a trigger raises this, and of the others of its call. */
async function cursedAndOthers(t, state) {
  const { pool, item } = await open(t, 100);
  const lift = await trigger(pool, `NEW.user_id = 'cursed'`, state);
  const gatherer = patient(pool, callsOf(40));
  const answers = await settle(numbers(40).map((n) => gatherer.purchase(item, n === 13 ? 'cursed' : n)));
  await gatherer.close();
  await lift();
  return answers;
}

for (const text of ['[]', '[{"success":true},{"success":true}]', '[null]', 'null', 'no JSON']) {
  test(`an answer of another kind tells nothing: ${text}`, async () => {
    const rows = [[text]];
    const client = { on() {}, off() {}, release() {}, query: async () => ({ rows }) };
    const gatherer = patient({ connect: async () => client });
    const [outcome] = await settle([gatherer.purchase(1, 'alice')]);
    assert.ok(outcome instanceof OutcomeUnknown, String(outcome));
    await gatherer.close();
  });
}

for (const state of ['P0001', 'SHOP1']) test(`an error of a trigger is its caller's: ${state}`, async (t) => {
  const answers = await cursedAndOthers(t, state);
  assert.equal(answers[13].message, 'not this one');
  assert.equal(sold(answers), 39);
});

for (const state of ['XX001', '54001']) test(`an error of the server is everybody's: ${state}`, async (t) => {
  const answers = await cursedAndOthers(t, state);
  assert.deepEqual(new Set(answers.map((error) => error.code)), new Set([state]));
});

for (const state of ['40001', '53200']) {
  test(`what passes is made again over the same connection: ${state}`, async (t) => {
    const { pool, item } = await open(t, 100);
    const lift = await trigger(pool, `nextval('public.tries') = 1`, state);
    const its = openPool(t);
    let opened = 0;
    its.on('connect', () => (opened += 1));
    const gatherer = patient(its);
    assert.equal(sold(await settle(numbers(3).map((n) => gatherer.purchase(item, n)))), 3);
    await gatherer.close();
    await lift();
    assert.equal(opened, 1);
  });
}

test('it answers what rests when it closes', async (t) => {
  const { pool, item } = await open(t, 100);
  const lift = await trigger(pool, `nextval('public.tries') < 4`, '40001');
  const gatherer = patient(pool);
  let done = false;
  const click = gatherer.purchase(item, 'alice').finally(() => (done = true));
  await untilTried(pool);
  await gatherer.close();
  assert.ok(done);
  assert.ok((await click).success);
  await lift();
});

test("an error about all is everybody's", async (t) => {
  const { pool, item } = await open(t);
  const gatherer = patient(pool, { strategy: 'fastest' });
  const answers = await settle(numbers(3).map((n) => gatherer.purchase(item, n)));
  assert.deepEqual(answers.map((error) => error.code), ['22023', '22023', '22023']);
  await gatherer.close();
});

test('busy is tried again', async (t) => {
  const { pool, item } = await open(t);
  const gatherer = patient(pool, { strategy: 'nowait' });
  const release = await lock(t, item);
  assert.equal((await gatherer.purchase(item, 'alice')).reason, 'busy');
  setTimeout(release, 100);
  assert.ok((await gatherer.purchaseWithRetry(item, 'alice', { withinMs: 60_000 })).success);
  await gatherer.close();
});
