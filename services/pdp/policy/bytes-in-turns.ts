import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';

/*
 * An archive has up to 32 MiB, and whoever handles it decides too: what reads all of it lets others have their turn.
 */

/** Some milliseconds' worth at most. */
const SLICE_BYTES = 1024 * 1024;

/** All parts, one after the other, in memory of their own. */
export const joinInTurns = async (parts: readonly Uint8Array[]): Promise<Uint8Array<ArrayBuffer>> => {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  let sinceTurn = 0;
  for (const part of parts)
    for (let at = 0; at < part.length; at += SLICE_BYTES) {
      const slice = part.subarray(at, at + SLICE_BYTES);
      whole.set(slice, end);
      end += slice.length;
      sinceTurn += slice.length;
      if (sinceTurn < SLICE_BYTES) continue;
      sinceTurn = 0;
      await nextTurn();
    }
  return whole;
};

const digests = new WeakMap<Uint8Array, Promise<string>>();

const digestOf = async (bytes: Uint8Array): Promise<string> => {
  const digest = createHash('sha256');
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
    if (at > 0) await nextTurn();
    digest.update(bytes.subarray(at, at + SLICE_BYTES));
  }
  return digest.digest('hex');
};

/** SHA-256 in hex of bytes that nobody changes: it is asked for again and again, and computed once. */
export const sha256HexInTurns = (bytes: Uint8Array): Promise<string> => {
  const known = digests.get(bytes) ?? digestOf(bytes);
  digests.set(bytes, known);
  return known;
};
