/** What this package throws itself, and what the driver's errors mean. */

import pg from 'pg';

/**
 * The connection was lost, or the server ended the call, or there was no answer in time: the call may
 * have been carried out or not. `cause` is the driver's error. A purchase with a key can be made again
 * with that key. A purchase without one may have left a reservation, which expires by itself.
 */
export class OutcomeUnknown extends Error {
  override name = 'OutcomeUnknown';
}

/** The gatherer's queue is full, because the database is slow: nothing was bought. */
export class Overloaded extends Error {
  override name = 'Overloaded';
}

/** The gatherer is closed: nothing was bought. */
export class Closed extends Error {
  override name = 'Closed';
}

/** The SQLSTATE of an error that the server raised. */
export function sqlstate(error: unknown): string | undefined {
  if (error instanceof Error && 'severity' in error && 'code' in error) {
    return String(error.code);
  }
  return undefined;
}

// The server ends the connection, or cannot say what it did.
const LOST = new Set(['57P01', '57P02', '57P04', '57P05', '40003']);

/** Whether the answer to a call got lost. What has no SQLSTATE is about the connection, but for
 * errors that are surely about the program. */
export function answerLost(error: unknown): boolean {
  const state = sqlstate(error);
  if (state !== undefined) return state.startsWith('08') || LOST.has(state);
  return error instanceof Error && !ofProgram(error) && !notConnected(error);
}

/** Whether the server ended the call, as for `statement_timeout`. A batch was rolled back then; a
 * single purchase may be made nevertheless, since under the strategy `grouped` the seller may make
 * what its caller waits for no longer. */
export function cancelled(error: unknown): boolean {
  return sqlstate(error) === '57014';
}

/** Whether there was no answer in the time that the call had. */
export function timedOut(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout';
}

/** Whether the cause passes by itself, and the call surely changed nothing: there was no connection,
 * or it was rolled back. */
export function passing(error: unknown): boolean {
  if (rolledBack(error) || sqlstate(error) === '57P03') return true;
  return error instanceof Error && sqlstate(error) === undefined && notConnected(error);
}

/** Whether the server rolled the call back for a cause that passes: a conflict between transactions,
 * or too little of something, such as memory. */
export function rolledBack(error: unknown): boolean {
  return /^(40(?!003)|53)/.test(sqlstate(error) ?? '');
}

function ofProgram(error: Error): boolean {
  const kinds = [TypeError, RangeError, SyntaxError, ReferenceError, OutcomeUnknown, Overloaded, Closed];
  return kinds.some((kind) => error instanceof kind) || /^Cannot use a pool after/.test(error.message);
}

function notConnected(error: Error): boolean {
  // A name with several addresses, none of which accepted.
  if (error instanceof AggregateError) return error.errors.every(notConnected);
  return (
    ('syscall' in error && (error.syscall === 'connect' || error.syscall === 'getaddrinfo')) ||
    /^timeout exceeded when trying to connect$|connection timeout/.test(error.message)
  );
}

/** Whether one of several requests may have caused the error: with a wrong argument, or because of a
 * constraint or a trigger of the shop's, whatever SQLSTATE that raises. Not so errors that are about
 * the session, its privileges, or the state or the limits of the server. XX000 may be of one: as that
 * arrives a SQLSTATE of the shop's own. */
export function aboutOneRequest(error: unknown): boolean {
  const state = sqlstate(error);
  return state !== undefined && !/^(08|0A|25|28|3D|3F|40|42|53|54|55|57|58|F0|XX00[12])/.test(state);
}

/** An argument that is refused here, as the server would refuse it. */
export function wrong(code: string, message: string): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError(message, message.length, 'error'), { code, severity: 'ERROR' });
}
