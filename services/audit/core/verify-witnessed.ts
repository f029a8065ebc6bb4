import { bytesEqual } from '../../shared/contracts/bytes.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { openCheckpoint, parseCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import type { Cosignature } from '../../shared/tlog/cosignature.ts';
import { witnessed, type Policy } from '../../shared/tlog/policy.ts';
import { rootOfInclusion } from '../../shared/tlog/proofs.ts';
import { canonicalBase64, parseNote } from '../../shared/tlog/signed-note.ts';
import { metaEntry, metaLeafHash } from './meta-log.ts';

/**
 * Whether a checkpoint of a log is in a meta log that enough witnesses saw grow. They never see the leaves: two checkpoints
 * of one log that contradict each other may both be in it, and so may an older one than the newest.
 */
export interface WitnessedVerdict {
  /** `not_checked`: nobody said which witnesses count. */
  readonly status: 'ok' | 'failed' | 'not_checked';
  readonly note: string;
  /** How many entries of the log the cosigned meta checkpoint covers, decimal. */
  readonly size?: string;
  /** The meta checkpoint. */
  readonly meta?: { readonly origin: string; readonly size: string };
  readonly cosignatures?: readonly { readonly witness: string; readonly time: string }[];
  /** The latest time at which a quorum of them had cosigned. */
  readonly witnessedAt?: string;
}

export const NOT_ASKED: WitnessedVerdict = {
  status: 'not_checked',
  note: 'no --policy: witnesses were not asked about, so only the ledger’s own keys vouch for its checkpoints',
};

/** How far a witness’s clock may be ahead of the verifier’s. */
const MAX_AHEAD_S = 300;

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

const iso = (timeS: number): string => new Date(timeS * 1_000).toISOString();

const failed = (note: string, facts: Partial<WitnessedVerdict> = {}): WitnessedVerdict => ({
  ...facts,
  status: 'failed',
  note: `not witnessed: ${note}`,
});

/** The latest time at which the cosignatures that were made then or later reach the quorum; they do together. */
const quorumTime = (policy: Policy, note: Uint8Array, cosignatures: readonly Cosignature[]): number | undefined => {
  const body = parseNote(note)?.text ?? '';
  const newestFirst = [...cosignatures].sort((a, b) => b.timeS - a.timeS);
  const count = newestFirst.findIndex((_, n) => {
    const lines = newestFirst.slice(0, n + 1).map(({ line }) => line);
    return witnessed(policy, Buffer.from(`${body}\n${lines.join('')}`, 'utf8'))?.isQuorumReached === true;
  });
  return newestFirst[count]?.timeS;
};

const decimal = (value: unknown): bigint | undefined =>
  typeof value === 'string' && /^(0|[1-9]\d{0,17})$/.test(value) ? BigInt(value) : undefined;

const hashesIn = (value: unknown): readonly Uint8Array[] | undefined => {
  if (!Array.isArray(value)) return undefined;
  const hashes = (value as readonly unknown[]).map((hash) => canonicalBase64(text(hash)));
  const good = hashes.filter((hash) => hash?.length === 32).filter((hash) => hash !== undefined);
  return good.length === hashes.length ? good : undefined;
};

/** The meta checkpoint that one of the policy’s logs signed, and that has the note as a leaf; a text says why not. */
const openMeta = (policy: Policy, note: Uint8Array, meta: Readonly<Record<string, unknown>>): Checkpoint | string => {
  const metaNote = Buffer.from(text(meta['checkpoint']), 'utf8');
  const checkpoint = policy.logs.map(({ key }) => openCheckpoint(metaNote, key)).find((opened) => opened !== undefined);
  if (checkpoint === undefined) return 'no log of the policy signed the checkpoint of the meta log';
  const [index, hashes] = [decimal(meta['index']), hashesIn(meta['hashes'])];
  if (index === undefined || hashes === undefined) return 'the proof in the meta log is malformed';
  const root = rootOfInclusion(metaLeafHash(metaEntry(note)), index, checkpoint.size, hashes);
  return root !== undefined && bytesEqual(root, checkpoint.root)
    ? checkpoint
    : 'the path does not lead from the checkpoint of the log to the root of the meta log';
};

