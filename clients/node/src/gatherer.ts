/**
 * Joins the clicks of many users into calls of `purchase_batch`. One row lock, one statement and one
 * commit then serve a whole batch, over a handful of connections.
 */

import { setTimeout as sleep } from 'node:timers/promises';

import { onAbort } from './abort.js';
import type { Answer, Reservation } from './answers.js';
import {
  type PurchaseOptions,
  type PurchaseRequest,
  type Strategy,
  type User,
  askForBatch,
  requestJson,
  textOf,
} from './calls.js';
import { type Lender, type Lent, cancel, giveBack, lend } from './connection.js';
import {
  Closed,
  Overloaded,
  aboutOneRequest,
  answerLost,
  cancelled,
  passing,
  rolledBack,
  sqlstate,
  timedOut,
  wrong,
} from './errors.js';
import { Backoff, type RetryOptions, outcomeUnknown, withRetry } from './retry.js';

const MOST_IN_A_CALL = 1000; // what purchase_batch takes

export interface GathererOptions {
  /** How many calls may be under way at once, each on a connection of the pool; 1 if left out. */
  connections?: number;
  /** How long a click waits for others; 1 if left out. */
  longestWaitMs?: number;
  /** The most clicks in a call; 256 if left out. */
  largestBatch?: number;
  /** The most clicks that wait for a call; 4,096 if left out. */
  queueSize?: number;
  /** How long a click waits for a connection to come back, and is sent again; 5,000 if left out. */
  patienceMs?: number;
  /** How long a call may take; 3,000 if left out. Then it is cancelled, and its connection given up. */
  callTimeoutMs?: number;
  /** 'grouped' if left out; as under 'atomic', calls for the same item then wait for each other. Null
   * is the strategy of the session. */
  strategy?: Strategy | null;
}

interface Click {
  request: string; // JSON
  hasKey: boolean;
  cameAt: number;
  largestBatch: number; // of a call with it
  asked: boolean; // whether it may have been served
  lost?: unknown; // what ended a call that may have served it
  backoff?: Backoff; // between its calls
  done: boolean;
  resolve(answer: Answer<Reservation>): void;
  reject(error: unknown): void;
}

/**
 * Buys for many users at once.
 *
 * - Each of its `connections` has one call under way. A click waits at most `longestWaitMs` for others,
 *   and a call has at most `largestBatch` of them.
 * - If `queueSize` clicks wait already, because the database is slow, a click is `Overloaded`.
 * - A caller may stop waiting, with an AbortSignal, without harm to others. Its click is dropped if it
 *   was not sent yet; if it was, the purchase may be made. With a key it can then be repeated; without
 *   one the reservation expires.
 * - If the connection is lost in mid-call, or there is no answer within `callTimeoutMs`, clicks with a
 *   key are sent again, and clicks without one are `OutcomeUnknown`. `busy` is no answer then, since
 *   the lost call may be what the item is busy with. Clicks that are to be sent again rest for a
 *   moment, and then take turns with the others, in calls half as large. While there is no connection
 *   (to get one may take 2 seconds), clicks wait. After `patienceMs`, which also bound the repeats,
 *   clicks fail with the driver's error, or are `OutcomeUnknown` if they may have been served.
 * - A wrong argument, or an error from a constraint or trigger, fails only the click that it is about.
 *   An error that is about the session, its privileges or the state of the server fails all clicks of
 *   the call.
 * - `close` answers what waits.
 */
export class Gatherer {
  readonly #pool: Lender;
  readonly #options: Required<GathererOptions>;
  readonly #clicks = new Set<Click>(); // queued, sent and resting
  #queue: Click[] = [];
  #again: Click[] = []; // have rested, and are to be sent again
  #againWasLast = false; // whether the last call was made of them
  #underWay = 0;
  #resting = 0; // clicks that are to be sent again after a pause
  #timer: NodeJS.Timeout | undefined;
  #backoff = new Backoff();
  #open = true;
  #drained: (() => void)[] = [];

