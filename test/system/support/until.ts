import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Looks until `look` finds something (anything but undefined). Rejects after `limitMs` with what `describe` tells, or
 * with the last error of `look`.
 */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  { limitMs = 60_000, everyMs = 50 }: { readonly limitMs?: number; readonly everyMs?: number } = {},
): Promise<T> {
  const deadline = Date.now() + limitMs;
  let lastError: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined) return found;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (Date.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`, { cause: lastError });
    await sleep(everyMs);
  }
}
