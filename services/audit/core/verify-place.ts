import { createHmac, timingSafeEqual } from 'node:crypto';
import { fromHex, hex, lp } from '../../shared/contracts/bytes.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { TreeState } from '../../shared/tlog/merkle.ts';
import type { SavedCheckpoints } from './verify-checkpoints.ts';
import type { SavedGone } from './verify-gone.ts';
import type { SavedState } from './verify-state.ts';
import type { SavedStreams } from './verify-streams.ts';

/** Everything that a verification knows at a good checkpoint: enough to go on behind it. */
export interface Place {
  /** The log's genesis hash, so also its key: who changes the key in the database changes the log. */
  readonly genesis: Uint8Array;
  readonly tree: TreeState;
  readonly root: Uint8Array;
  readonly leaf: Uint8Array;
  readonly lastIngestUs: bigint;
  readonly keys: readonly (readonly [emitter: string, key: Uint8Array])[];
  readonly unattested: number;
  readonly streams: SavedStreams;
  readonly state: SavedState | undefined;
  readonly gone: SavedGone;
  readonly checkpoints: SavedCheckpoints;
}

/** A place as the auditor keeps it. Whoever alters it, or takes it for another log, has none. */
export interface SealedPlace {
  readonly origin: string;
  /** Decimal: entries below were verified. */
  readonly size: string;
  /** Hex RFC 6962 root of that size, which the log's key signed. */
  readonly root: string;
  readonly verifiedAt: string;
  readonly state: string;
  readonly mac: string;
}

/** A log whose place is longer (thousands of streams or holes) is verified from its beginning each time. */
export const MAX_PLACE_BYTES = 1024 * 1024;
const DOMAIN = Buffer.from('edict/place/v2\0', 'utf8');

const encode = (place: Place): string =>
  JSON.stringify(place, function (this: Readonly<Record<string, unknown>>, name, shown: unknown) {
    // A Buffer's own toJSON has run already.
    const value = this[name];
    if (typeof value === 'bigint') return { $n: String(value) };
    return value instanceof Uint8Array ? { $b: hex(value) } : shown;
  });

const decode = (text: string): Place =>
  JSON.parse(text, (_name, value: unknown) => {
    if (!isObject(value)) return value;
    if (typeof value['$n'] === 'string') return BigInt(value['$n']);
    return typeof value['$b'] === 'string' ? fromHex(value['$b']) : value;
  }) as Place;

type Unsealed = Omit<SealedPlace, 'mac'>;

const macOf = (key: Uint8Array, tenant: string, { origin, size, root, verifiedAt, state }: Unsealed): Buffer => {
  const mac = createHmac('sha256', key).update(DOMAIN);
  for (const text of [tenant, origin, size, root, verifiedAt, state]) mac.update(lp(text));
  return mac.digest();
};

/** Undefined for a place that is too long to be kept. */
export const sealPlace = (
  key: Uint8Array,
  log: { readonly tenant: string; readonly origin: string },
  place: Place,
  verifiedAt: string,
): SealedPlace | undefined => {
  const state = encode(place);
  if (state.length > MAX_PLACE_BYTES) return undefined;
  const unsealed = { origin: log.origin, size: String(place.tree.size), root: hex(place.root), verifiedAt, state };
  return { ...unsealed, mac: hex(macOf(key, log.tenant, unsealed)) };
};

/** The place that `sealPlace` made with this key for this log, or undefined. */
export const openPlace = (
  key: Uint8Array,
  log: { readonly tenant: string; readonly origin: string },
  sealed: SealedPlace,
): Place | undefined => {
  const mac = fromHex(sealed.mac);
  if (sealed.origin !== log.origin || mac.length !== 32) return undefined;
  return timingSafeEqual(mac, macOf(key, log.tenant, sealed)) ? decode(sealed.state) : undefined;
};

export const isSealedPlace = (value: unknown): value is SealedPlace =>
  isObject(value) &&
  (['origin', 'size', 'root', 'verifiedAt', 'state', 'mac'] as const).every((name) => typeof value[name] === 'string');
