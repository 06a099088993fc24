/**
 * What the tests share. The server is in the environment (PGHOST, PGPORT, ...), directly or behind a
 * pooler, and has flashsale.lock_wait = 60s.
 */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

import { createItem, itemAvailability } from 'flashsale-client';

const PATIENCE_MS = 60_000; // bounds every wait, and nothing should come near it

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

export async function callsUnderWay(pool) {
  const { rows } = await pool.query(`SELECT count(*)::int AS count FROM pg_stat_activity
    WHERE query LIKE 'SELECT flashsale.purchase%' AND state = 'active'`);
  return rows[0].count;
}

export async function killCallsThatWait(pool) {
  const kill = `SELECT count(pg_terminate_backend(pid, 60000))::int AS count ${WAITING}`;
  return (await pool.query(kill)).rows[0].count;
}

export async function cancelCallsThatWait(pool) {
  const cancel = `SELECT count(*) FILTER (WHERE pg_cancel_backend(pid))::int AS count ${WAITING}`;
  return (await pool.query(cancel)).rows[0].count;
}

/** As `lock`, and waits in line for it: returns the release once somebody else has released it. */
export async function nextInLine(t, pool, item) {
  const locked = lock(t, item);
  const waiting = WAITING.replace('purchase', 'items');
  await until(async () => (await pool.query(`SELECT count(*)::int AS count ${waiting}`)).rows[0].count > 0);
  return () => locked;
}

/** Keeps others from writing orders until the returned function is called, or the test ends. */
export function lockOrders(t) {
  return held(t, 'LOCK flashsale.orders IN EXCLUSIVE MODE');
}

/** The server's time, as a text. */
export async function now(pool) {
  return (await pool.query('SELECT clock_timestamp()::text AS now')).rows[0].now;
}

/** Until a call that began later waits for a lock. */
export async function untilAskedAgain(pool, since) {
  const sql = `SELECT count(*)::int AS count ${WAITING} AND query_start > $1::text::timestamptz`;
  await until(async () => (await pool.query(sql, [since])).rows[0].count > 0);
}

/** Lends the pool's connections, and counts the clicks of each call over them, the answers, and the
 * statements that are no calls. */
export function counting(pool) {
  const counted = {
    answers: 0,
    calls: [],
    probes: 0,
    async connect() {
      const client = await pool.connect();
      client.counted ??= countingClient(client, counted);
      return client.counted;
    },
  };
  return counted;
}

function countingClient(client, counted) {
  return {
    on: (...listener) => client.on(...listener),
    off: (...listener) => client.off(...listener),
    release: (isLost) => client.release(isLost),
    async query(query) {
      const isCall = query.values.length > 0;
      if (isCall) counted.calls.push(JSON.parse(query.values[0]).length);
      else counted.probes += 1;
      const answer = await client.query(query);
      if (isCall) counted.answers += 1;
      return answer;
    },
  };
}

/** Orders that meet the condition raise an error with this SQLSTATE, until the returned function is
 * called. `nextval('public.tries')` counts from 1; see `untilTried`. */
export async function trigger(pool, condition, state) {
  await pool.query(`CREATE SEQUENCE public.tries;
    CREATE FUNCTION no_cursed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF ${condition} THEN RAISE 'not this one' USING ERRCODE = '${state}'; END IF;
      RETURN NEW;
    END $$;
    CREATE TRIGGER no_cursed BEFORE INSERT ON flashsale.orders
    FOR EACH ROW EXECUTE FUNCTION no_cursed()`);
  return () => pool.query('DROP FUNCTION no_cursed CASCADE; DROP SEQUENCE public.tries');
}

export async function untilTried(pool) {
  await until(async () => (await pool.query('SELECT is_called FROM public.tries')).rows[0].is_called);
}

export async function until(condition) {
  const end = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < end, 'in vain');
    await sleep(10);
  }
}
