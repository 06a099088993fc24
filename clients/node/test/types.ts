/** What TypeScript knows of the answers; checked by tsc, never run. */

import pg from 'pg';

import { Gatherer, getOrder, purchaseItem, purchaseWithRetry, type Reason } from '../src/index.js';

export async function types(pool: pg.Pool, client: pg.Client, pooled: pg.PoolClient) {
  const answer = await purchaseItem(pool, 1, 'alice', { quantity: 2, strategy: 'grouped' });
  if (answer.success) {
    const ref: string = answer.orderRef;
    const expires: Date | null = answer.expiresAt;
    // @ts-expect-error: a success has no reason
    answer.reason;
    return [ref, expires];
  }
  const reason: Reason = answer.reason;
  // @ts-expect-error: it is no such reason
  if (reason === 'sold_out') return;
  // @ts-expect-error: a refusal has no order's status of its own
  const status: string = answer.status;

  await getOrder(client, '1-3W5N2T8KQ0');
  await purchaseWithRetry(pooled, 1, 42, { idempotencyKey: 'basket 1', withinMs: 500 });
  // @ts-expect-error: it is no such strategy
  await purchaseItem(pool, 1, 'alice', { strategy: 'fastest' });
  // @ts-expect-error: an item's id is a number
  await new Gatherer(pool).purchase('1', 'alice');
  return status;
}
