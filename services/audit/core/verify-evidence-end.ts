import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import type { Checkpoint } from '../../shared/tlog/checkpoint.ts';
import type { TreeHasher } from '../../shared/tlog/merkle.ts';
import { ENTRY_KINDS, type Entry } from './entry.ts';
import { evidenceInvalid, MEMBERS, type EvidenceAbout } from './evidence-format.ts';
import { age, type CheckpointChecker } from './verify-checkpoints.ts';
import { createGoneTracker, judgeGone, type GoneTracker } from './verify-gone.ts';
import type { AttackClass, Findings, VerdictName, VerificationReport } from './verify-report.ts';
import type { StreamTracker } from './verify-streams.ts';

/** How far ingest time may step back, stand ahead of this machine's clock, or before what was asked for. */
export const CLOCK_TOLERANCE_US = 5_000_000n;
/** A number that is missing so shortly before the end of a bundle may become a gap entry behind it. */
const GRACE_US = 600_000_000n;

export interface EvidenceEnd {
  /** A header that could be decoded. */
  readonly entry: (entry: Entry) => void;
  /** Its payload is gone. */
  readonly gone: GoneTracker['missing'];
  /** The payload of an erasure or retention entry. */
  readonly named: GoneTracker['named'];
  /** `isWhole`: every member could be read. */
  readonly verdicts: (isWhole: boolean, nowMs: number) => VerificationReport['verdicts'];
}

interface EvidenceEndOptions {
  readonly findings: Findings;
  readonly about: EvidenceAbout;
  readonly size: bigint;
  readonly start: { readonly size: bigint } | undefined;
  readonly newest: Checkpoint | undefined;
  readonly isOwnKey: boolean;
  readonly checkpoints: CheckpointChecker;
  readonly streams: StreamTracker | undefined;
  readonly tree: TreeHasher;
}

const timeOf = (us: bigint): string => {
  const date = new Date(Number(us / 1_000n));
  return Number.isNaN(date.getTime()) ? `${us} µs` : date.toISOString();
};

/** A bound of a range, µs. Throws `evidence_invalid` for what is no time. */
const boundOf = ({ filter }: EvidenceAbout, name: 'from' | 'to'): bigint | undefined => {
  const text = filter[name];
  if (text === undefined) return undefined;
  const ms = typeof text === 'string' ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms)) throw evidenceInvalid(MEMBERS.about, `filter.${name} is no time`);
  return BigInt(ms) * 1_000n;
};

