import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import type { TreeHasher } from '../../shared/tlog/merkle.ts';
import { genesisHash } from './entry.ts';
import type { TreeNode } from './signing.ts';
import { age, coverage, type CheckpointChecker, type Covered } from './verify-checkpoints.ts';
import { isRewound, noteRewound } from './verify-continued.ts';
import type { GoneTracker } from './verify-gone.ts';
import type { KnownSize, Orphan, VerifyInput } from './verify-input.ts';
import type { Findings, VerificationReport } from './verify-report.ts';
import type { StateChecker } from './verify-state.ts';
import type { StreamTracker } from './verify-streams.ts';

/** Where the reading of a log stands, and what looks at it. */
export interface Walk {
  readonly findings: Findings;
  readonly streams: StreamTracker;
  readonly state: StateChecker | undefined;
  readonly checkpoints: CheckpointChecker;
  readonly input: VerifyInput;
  readonly keys: Map<string, Uint8Array>;
  readonly gone: GoneTracker;
  readonly knownLeaves: Map<bigint, KnownSize[]>;
  next: bigint;
  /** The recomputed leaf of the row before; undefined where that row is missing or malformed. */
  leaf: Uint8Array | undefined;
  lastLeaf: Uint8Array | undefined;
  readonly tree: TreeHasher;
  /** Hashes of tiles that the row at hand completes. */
  readonly completed: TreeNode[];
  lastIngestUs: bigint;
  unattested: number;
  /** Payloads that the source does not give, and how many of them account for numbers. */
  withheld: bigint;
  withheldAccounts: number;
}

export const finishEnd = (walk: Walk): void => {
  const { findings, input } = walk;
  const { head } = input;
  if (walk.next < head.size)
    findings.fail('append_only', {
      seq: String(walk.next),
      what: head.size - walk.next === 1n ? 'entry' : `entries ${walk.next}–${head.size - 1n}`,
      expected: 'present: the head says that the log has them',
      actual: 'missing',
      attack: 'tail_truncated',
    });
  else if (walk.next > head.size)
    findings.fail('append_only', {
      seq: String(head.size),
      what: 'entries after the head',
      expected: `the log ends before entry ${head.size}`,
      actual: `${walk.next - head.size} more`,
      attack: 'entry_inserted',
    });
  const end = walk.lastLeaf ?? genesisHash(input.log);
  if (walk.next === head.size && !bytesEqual(end, head.leaf))
    findings.fail('append_only', {
      seq: null,
      what: 'leaf hash in the head',
      expected: hex(end),
      actual: hex(head.leaf),
      attack: 'history_rewritten',
    });
  const { continued } = input;
  if (continued !== undefined && isRewound(continued)) noteRewound(findings, continued, walk.next);
  else if (continued !== undefined && walk.next !== continued.size)
    findings.fail('append_only', {
      seq: String(walk.next < continued.size ? walk.next : continued.size),
      what: `size of the log, as the genesis of ${continued.by} names it`,
      expected: String(continued.size),
      actual: String(walk.next),
      attack: walk.next < continued.size ? 'tail_truncated' : 'entry_inserted',
    });
  for (const { source, size } of input.known) {
    findings.count('append_only', 'known_sizes');
    if (size > walk.next)
      findings.fail('append_only', {
        seq: String(walk.next),
        what: `size of the log, as ${source} has it`,
        expected: `at least ${size}`,
        actual: String(walk.next),
        attack: 'tail_truncated',
      });
  }
};

export const finishOrphans = (walk: Walk, orphans: readonly Orphan[]): void => {
  for (const { table, seq } of orphans)
    walk.findings.fail(table === 'search' ? 'projection' : 'lifecycle', {
      seq: String(seq),
      what: `${table} row`,
      expected: 'an entry with this seq',
      actual: 'none',
      attack: table === 'search' ? 'search_inserted' : 'entry_removed',
    });
};

