/** An `AbortSignal` that many callers share gets one listener for all of them, since Node warns of
 * more than ten. */

const listening = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls back when the signal is aborted, which it must not be yet; until the returned function is called. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const callbacks = listening.get(signal) ?? listen(signal);
  callbacks.add(callback);
  return () => callbacks.delete(callback);
}

function listen(signal: AbortSignal): Set<() => void> {
  const callbacks = new Set<() => void>();
  listening.set(signal, callbacks);
  signal.addEventListener('abort', () => callbacks.forEach((callback) => callback()), { once: true });
  return callbacks;
}

/** Waits; or rejects with the signal's reason as soon as it is aborted. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  let timer: NodeJS.Timeout | undefined;
  let forget = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(resolve, ms);
      if (signal) forget = onAbort(signal, () => reject(signal.reason));
    });
  } finally {
    clearTimeout(timer);
    forget();
  }
}
