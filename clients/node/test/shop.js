/**
 * What the tests share. The server is in the environment (PGHOST, PGPORT, ...), directly or behind a
 * pooler, and has flashsale.lock_wait = 10s.
 */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

import { createItem, itemAvailability } from 'flashsale-client';

const PATIENCE_MS = 20_000; // bounds every wait, and nothing should come near it

/** A pool for one test, which survives that its sessions are killed. */
export function openPool(t, config = {}) {
  const pool = new pg.Pool({ max: 3, ...config });
  pool.on('error', () => {});
  t.after(() => pool.end());
  return pool;
}

export async function open(t, inventory = 10) {
  const pool = openPool(t);
  return { pool, item: await createItem(pool, { inventory }) };
}

export async function freeUnits(pool, item) {
  return (await itemAvailability(pool, item)).remainingInventory;
}

/** Holds the item's row until the returned function is called, or the test ends. */
export function lock(t, item) {
  return held(t, 'SELECT FROM flashsale.items WHERE item_id = $1 FOR UPDATE', [item]);
}

async function held(t, statement, parameters = []) {
  const client = new pg.Client();
  await client.connect();
  await client.query('BEGIN');
  await client.query(statement, parameters);
  let open = true;
  const release = async () => {
    if (!open) return;
    open = false;
    await client.query('ROLLBACK');
    await client.end();
  };
  t.after(release);
  return release;
}

const WAITING = `FROM pg_stat_activity
  WHERE query LIKE '%flashsale.purchase%' AND wait_event_type = 'Lock'`;

export async function callsThatWait(pool) {
  const { rows } = await pool.query(`SELECT count(*)::int AS count ${WAITING}`);
  return rows[0].count;
}

export async function killCallsThatWait(pool) {
  const kill = `SELECT count(pg_terminate_backend(pid, 10000))::int AS count ${WAITING}`;
  return (await pool.query(kill)).rows[0].count;
}

export async function cancelCallsThatWait(pool) {
  const cancel = `SELECT count(*) FILTER (WHERE pg_cancel_backend(pid))::int AS count ${WAITING}`;
  return (await pool.query(cancel)).rows[0].count;
}

/** Keeps others from writing orders until the returned function is called, or the test ends. */
export function lockOrders(t) {
  return held(t, 'LOCK flashsale.orders IN EXCLUSIVE MODE');
}

export async function until(condition) {
  const end = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < end, 'in vain');
    await sleep(10);
  }
}
