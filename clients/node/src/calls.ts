/**
 * A function for each of the extension's. What they do and answer is described in its docs/api.md.
 * They work on a client or a pool of the application's, also in its transaction. They prepare
 * nothing, so they work through PgBouncer in transaction mode.
 */

import { inspect } from 'node:util';

import type { QueryArrayConfig, QueryArrayResult } from 'pg';

import type {
  Answer,
  Availability,
  BrokenInvariant,
  Cancelled,
  Confirmed,
  FoundPayment,
  Order,
  OrderRefunded,
  Paused,
  PaymentBegun,
  PaymentCheck,
  PaymentRefunded,
  Problem,
  Reconciled,
  RefundDue,
  Reservation,
  Restocked,
  UserOrders,
} from './answers.js';
import { wrong } from './errors.js';
import { read } from './json.js';

/** A `Client`, `PoolClient` or `Pool` of pg. */
export interface Queryable {
  query(query: QueryArrayConfig): Promise<QueryArrayResult>;
}

export type Strategy = 'nowait' | 'optimistic' | 'atomic' | 'grouped';
/** A number stands for its text: 42 and '42' are the same user. */
export type User = string | number;
/** An order's ref, or its id. Outside the database use the ref. */
export type OrderName = string | number;

type Parameter = [type: string, value: unknown];

async function ask<T>(client: Queryable, name: string, ...parameters: Parameter[]): Promise<T> {
  const places = parameters.map(([type], at) => `$${at + 1}::${type}`).join(', ');
  const values = parameters.map(([, value]) => value ?? null);
  return one<T>(client, `SELECT flashsale.${name}(${places})::text`, values);
}

async function rows<T>(
  client: Queryable,
  from: string,
  orderBy: string,
  values: unknown[] = [],
): Promise<T[]> {
  const list = `coalesce(jsonb_agg(to_jsonb(r) ORDER BY ${orderBy}), '[]')`;
  return one<T[]>(client, `SELECT ${list}::text FROM flashsale.${from} r`, values);
}

/** The only value of the only row: a text, so that it does not matter how the application's pg reads
 * jsonb. */
async function one<T>(client: Queryable, text: string, values: unknown[]): Promise<T> {
  const result = await client.query({ text, values, rowMode: 'array' });
  return read(JSON.parse(result.rows[0]?.[0])) as T;
}

/** The text of an order's name; the server says what is wrong with null. */
function named(order: OrderName): Parameter {
  return ['text', order == null ? null : String(order)];
}

/** The text of a user or a key. Values are refused whose text others could have, too. */
export function textOf(name: string, value: unknown): string | undefined {
  if (value == null) return undefined;
  if (typeof value !== 'string' && typeof value !== 'bigint' && !Number.isSafeInteger(value)) {
    throw wrong('22023', `${name} is ${inspect(value)}: it must be a text or a whole number below 2^53`);
  }
  const text = String(value);
  if (/\p{Surrogate}/u.test(text)) {
    throw wrong('22023', `${name} is ${inspect(value)}: it has half of a surrogate pair`);
  }
  return text;
}

function interval(ms: number | undefined): Parameter {
  return ['interval', ms === undefined ? null : `${ms} ms`];
}

// ---- for the application ----------------------------------------------------------------

export interface PurchaseOptions {
  /** 1 if left out. */
  quantity?: number;
  /** Purchases of the same user, item and key are one. Only with one can a purchase be repeated
   * whose answer got lost. */
  idempotencyKey?: string;
}

/** Reserves units for a user. */
export async function purchaseItem(
  client: Queryable,
  itemId: number,
  userId: User,
  { quantity = 1, idempotencyKey, strategy }: PurchaseOptions & { strategy?: Strategy } = {},
): Promise<Answer<Reservation>> {
  return ask(
    client,
    'purchase_item',
    ['bigint', itemId],
    ['text', textOf('user_id', userId)],
    ['bigint', quantity],
    ['text', textOf('idempotency_key', idempotencyKey)],
    ['text', strategy],
  );
}

export interface PurchaseRequest extends PurchaseOptions {
  itemId: number;
  userId: User;
}

/** Up to 1,000 independent purchases, with an answer for each, in order. */
export function purchaseBatch(
  client: Queryable,
  requests: PurchaseRequest[],
  { strategy }: { strategy?: Strategy } = {},
): Promise<Answer<Reservation>[]> {
  return askForBatch(client, `[${requests.map(requestJson).join(',')}]`, strategy);
}

/** `requests` is JSON. */
export function askForBatch(
  client: Queryable,
  requests: string,
  strategy: Strategy | null | undefined,
  timeoutMs?: number,
): Promise<Answer<Reservation>[]> {
  const bounded = timeoutMs === undefined ? client : inTime(client, timeoutMs);
  return ask(bounded, 'purchase_batch', ['jsonb', requests], ['text', strategy]);
}

/** Its calls fail after this time; a pool then gives up the connection. */
export function inTime(client: Queryable, timeoutMs: number): Queryable {
  return { query: (query) => client.query(Object.assign(query, { query_timeout: timeoutMs })) };
}

/** A request of a batch as the extension takes it. */
export function requestJson(request: PurchaseRequest): string {
  return JSON.stringify({
    item_id: request.itemId,
    user_id: request.userId,
    quantity: request.quantity,
    idempotency_key: request.idempotencyKey,
  });
}

