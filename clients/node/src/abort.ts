/** An `AbortSignal` that many callers share gets one listener for all of them, since older versions of
 * Node warn of more than ten. */

const shared = new WeakMap<AbortSignal, Shared>();

interface Shared {
  callbacks: Set<() => void>;
  listener: () => void;
}

/** Calls back when the signal is aborted, until the returned function is called. The signal must not be
 * aborted yet. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const { callbacks, listener } = shared.get(signal) ?? share(signal);
  callbacks.add(callback);
  signal.addEventListener('abort', listener); // once, however often it is added
  return () => {
    callbacks.delete(callback);
    // Node keeps a signal that has a listener.
    if (callbacks.size === 0) signal.removeEventListener('abort', listener);
  };
}

function share(signal: AbortSignal): Shared {
  const callbacks = new Set<() => void>();
  const found = { callbacks, listener: () => callbacks.forEach((callback) => callback()) };
  shared.set(signal, found);
  return found;
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