/** What was found at the end of the log. */
export interface Ending {
  /** Unix milliseconds. */
  readonly started: number;
  readonly covered: Covered;
  readonly streams: ReturnType<StreamTracker['finish']>;
  /** Payloads that are gone by entries which no checkpoint covers yet. */
  readonly unproven: bigint;
}

const note = (...parts: readonly (string | false)[]): string | undefined =>
  parts.filter((part) => part !== false).join('; ') || undefined;

const lastGoodOf = (
  { good }: Covered,
  firstBad: bigint | undefined,
): { readonly size: string; readonly root: string } | null => {
  const found = good.findLast(({ size }) => firstBad === undefined || size <= firstBad);
  return found === undefined ? null : { size: String(found.size), root: hex(found.root) };
};

/** The verdicts, once everything was read. */
export const reportOf = (walk: Walk, { started, covered, streams, unproven }: Ending): VerificationReport => {
  const { findings, input } = walk;
  const ofPayloads = walk.withheld > 0n ? 'not_checked' : 'ok';
  const noPayloads = `the source gave no payloads of ${walk.withheld} entries`;
  return {
    tenant: input.log.tenant,
    origin: input.log.origin,
    size: String(input.head.size),
    lastLeaf: walk.lastLeaf === undefined ? null : hex(walk.lastLeaf),
    root: hex(walk.tree.root()),
    checkpoint:
      covered.note === undefined
        ? null
        : { size: String(covered.size), note: Buffer.from(covered.note).toString('utf8') },
    lastGood: lastGoodOf(covered, findings.firstBad()),
    attacks: findings.attacks(),
    ...(input.from === undefined
      ? {}
      : {
          since: {
            size: String(input.from.place.tree.size),
            root: hex(input.from.place.root),
            verifiedAt: input.from.verifiedAt,
          },
        }),
    startedAt: new Date(started).toISOString(),
    endedAt: new Date(input.now()).toISOString(),
    verdicts: {
      authenticity: findings.verdict(
        'authenticity',
        covered.size > 0n ? 'ok' : 'not_checked',
        note(
          coverage(covered, walk.next),
          walk.withheld > 0n && 'signatures of emitters are in payloads: not checked',
          walk.unattested > 0 && `${walk.unattested} heartbeats of emitters whose key is not known`,
        ),
      ),
      append_only: findings.verdict(
        'append_only',
        input.known.some(({ isOutside }) => isOutside) ? 'ok' : 'not_checked',
        note(
          input.known.some(({ isOutside }) => isOutside)
            ? 'compared with its head and with what is remembered outside the database'
            : 'nothing outside the database says how long this log was: an end that was cut off, with its checkpoints, is not found',
          coverage(covered, walk.next),
        ),
      ),
      integrity: findings.verdict(
        'integrity',
        ofPayloads,
        note(walk.withheld > 0n && `headers, links and tree only: ${noPayloads}`),
      ),
      projection: findings.verdict('projection', ofPayloads, note(walk.withheld > 0n && noPayloads)),
      completeness: findings.verdict(
        'completeness',
        streams.unexplained > 0n ? 'not_checked' : 'ok',
        note(
          walk.withheld > 0n &&
            'by the numbers in headers: the digests that link events, and what seals count, are in payloads',
          streams.unexplained > 0n &&
            `${streams.unexplained} numbers are missing, and what may name them is in payloads that were not read or are gone`,
          streams.named > 0n && `${streams.named} numbers are missing and named by gap, lost or retire entries`,
          streams.pending > 0n && `${streams.pending} numbers are missing for less than the grace time`,
        ),
      ),
      lifecycle: findings.verdict(
        'lifecycle',
        unproven > 0n ? 'not_checked' : ofPayloads,
        note(
          walk.withheld > 0n && noPayloads,
          unproven > 0n &&
            `${unproven} payloads are gone by entries that no checkpoint read here covers; verify again later`,
        ),
      ),
      freshness: findings.verdict('freshness', 'not_checked', age(covered)),
      clock: findings.verdict('clock', 'ok'),
    },
    findings: findings.list(),
  };
};
