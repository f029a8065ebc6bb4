import { lp } from './bytes.ts';
import { counterOf } from './counter.ts';
import { canonicalJson, isObject } from './json.ts';
import { signEd25519, verifyEd25519, type SigningKey, type VerifierKey } from './signatures.ts';
import { isTenant } from './tenant.ts';

/** An inclusive range of sequence numbers, decimal strings. */
export type SequenceRange = readonly [from: string, to: string];

/** How far the ledger has one stream (emitter, boot, tenant). All counters are decimal strings of a u64. */
export interface Ack {
  readonly emitter: string;
  readonly boot: string;
  readonly tenant: string;
  /** Every number up to here is an entry or is named by a lost or retire entry; "0" when none is. */
  readonly complete_to: string;
  /** What is missing between `complete_to` and the highest number seen, at most `MAX_ACK_HOLES` ranges. */
  readonly holes: readonly SequenceRange[];
  /** Everything up to here is covered by a signed checkpoint; in a log without any, by a commit that is on disk. */
  readonly covered_to: string;
  readonly origin: string;
  readonly tree_size: string;
  /** Base64 of the Ed25519 signature of the audit service's acknowledgement key. */
  readonly signature: string;
}

export const MAX_ACK_HOLES = 64;
const ACK_DOMAIN = Buffer.from('edict/ack/v1\0', 'utf8');

const signedBytes = (ack: Omit<Ack, 'signature'>): Buffer => Buffer.concat([ACK_DOMAIN, lp(canonicalJson(ack))]);

export const signAck = (key: SigningKey, ack: Omit<Ack, 'signature'>): Ack => ({
  ...ack,
  signature: signEd25519(key, signedBytes(ack)).toString('base64'),
});

/** The key of an ack on the compacted topic. */
export const ackKey = (ack: Pick<Ack, 'emitter' | 'boot' | 'tenant'>): string =>
  `${ack.emitter}/${ack.boot}/${ack.tenant}`;

const isCounter = (value: unknown): value is string => counterOf(value) !== undefined;

const isRange = (value: unknown): value is SequenceRange =>
  Array.isArray(value) && value.length === 2 && isCounter(value[0]) && isCounter(value[1]);

/** The ack in `value` when it is well formed and signed by one of `keys`, else undefined. */
export const parseAck = (value: unknown, keys: readonly VerifierKey[]): Ack | undefined => {
  if (!isObject(value)) return undefined;
  const { emitter, boot, tenant, complete_to, holes, covered_to, origin, tree_size, signature } = value;
  if (typeof emitter !== 'string' || !/^[0-9a-f]{32}$/.test(emitter) || !isCounter(boot) || !isTenant(tenant))
    return undefined;
  if (!isCounter(complete_to) || !isCounter(covered_to) || !isCounter(tree_size)) return undefined;
  if (typeof origin !== 'string' || typeof signature !== 'string') return undefined;
  if (!Array.isArray(holes) || holes.length > MAX_ACK_HOLES || !holes.every(isRange)) return undefined;
  const unsigned = { emitter, boot, tenant, complete_to, holes, covered_to, origin, tree_size };
  const bytes = signedBytes(unsigned);
  const mark = Buffer.from(signature, 'base64');
  return keys.some(({ key }) => verifyEd25519(key, bytes, mark)) ? { ...unsigned, signature } : undefined;
};
