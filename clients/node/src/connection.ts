/** Connections that are lent by a pool. */

import { createConnection } from 'node:net';

import { type Queryable, inTime } from './calls.js';

const LONGEST_CONNECT_MS = 2_000;
const LONGEST_CANCEL_MS = 1_000;
const CANCEL_REQUEST = 80877102; // of PostgreSQL's protocol

/** A `Pool` of pg. */
export interface Lender {
  connect(): Promise<Lent>;
}

/** A `PoolClient` of pg, with what its types leave out. */
export interface Lent extends Queryable {
  host?: string;
  port?: number;
  processID?: number | null;
  secretKey?: number | null;
  on(event: 'error', listener: () => void): unknown;
  off(event: 'error', listener: () => void): unknown;
  release(destroy?: boolean): void;
}

/** Its calls report what goes wrong with it. */
const ignore = () => {};

/** Connections that have answered once. */
const tried = new WeakSet<Lent>();

/** A connection that has answered, within 2 seconds. */
export async function lend(pool: Lender): Promise<Lent> {
  const connecting = connectAndTry(pool);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new Error('timeout exceeded when trying to connect'); // as the pool itself says it
    timer = setTimeout(() => reject(error), LONGEST_CONNECT_MS);
  });
  try {
    return await Promise.race([connecting, late]);
  } catch (error) {
    connecting.then((client) => giveBack(client, false), ignore);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** PgBouncer accepts clients even while it has no server for them. */
async function connectAndTry(pool: Lender): Promise<Lent> {
  const client = await pool.connect();
  client.on('error', ignore);
  if (tried.has(client)) return client;
  try {
    await inTime(client, LONGEST_CONNECT_MS).query({ text: 'SELECT 1', values: [], rowMode: 'array' });
  } catch (error) {
    giveBack(client, true);
    throw error;
  }
  tried.add(client);
  return client;
}

export function giveBack(client: Lent, isLost: boolean): void {
  client.off('error', ignore);
  client.release(isLost);
}

/** Asks the server to end the call that is under way, so that it does not hold its locks on for nobody.
 * This goes over a connection of its own, without TLS. */
export async function cancel({ host, port, processID, secretKey }: Lent): Promise<void> {
  if (!host || !port || processID == null || secretKey == null) return;
  const message = Buffer.alloc(16);
  [message.length, CANCEL_REQUEST, processID, secretKey].forEach((word, at) => message.writeInt32BE(word, 4 * at));
  const address = host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port };
  await new Promise<void>((resolve) => {
    const socket = createConnection(address, () => socket.write(message)); // who ends it before the server crashes PgBouncer 1.18
    socket.setTimeout(LONGEST_CANCEL_MS, () => socket.destroy());
    socket.on('error', ignore).on('close', () => resolve()).resume();
  });
}