/** Call it before the card is charged. If it is refused, do not charge. */
export function beginPayment(
  client: Queryable,
  order: OrderName,
  { paymentWindowMs }: { paymentWindowMs?: number } = {},
): Promise<Answer<PaymentBegun>> {
  return ask(client, 'begin_payment', named(order), interval(paymentWindowMs));
}

export interface Charge {
  /** The gateway's id of the charge. */
  paymentRef?: string;
  /** The whole amount; compared with the order's. */
  amount?: number;
  currency?: string;
}

/** Reports a charge. If it is refused with `refundRequired`, the charge is in `refundsDue`. */
export function confirmOrder(
  client: Queryable,
  order: OrderName,
  { paymentRef, amount, currency }: Charge = {},
): Promise<Answer<Confirmed>> {
  return ask(
    client,
    'confirm_order',
    named(order),
    ['text', paymentRef],
    ['bigint', amount],
    ['text', currency],
  );
}

export function cancelOrder(
  client: Queryable,
  order: OrderName,
  { reason }: { reason?: string } = {},
): Promise<Answer<Cancelled>> {
  return ask(client, 'cancel_order', named(order), ['text', reason]);
}

export function getOrder(client: Queryable, order: OrderName): Promise<Answer<Order>> {
  return ask(client, 'get_order', named(order));
}

/** The user's newest 100 orders. */
export async function userOrders(client: Queryable, userId: User): Promise<Answer<UserOrders>> {
  return ask(client, 'user_orders', ['text', textOf('user_id', userId)]);
}

export function findPayment(client: Queryable, paymentRef: string): Promise<Answer<FoundPayment>> {
  return ask(client, 'find_payment', ['text', paymentRef]);
}

export function itemAvailability(client: Queryable, itemId: number): Promise<Answer<Availability>> {
  return ask(client, 'item_availability', ['bigint', itemId]);
}

// ---- for operators ----------------------------------------------------------------------

export interface NewItem {
  inventory: number;
  name?: string;
  unitPrice?: number;
  currency?: string;
  maxPerUser?: number;
  startsAt?: Date;
  endsAt?: Date;
  reservationTtlMs?: number;
  itemId?: number;
}

/** Puts an item on sale and returns its id. */
export function createItem(client: Queryable, item: NewItem): Promise<number> {
  return ask(
    client,
    'create_item',
    ['bigint', item.inventory],
    ['text', item.name],
    ['bigint', item.unitPrice],
    ['text', item.currency],
    ['int', item.maxPerUser],
    ['timestamptz', item.startsAt],
    ['timestamptz', item.endsAt],
    interval(item.reservationTtlMs),
    ['bigint', item.itemId],
  );
}

/** Adds units, or removes free ones. */
export function restockItem(
  client: Queryable,
  itemId: number,
  delta: number,
  { reason, idempotencyKey }: { reason?: string; idempotencyKey?: string } = {},
): Promise<Answer<Restocked>> {
  return ask(
    client,
    'restock_item',
    ['bigint', itemId],
    ['bigint', delta],
    ['text', reason],
    ['text', idempotencyKey],
  );
}

export function pauseItem(client: Queryable, itemId: number): Promise<Answer<Paused>> {
  return ask(client, 'pause_item', ['bigint', itemId]);
}

export function resumeItem(client: Queryable, itemId: number): Promise<Answer<Paused>> {
  return ask(client, 'resume_item', ['bigint', itemId]);
}

export function reconcileStaleReservations(
  client: Queryable,
  { olderThanMs, maxOrders = 1000 }: { olderThanMs?: number; maxOrders?: number } = {},
): Promise<Answer<Reconciled>> {
  return ask(client, 'reconcile_stale_reservations', interval(olderThanMs), ['int', maxOrders]);
}

/** The payment of a confirmed order becomes due for refund. */
export function refundOrder(
  client: Queryable,
  order: OrderName,
  { restock = true }: { restock?: boolean } = {},
): Promise<Answer<OrderRefunded>> {
  return ask(client, 'refund_order', named(order), ['boolean', restock]);
}

/** Reports that a payment due was refunded at the gateway. */
export function refundPayment(
  client: Queryable,
  paymentRef: string,
  { refundRef }: { refundRef?: string } = {},
): Promise<Answer<PaymentRefunded>> {
  return ask(client, 'refund_payment', ['text', paymentRef], ['text', refundRef]);
}

/** Orders in `paying` past their deadline, the oldest first. */
export function paymentChecks(client: Queryable): Promise<PaymentCheck[]> {
  return rows(client, 'payment_checks', 'payment_deadline');
}

/** Charges that are due for refund, the oldest first. */
export function refundsDue(client: Queryable): Promise<RefundDue[]> {
  return rows(client, 'refunds_due', 'due_since');
}

/** Broken invariants, of one item or of all; an empty list when all is well. */
export function audit(client: Queryable, itemId?: number): Promise<BrokenInvariant[]> {
  if (itemId === undefined) return rows(client, 'audit()', 'invariant');
  return rows(client, 'audit($1::bigint)', 'invariant', [itemId]);
}

/** What needs a person; an empty list when all is well. */
export function health(client: Queryable): Promise<Problem[]> {
  return rows(client, 'health()', 'severity');
}
