/** Each call, and its answers. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import * as flashsale from 'flashsale-client';

import { freeUnits, lock, open, openPool } from './shop.js';

async function console_(t) {
  const pool = openPool(t);
  const item = await flashsale.createItem(pool, {
    inventory: 10,
    name: 'Console',
    unitPrice: 500,
    currency: 'EUR',
    maxPerUser: 3,
  });
  return { pool, item };
}

async function buy(pool, item, user, options) {
  const answer = await flashsale.purchaseItem(pool, item, user, options);
  assert.ok(answer.success, JSON.stringify(answer));
  return answer;
}

test('from purchase to refund', async (t) => {
  const { pool, item } = await console_(t);
  const order = await buy(pool, item, 'alice', { quantity: 2, idempotencyKey: 'basket 1' });
  assert.equal(order.itemId, item);
  assert.equal(order.status, 'reserved');
  assert.equal(order.remainingInventory, 8);
  assert.equal(typeof order.orderId, 'number');
  assert.ok(order.expiresAt > new Date());
  const again = await buy(pool, item, 'alice', { quantity: 2, idempotencyKey: 'basket 1' });
  assert.ok(again.replayed);
  assert.equal(again.orderRef, order.orderRef);

  const begun = await flashsale.beginPayment(pool, order.orderRef, { paymentWindowMs: 300_000 });
  assert.deepEqual([begun.orderRef, begun.status], [order.orderRef, 'paying']);
  const charge = { paymentRef: `charge ${order.orderRef}`, amount: 1000, currency: 'EUR' };
  const confirmed = await flashsale.confirmOrder(pool, order.orderRef, charge);
  assert.deepEqual([confirmed.alreadyConfirmed, confirmed.reinstated], [false, false]);
  const other = { ...charge, paymentRef: `${charge.paymentRef} again` };
  const second = await flashsale.confirmOrder(pool, order.orderId, other);
  assert.deepEqual([second.reason, second.refundRequired], ['duplicate_payment', true]);

  const found = await flashsale.getOrder(pool, order.orderRef);
  assert.deepEqual([found.userId, found.total, found.closedAt], ['alice', 1000, null]);
  assert.deepEqual(found.payments.map((payment) => payment.status), ['paid', 'due']);
  const payment = await flashsale.findPayment(pool, other.paymentRef);
  assert.deepEqual([payment.why, payment.orderId], ['duplicate_payment', order.orderId]);
  assert.ok(payment.dueSince instanceof Date);
  const due = (await flashsale.refundsDue(pool)).filter((row) => row.orderId === order.orderId);
  assert.deepEqual(due.map((row) => row.paymentRef), [other.paymentRef]);
  const refunded = await flashsale.refundPayment(pool, other.paymentRef, { refundRef: 'refund 1' });
  assert.equal(refunded.refundRef, 'refund 1');

  const gone = await flashsale.refundOrder(pool, order.orderRef, { restock: false });
  assert.deepEqual([gone.status, gone.restored, gone.writtenOff], ['refunded', 0, 2]);
});

test('a cancelled order', async (t) => {
  const { pool, item } = await console_(t);
  const order = await buy(pool, item, 42);
  const cancelled = await flashsale.cancelOrder(pool, order.orderRef, { reason: 'changed my mind' });
  assert.deepEqual([cancelled.restored, cancelled.alreadyClosed], [1, false]);
  const begun = await flashsale.beginPayment(pool, order.orderId);
  assert.deepEqual([begun.success, begun.reason, begun.status], [false, 'order_cancelled', 'cancelled']);
});

test('an order is named by its id', async (t) => {
  const { pool, item } = await console_(t);
  const order = await buy(pool, item, 'alice');
  const other = await buy(pool, item, 'bob');
  const charge = { paymentRef: `by id ${order.orderRef}`, amount: 500, currency: 'EUR' };
  const answers = [
    await flashsale.beginPayment(pool, order.orderId),
    await flashsale.confirmOrder(pool, order.orderId, charge),
    await flashsale.refundOrder(pool, order.orderId),
    await flashsale.cancelOrder(pool, other.orderId),
  ];
  assert.deepEqual(answers.map(({ success, orderRef }) => [success, orderRef]), Array(4).fill([true, undefined]));
});

test('users are texts and numbers', async (t) => {
  const { pool, item } = await console_(t);
  const user = 1_000_000 + item; // nobody else's
  const orders = [await buy(pool, item, user), await buy(pool, item, String(user))];
  const found = await flashsale.userOrders(pool, user);
  assert.deepEqual(
    found.orders.map((order) => order.orderRef),
    orders.map((order) => order.orderRef).reverse(),
  );
});

test('refusals are answers with their fields', async (t) => {
  const { pool, item } = await console_(t);
  const order = await buy(pool, item, 'bob', { quantity: 3 });
  const limit = await flashsale.purchaseItem(pool, item, 'bob');
  assert.deepEqual([limit.success, limit.reason, limit.retryable], [false, 'user_limit_reached', false]);
  assert.deepEqual([limit.maxPerUser, limit.orderIds], [3, [order.orderId]]);
  assert.ok(limit.message);
  const release = await lock(t, item);
  const busy = await flashsale.purchaseItem(pool, item, 'carol', { strategy: 'nowait' });
  await release();
  assert.deepEqual([busy.reason, busy.retryable], ['busy', true]);
  assert.equal(typeof busy.retryAfterMs, 'number');
  const startsAt = new Date('2100-01-01');
  const later = await flashsale.createItem(pool, { inventory: 1, startsAt });
  assert.deepEqual((await flashsale.purchaseItem(pool, later, 'carol')).startsAt, startsAt);
  assert.equal((await flashsale.userOrders(pool, 'nobody')).userId, 'nobody');
});

test("wrong arguments are the driver's errors", async (t) => {
  const { pool, item } = await console_(t);
  const calls = [
    ['22023', () => flashsale.purchaseItem(pool, item, 'alice', { quantity: 0 })],
    ['22004', () => flashsale.purchaseItem(pool, item, null)],
    ['22003', () => flashsale.purchaseItem(pool, 2 ** 63, 'alice')],
    ['22004', () => flashsale.purchaseBatch(pool, [{ itemId: item }])],
    ['22023', () => flashsale.purchaseItem(pool, item, 'half \ud800')],
    ['22023', () => flashsale.purchaseItem(pool, item, 'alice', { idempotencyKey: '\udc00' })],
    ['22023', () => flashsale.purchaseItem(pool, item, {})],
    ['22023', () => flashsale.purchaseItem(pool, item, NaN)],
    ['22023', () => flashsale.userOrders(pool, Symbol('alice'))],
  ];
  for (const [code, call] of calls) await assert.rejects(call, { code });
});

test('a batch', async (t) => {
  const { pool, item } = await console_(t);
  const requests = [
    { itemId: item, userId: 'dave', quantity: 3, idempotencyKey: 'basket 1' },
    { itemId: item, userId: 'dave' },
    { itemId: item, userId: 7 },
  ];
  const answers = await flashsale.purchaseBatch(pool, requests, { strategy: 'atomic' });
  assert.deepEqual(answers.map((answer) => answer.success), [true, false, true]);
});

test("operators' calls", async (t) => {
  const { pool, item } = await console_(t);
  const options = { reason: 'delivery', idempotencyKey: 'note 1' };
  const more = await flashsale.restockItem(pool, item, 5, options);
  assert.deepEqual([more.stock, more.replayed], [15, false]);
  assert.ok((await flashsale.pauseItem(pool, item)).paused);
  const shown = await flashsale.itemAvailability(pool, item);
  assert.deepEqual([shown.name, shown.state, shown.startsAt], ['Console', 'paused', null]);
  assert.equal((await flashsale.resumeItem(pool, item)).paused, false);

  const order = await buy(pool, item, 'erin');
  await flashsale.beginPayment(pool, order.orderRef, { paymentWindowMs: 0.001 });
  const checks = await flashsale.paymentChecks(pool);
  const check = checks.find((row) => row.orderRef === order.orderRef);
  assert.deepEqual([check.amount, check.userId], [500, 'erin']);
  assert.ok((await flashsale.reconcileStaleReservations(pool)).paymentChecks >= 1);
  assert.deepEqual(await flashsale.audit(pool), []);
  assert.deepEqual(await flashsale.audit(pool, item), []);
  for (const problem of await flashsale.health(pool)) assert.ok(problem.severity);
});

test("in the application's transaction", async (t) => {
  const { pool, item } = await open(t);
  const client = await pool.connect();
  await client.query('BEGIN');
  assert.ok((await flashsale.purchaseItem(client, item, 'frank')).success);
  await client.query('ROLLBACK');
  client.release();
  assert.equal(await freeUnits(pool, item), 10);
});

test('times beyond what a Date has', async (t) => {
  const { pool } = await open(t);
  const create = `SELECT flashsale.create_item(1, starts_at => '-infinity', ends_at => 'infinity')`;
  const item = Number((await pool.query(create)).rows[0].create_item);
  const shown = await flashsale.itemAvailability(pool, item);
  assert.deepEqual([shown.startsAt, shown.endsAt], [new Date(-8.64e15), new Date(8.64e15)]);
});

test('reasons are those of the documentation', () => {
  const api = readFileSync(new URL('../../../docs/api.md', import.meta.url), 'utf8');
  const reasons = api.split('\n## Reasons\n')[1].split('\n## ')[0];
  const documented = [...reasons.matchAll(/^\| `(\w+)` \|/gm)].map(([, reason]) => reason);
  assert.deepEqual([...flashsale.REASONS].sort(), documented.sort());
});
