import { commitPayload, decodeEntry, leafHash, type Entry } from '../../audit/core/entry.ts';
import { rootOfInclusion } from '../../shared/tlog/proofs.ts';
import { bytesEqual, fromHex } from '../../shared/contracts/bytes.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { bytesToUuid } from '../../shared/contracts/uuid.ts';
import { openWithOwnKey } from './audit-keys.ts';

/** An answer of `GET /v1/decisions/{id}`, of which nothing is believed. */
type Shown = Readonly<Record<string, unknown>>;

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const bytesOf = (value: unknown): Buffer => Buffer.from(text(value), 'base64');

/** Whether salt and bytes of the event are those that the entry commits to; undefined where the payload is gone. */
const isCommitted = (shown: Shown, commitment: Uint8Array): boolean | undefined => {
  const salt = fromHex(text(shown['salt']));
  if (typeof shown['event_base64'] !== 'string' || salt.length !== 32) return undefined;
  return bytesEqual(commitPayload(salt, text(shown['content_type']), bytesOf(shown['event_base64'])), commitment);
};

interface Opened {
  readonly entry: Entry;
  readonly entryBytes: Uint8Array;
  /** Undefined where it is gone. */
  readonly payload: Uint8Array | undefined;
}

/** The entry and the event that it commits to; a text says what does not fit. */
export const openShown = (id: string, shown: Shown): Opened | string => {
  const entryBytes = bytesOf(shown['entry_base64']);
  let entry;
  try {
    entry = decodeEntry(entryBytes);
  } catch (error) {
    return String(error);
  }
  if (bytesToUuid(entry.eventId) !== id) return 'the entry is of another event';
  const isFitting = isCommitted(shown, entry.commitment);
  if (isFitting === false) return 'the entry does not commit to this event';
  return { entry, entryBytes, payload: isFitting === undefined ? undefined : bytesOf(shown['event_base64']) };
};

export interface Proven {
  readonly isGood: boolean;
  readonly line: string;
}

/**
 * Whether the answer proves, with a key of the auditor's own and nothing else that the service says, that this event is
 * an entry of the log: event, commitment, entry, leaf, path, root, signature.
 */
export const prove = (id: string, shown: Shown, keys: ReadonlyMap<string, VerifierKey>): Proven => {
  const bad = (line: string): Proven => ({ isGood: false, line });
  const signed = openWithOwnKey(text(shown['log']), text(shown['checkpoint']), keys);
  if ('problem' in signed) return bad(signed.problem);
  const { size, root } = signed.checkpoint;
  const opened = openShown(id, shown);
  if (typeof opened === 'string') return bad(opened);
  const { entry, entryBytes } = opened;
  const { proof } = shown;
  if (!isObject(proof)) return bad(`the newest checkpoint, of size ${size}, does not cover it yet`);
  const hashes = Array.isArray(proof['hashes']) ? (proof['hashes'] as readonly unknown[]).map(bytesOf) : [];
  const found = rootOfInclusion(leafHash(entryBytes), entry.seq, size, hashes);
  return found !== undefined && bytesEqual(found, root)
    ? { isGood: true, line: `entry ${entry.seq} of the ${size} that your key signed` }
    : bad(`the path does not lead to the root of size ${size}`);
};
