/** Makes a call until it has a final answer, as the extension's README describes it. */

import { pause } from './abort.js';
import type { Answer, Refusal, Reservation } from './answers.js';
import { type PurchaseOptions, type Queryable, type Strategy, type User, purchaseItem } from './calls.js';
import { OutcomeUnknown, answerLost, cancelled, passing } from './errors.js';

const LASTS_MS = 5_000; // if the caller does not say
const FIRST_SPREAD_MS = 10;
const MAX_SPREAD_MS = 500;

/** How long to wait before the next try: longer each time, and never in step with others. */
export class Backoff {
  #spreadMs = FIRST_SPREAD_MS;

  /** The server's hint and a random share of a spread that doubles up to half a second. */
  nextWaitMs(atLeastMs = 0): number {
    const wait = atLeastMs + Math.random() * this.#spreadMs;
    this.#spreadMs = Math.min(2 * this.#spreadMs, MAX_SPREAD_MS);
    return wait;
  }
}

export interface RetryOptions {
  /** No try begins later than this after the first; 5,000 if left out. A single try is bounded by
   * the server's `statement_timeout`. */
  withinMs?: number;
  /** Ends the tries, with its reason as the error. */
  signal?: AbortSignal;
}

/**
 * Makes a call again after `busy` and `conflict`, without a connection, and if `repeatable` also
 * over a lost connection, and after a cancel by the server. When the time is up, the last refusal is
 * returned or the last error thrown: `OutcomeUnknown` if the connection was lost in mid-call and no
 * later try told what became of it.
 */
export async function withRetry<T extends { success: true }>(
  call: () => Promise<Answer<T>>,
  { repeatable, withinMs = LASTS_MS, signal }: RetryOptions & { repeatable: boolean },
): Promise<Answer<T>> {
  signal?.throwIfAborted();
  const until = performance.now() + withinMs;
  const backoff = new Backoff();
  let lost: unknown;
  for (;;) {
    let refusal: Refusal | undefined;
    let error: unknown;
    try {
      const answer = await call();
      if (answer.success || !answer.retryable) return answer;
      refusal = answer;
    } catch (thrown) {
      signal?.throwIfAborted();
      error = thrown;
      if (answerLost(error) || cancelled(error)) lost = error;
      else if (!passing(error)) throw error;
    }
    const waitMs = backoff.nextWaitMs(refusal?.retryAfterMs);
    const over = performance.now() + waitMs >= until;
    // `busy` does not tell what became of a try whose answer got lost.
    if (lost !== undefined && (over || !repeatable)) throw outcomeUnknown(lost);
    if (over && refusal) return refusal;
    if (over) throw error;
    await pause(waitMs, signal);
  }
}

/** `purchaseItem` with retry, on another connection of the pool if one is lost: then only with a key,
 * and always with the same one. */
export function purchaseWithRetry(
  pool: Queryable,
  itemId: number,
  userId: User,
  options: PurchaseOptions & RetryOptions & { strategy?: Strategy } = {},
): Promise<Answer<Reservation>> {
  return withRetry(() => purchaseItem(pool, itemId, userId, options), {
    repeatable: options.idempotencyKey != null,
    withinMs: options.withinMs,
    signal: options.signal,
  });
}

export function outcomeUnknown(cause: unknown): OutcomeUnknown {
  return new OutcomeUnknown(cause instanceof Error ? cause.message : String(cause), { cause });
}