/** What can be said only when all entries of a bundle were seen. */
export const createEvidenceEnd = (options: EvidenceEndOptions): EvidenceEnd => {
  const { findings, about, size, start, newest, checkpoints, streams, tree } = options;
  const [fromUs, toUs] = [boundOf(about, 'from'), boundOf(about, 'to')];
  const tracker = createGoneTracker();
  let first: Entry | undefined;
  let last: Entry | undefined;
  let newestUs = 0n;

  const fail = (
    verdict: VerdictName,
    seq: bigint | undefined,
    what: string,
    expected: string,
    actual: string,
    attack: AttackClass,
  ): void => findings.fail(verdict, { seq: seq === undefined ? null : String(seq), what, expected, actual, attack });

  const finishTree = (): void => {
    if (tree.size() !== size)
      fail(
        'append_only',
        tree.size() < size ? tree.size() : size,
        'entries',
        `all below ${size}, and no more`,
        `those below ${tree.size()}`,
        tree.size() < size ? 'tail_truncated' : 'entry_inserted',
      );
    else if (newest !== undefined && !bytesEqual(tree.root(), newest.root))
      fail(
        'append_only',
        undefined,
        `root at size ${size}, as the log’s key signed it`,
        hex(newest.root),
        hex(tree.root()),
        'history_rewritten',
      );
  };

  const finishRange = (from: bigint): void => {
    finishTree();
    if (last?.kind !== ENTRY_KINDS.seal)
      fail('completeness', last?.seq, 'last entry', 'a seal, which counts the others', 'another', 'seal_wrong');
    if (fromUs !== undefined && from > 0n && first !== undefined && first.ingestUs > fromUs + CLOCK_TOLERANCE_US)
      fail(
        'completeness',
        first.seq,
        'ingest time of the first entry',
        `before ${timeOf(fromUs)}, so that nothing after it is left out`,
        timeOf(first.ingestUs),
        'entry_removed',
      );
    const claims = streams === undefined ? [] : checkpoints.claims();
    streams?.finish({ nowUs: newestUs, graceUs: GRACE_US, claims, areNamesKnown: true });
  };

  /** How many payloads are gone of which the bundle cannot say whether they may be. */
  const finishGone = (): bigint => {
    if (start?.size === 0n) return judgeGone(findings, tracker, size, []);
    const { unlawful, missing } = tracker.finish(size);
    findings.count('lifecycle', 'payloads_gone', Number(missing));
    return unlawful.reduce((sum, { from, to }) => sum + (to - from + 1n), 0n);
  };

  const completenessNote = (): string => {
    if (start === undefined)
      return 'a filter shows that what is here is in the log; whether a match was left out, only a bundle of the range can show';
    const until = last === undefined ? '' : ` to ${timeOf(last.ingestUs)}`;
    const whole =
      first === undefined
        ? ''
        : `everything that the ledger took in from ${timeOf(first.ingestUs)}${until} is here, as its seals count it`;
    const short =
      toUs !== undefined && last !== undefined && last.ingestUs < toUs
        ? `; no checkpoint reached ${timeOf(toUs)}: what came after is not here`
        : '';
    return `${whole}${short}${streams === undefined ? '; numbers of emitters are followed in bundles from entry 0 only' : ''}`;
  };

  return {
    entry: (entry) => {
      first ??= entry;
      last = entry;
      if (entry.ingestUs > newestUs) newestUs = entry.ingestUs;
    },
    gone: tracker.missing,
    named: (entry, document) => {
      // One that the checkpoint does not cover allows nothing.
      if (entry.seq < size) tracker.named(entry, document);
    },
    verdicts: (isWhole, nowMs) => {
      const isRange = start !== undefined;
      if (isWhole && isRange) finishRange(start.size);
      const open = isWhole ? finishGone() : 0n;
      if (newestUs > BigInt(Math.floor(nowMs)) * 1_000n + CLOCK_TOLERANCE_US)
        fail('clock', undefined, 'newest ingest time', 'not after the time now', timeOf(newestUs), 'time_shifted');
      const covered = checkpoints.finish(size);
      const verdict = (name: VerdictName, otherwise: 'ok' | 'not_checked', note?: string) =>
        isWhole
          ? findings.verdict(name, otherwise, note)
          : findings.verdict(name, 'not_checked', 'the bundle could not be read to its end');
      return {
        authenticity: verdict(
          'authenticity',
          newest !== undefined && options.isOwnKey ? 'ok' : 'not_checked',
          options.isOwnKey
            ? 'signed with the key that you hold'
            : 'signed with the key in the bundle; whether that is the log’s, only a key that you hold can show',
        ),
        append_only: verdict(
          'append_only',
          newest === undefined ? 'not_checked' : 'ok',
          isRange
            ? `the entries lead from the tree of size ${start.size} to the one of size ${size}`
            : `each entry is in the tree of size ${size}`,
        ),
        integrity: verdict('integrity', 'ok'),
        projection: isRange
          ? verdict('projection', 'not_checked', 'a bundle of a range has no search table')
          : verdict(
              'projection',
              'ok',
              'each decision is one that the filter asks for; masked values cannot be compared',
            ),
        completeness: verdict('completeness', isRange ? 'ok' : 'not_checked', completenessNote()),
        lifecycle: verdict(
          'lifecycle',
          open > 0n ? 'not_checked' : 'ok',
          open > 0n
            ? `${open} payloads are gone, which nothing here allows; what does may stand elsewhere in the log: export it from entry 0`
            : undefined,
        ),
        freshness: verdict('freshness', 'not_checked', isRange ? age(covered) : 'no witness says when it was signed'),
        clock: verdict('clock', 'ok'),
      };
    },
  };
};