  constructor(pool: Lender, options: GathererOptions = {}) {
    this.#pool = pool;
    this.#options = {
      connections: options.connections ?? 1,
      longestWaitMs: options.longestWaitMs ?? 1,
      largestBatch: options.largestBatch ?? 256,
      queueSize: options.queueSize ?? 4096,
      patienceMs: options.patienceMs ?? 5_000,
      callTimeoutMs: options.callTimeoutMs ?? 3_000,
      strategy: options.strategy === undefined ? 'grouped' : options.strategy,
    };
    const { connections, largestBatch, queueSize } = this.#options;
    if (!(connections >= 1 && queueSize >= 1 && largestBatch >= 1 && largestBatch <= MOST_IN_A_CALL)) {
      throw new RangeError('connections and queueSize are 1 or more, largestBatch is 1 to 1,000');
    }
  }

  /** As `purchaseItem`. Rejects with `Overloaded`, `OutcomeUnknown`, `Closed`, the signal's reason, or
   * the driver's error. */
  async purchase(
    itemId: number,
    userId: User,
    { signal, ...options }: PurchaseOptions & { signal?: AbortSignal } = {},
  ): Promise<Answer<Reservation>> {
    const request = checked({ itemId, userId, ...options });
    signal?.throwIfAborted();
    if (!this.#open) throw new Closed('the gatherer is closed');
    if (this.#queue.length + this.#again.length + this.#resting >= this.#options.queueSize) {
      throw new Overloaded(`${this.#options.queueSize} clicks wait`);
    }
    const hasKey = options.idempotencyKey != null;
    let forget = () => {};
    try {
      return await new Promise((resolve, reject) => {
        const { largestBatch } = this.#options;
        const begin = { cameAt: performance.now(), largestBatch, asked: false, done: false };
        const click = { request, hasKey, ...begin, resolve, reject };
        if (signal) forget = onAbort(signal, () => this.#settle(click, () => reject(signal.reason)));
        this.#clicks.add(click);
        this.#queue.push(click);
        this.#pump();
      });
    } finally {
      forget();
    }
  }

  /** As `purchase`, and again after `busy` and `conflict`. */
  purchaseWithRetry(
    itemId: number,
    userId: User,
    options: PurchaseOptions & RetryOptions = {},
  ): Promise<Answer<Reservation>> {
    const { withinMs, ...purchase } = options;
    const repeatable = options.idempotencyKey != null;
    const retry = { repeatable, withinMs, signal: options.signal };
    return withRetry(() => this.purchase(itemId, userId, purchase), retry);
  }

  /** Takes no more clicks, and resolves when all are answered; after `withinMs` those left are
   * `Closed`, or `OutcomeUnknown` if they had been sent. */
  async close({ withinMs = 30_000 }: { withinMs?: number } = {}): Promise<void> {
    this.#open = false;
    this.#pump();
    if (!this.#isIdle()) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#drained.push(resolve);
        timer = setTimeout(resolve, withinMs);
      });
      clearTimeout(timer);
    }
    for (const click of this.#clicks) this.#fail(click, new Closed('the gatherer is closed'));
    this.#queue = [];
    this.#again = [];
    clearTimeout(this.#timer);
  }

  // ---- the queue ------------------------------------------------------------------------

  /** Makes calls as long as there are clicks and connections for them. */
  #pump(): void {
    while (this.#underWay < this.#options.connections) {
      const batch = this.#next();
      if (!batch) break;
      if (batch.length > 0) void this.#use(batch);
    }
    if (this.#isIdle()) {
      for (const resolve of this.#drained.splice(0)) resolve();
    }
  }

  /** The clicks of the next call; none if there are none yet. Those that are sent again take turns with
   * the others, who so wait for no more than one call of them. */
  #next(): Click[] | undefined {
    const isReady = this.#isReady();
    this.#againWasLast = this.#again.length > 0 && !(isReady && this.#againWasLast);
    if (this.#againWasLast) return this.#take(this.#again);
    return isReady ? this.#take(this.#queue) : undefined;
  }

  /** Whether the first click in the queue has waited long enough; calls `#pump` when it has. */
  #isReady(): boolean {
    const [first] = this.#queue;
    if (!first) return false;
    const { longestWaitMs, largestBatch } = this.#options;
    const leftMs = first.cameAt + longestWaitMs - performance.now();
    if (leftMs <= 0 || this.#queue.length >= largestBatch || !this.#open) return true;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#pump();
    }, leftMs);
    return false;
  }

  /** As many clicks as may be in a call with each other. */
  #take(queue: Click[]): Click[] {
    let largest = this.#options.largestBatch;
    let count = 0;
    for (const click of queue) {
      largest = Math.min(largest, click.largestBatch);
      if (count >= largest) break;
      count += 1;
    }
    return queue.splice(0, count).filter((click) => !click.done);
  }

  #isIdle(): boolean {
    return this.#underWay + this.#queue.length + this.#again.length + this.#resting === 0;
  }

  async #use(batch: Click[]): Promise<void> {
    this.#underWay += 1;
    if (await this.#serve(batch)) this.#backoff = new Backoff();
    else await sleep(this.#backoff.nextWaitMs());
    this.#underWay -= 1;
    this.#pump();
  }

  #putBack(clicks: Click[]): void {
    this.#queue.unshift(...clicks);
  }

  /** After a call that was rolled back or lost: in calls half as large, in case one of them is the
   * cause. Those whose patience has ended fail, also if they have rested. */
  #askAgain(clicks: Click[], error: unknown): void {
    this.#again = this.#withTime(this.#again, error);
    for (const click of clicks) click.largestBatch = Math.max(1, clicks.length >> 1);
    this.#rest(this.#withTime(clicks, error));
  }

  /** They are sent again after a pause, in which others are served. */
  #rest(clicks: Click[], atLeastMs = 0): void {
    if (clicks.length === 0) return;
    const pauses = clicks.map((click) => (click.backoff ??= new Backoff()).nextWaitMs(atLeastMs));
    this.#resting += clicks.length;
    setTimeout(() => {
      this.#resting -= clicks.length;
      this.#again.push(...clicks.filter((click) => !click.done));
      this.#pump();
    }, Math.max(...pauses));
  }

  /** Fails what has waited too long for a connection. */
  #giveUp(error: unknown): void {
    this.#queue = this.#withTime(this.#queue, error);
    this.#again = this.#withTime(this.#again, error);
  }

  /** Those whose patience has not ended; the others fail. */
  #withTime(clicks: Click[], error: unknown): Click[] {
    const before = performance.now() - this.#options.patienceMs;
    for (const click of clicks) if (click.cameAt <= before) this.#fail(click, error);
    return clicks.filter((click) => click.cameAt > before);
  }

  #settle(click: Click, how: () => void): void {
    if (click.done) return;
    click.done = true;
    this.#clicks.delete(click);
    how();
  }

  /** With this error, unless the click may have been served. */
  #fail(click: Click, error: unknown): void {
    const told = click.asked ? outcomeUnknown(click.lost ?? error) : error;
    this.#settle(click, () => click.reject(told));
  }

  // ---- the calls ------------------------------------------------------------------------

  /** Answers each click of a batch, or asks it again later; false if there was no connection, or it
   * was lost. */
  async #serve(batch: Click[]): Promise<boolean> {
    let client: Lent;
    try {
      client = await lend(this.#pool);
    } catch (error) {
      return this.#withoutConnection(batch, error);
    }
    let isLost = true;
    try {
      isLost = !(await this.#serveOver(client, batch));
    } finally {
      giveBack(client, isLost);
    }
    return !isLost;
  }

  #withoutConnection(batch: Click[], error: unknown): boolean {
    if (passing(error) || answerLost(error) || cancelled(error)) {
      this.#putBack(batch);
      this.#giveUp(error);
      return false;
    }
    for (const click of batch) this.#fail(click, error);
    return true;
  }

  /** Returns false if the connection was lost. A batch with an error that may be about one of its
   * requests is halved until that one is alone. */
  async #serveOver(client: Lent, batch: Click[]): Promise<boolean> {
    const parts = [batch];
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
      try {
        await this.#ask(client, part);
      } catch (error) {
        if (answerLost(error) || sqlstate(error) === undefined) {
          if (timedOut(error)) await cancel(client);
          this.#lose(part, error, parts.reverse().flat());
          return false;
        }
        for (const click of part) click.asked = click.lost !== undefined; // otherwise it was rolled back
        if (part.length > 1 && aboutOneRequest(error)) {
          const middle = part.length >> 1;
          parts.push(part.slice(middle), part.slice(0, middle));
        } else if (rolledBack(error) || cancelled(error)) {
          this.#askAgain(part, error);
        } else {
          for (const click of part) this.#fail(click, error);
        }
      }
    }
    return true;
  }

  async #ask(client: Lent, part: Click[]): Promise<void> {
    const requests = `[${part.map((click) => click.request).join(',')}]`;
    for (const click of part) click.asked = true;
    const { strategy, callTimeoutMs } = this.#options;
    const answers = await askForBatch(client, requests, strategy, callTimeoutMs);
    if (!Array.isArray(answers) || answers.length !== part.length || !answers.every(isObject)) {
      throw new Error('the answers are not one for each purchase');
    }
    const unsettled: Click[] = [];
    let atLeastMs = 0;
    part.forEach((click, at) => {
      const answer = answers[at]!;
      if (click.lost !== undefined && !answer.success && answer.retryable) {
        // The lost call may still be running, and be what the item is busy with.
        unsettled.push(...this.#withTime([click], click.lost));
        atLeastMs = Math.max(atLeastMs, answer.retryAfterMs ?? 0);
      } else {
        this.#settle(click, () => click.resolve(answer));
      }
    });
    this.#rest(unsettled, atLeastMs);
  }

  /** After a lost connection: what has a key is sent again, what has none fails. */
  #lose(part: Click[], error: unknown, notAsked: Click[]): void {
    for (const click of part) {
      click.lost ??= error;
      if (!click.hasKey) this.#fail(click, error);
    }
    this.#askAgain(part.filter((click) => click.hasKey), error);
    this.#putBack(notAsked);
    this.#giveUp(error);
  }
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

/** The JSON of a request. What the server would refuse for the whole call is refused here, with the
 * same SQLSTATE. */
function checked(request: PurchaseRequest): string {
  const { itemId, userId, quantity = 1, idempotencyKey } = request;
  for (const [name, value] of Object.entries({ item_id: itemId, user_id: userId, quantity })) {
    if (value == null) throw wrong('22004', `${name} must not be null`);
  }
  for (const [name, value] of Object.entries({ item_id: itemId, quantity })) {
    if (!Number.isSafeInteger(value)) throw wrong('22003', `${name} is ${value}: it is no whole number below 2^53`);
  }
  if (quantity < 1) throw wrong('22023', `quantity is ${quantity}: it must be at least 1`);
  const user = textOf('user_id', userId);
  const key = textOf('idempotency_key', idempotencyKey);
  for (const [name, text] of Object.entries({ user_id: user, idempotency_key: key })) {
    if (text === undefined) continue;
    const bytes = Buffer.byteLength(text);
    if (bytes < 1 || bytes > 255 || text.includes('\0')) {
      throw wrong('22023', `${name} must have 1 to 255 bytes, none of them 0`);
    }
  }
  return requestJson({ ...request, userId: user!, idempotencyKey: key });
}