/**
 * Judges the member `witnessed` of an answer, of which nothing is believed, for the log `origin`: the inclusion of its
 * checkpoint in the meta log, the meta log’s signature by a key of the policy, the quorum, and its age. `checkpoint` is
 * what was witnessed of the log: whether the log as it is shown goes on from there, or ends there, is the caller’s to see.
 * `key` is the log’s own, else the policy’s of that origin; without either its signature is not checked, which the
 * verdict says.
 * `mayHeal`: a moment later it may be witnessed.
 */
export const judgeWitnessed = (
  policy: Policy,
  shown: unknown,
  asked: { readonly origin: string; readonly nowS: number; readonly maxAgeS: number; readonly key?: VerifierKey },
): { readonly verdict: WitnessedVerdict; readonly checkpoint?: Checkpoint; readonly mayHeal?: true } => {
  if (!isObject(shown) || !isObject(shown['meta']))
    return { verdict: failed('no checkpoint of the meta log covers the log'), mayHeal: true };
  const note = Buffer.from(text(shown['checkpoint']), 'utf8');
  const checkpoint = parseCheckpoint(parseNote(note)?.text ?? '');
  if (checkpoint?.origin !== asked.origin)
    return { verdict: failed(`what is covered is no checkpoint of ${asked.origin}`) };
  if (checkpoint.size === 0n) return { verdict: failed('what is covered is an empty log') };
  const key = asked.key ?? policy.logs.find((log) => log.key.name === asked.origin)?.key;
  if (key !== undefined && openCheckpoint(note, key) === undefined)
    return { verdict: failed(`what is covered was not signed with the key of ${asked.origin}`) };
  const meta = openMeta(policy, note, shown['meta']);
  if (typeof meta === 'string') return { verdict: failed(meta) };
  const facts = { size: String(checkpoint.size), meta: { origin: meta.origin, size: String(meta.size) } };
  const metaNote = Buffer.from(text(shown['meta']['checkpoint']), 'utf8');
  const found = witnessed(policy, metaNote);
  if (found === undefined) return { verdict: failed('a cosignature does not verify', facts) };
  const cosignatures = found.cosignatures.map(({ witness, timeS }) => ({ witness: witness.name, time: iso(timeS) }));
  const by =
    cosignatures.length === 0 ? 'by nobody' : `by ${cosignatures.map(({ witness }) => witness).join(', ')} only`;
  if (policy.quorum.kind === 'none')
    return { verdict: { ...facts, cosignatures, status: 'not_checked', note: 'the policy asks for no witness' } };
  if (!found.isQuorumReached)
    return { verdict: failed(`no quorum, cosigned ${by}`, { ...facts, cosignatures }), mayHeal: true };
  const timeS = quorumTime(policy, metaNote, found.cosignatures) ?? 0;
  const all = { ...facts, cosignatures, witnessedAt: iso(timeS) };
  if (timeS > asked.nowS + MAX_AHEAD_S)
    return { verdict: failed(`the quorum is of a time to come, ${iso(timeS)}`, all) };
  const age = Math.max(0, asked.nowS - timeS);
  if (age > asked.maxAgeS)
    return {
      verdict: failed(`the quorum is ${age} s old, of ${iso(timeS)}; at most ${asked.maxAgeS} s may pass`, all),
      mayHeal: true,
    };
  const witnesses = cosignatures.map(({ witness }) => witness).join(', ');
  return {
    verdict: {
      ...all,
      status: 'ok',
      note:
        `entries up to ${checkpoint.size - 1n} are in a meta checkpoint that ${witnesses} cosigned ${age} s ago; whether the ` +
        'log went on after them, only a later checkpoint that somebody holds can show' +
        (key === undefined ? '; the log’s own signature was not checked' : ''),
    },
    checkpoint,
  };
};
