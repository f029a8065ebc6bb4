import { bytesEqual, hex } from '../../shared/contracts/bytes.ts';
import type { TreeHasher } from '../../shared/tlog/merkle.ts';
import type { Entry } from './entry.ts';
import type { VerifyInput } from './verify-input.ts';
import type { Numbers } from './verify-numbers.ts';
import type { Findings } from './verify-report.ts';
import type { StreamTracker } from './verify-streams.ts';
import { timeOfEvent } from './verify-window.ts';

type Continued = NonNullable<VerifyInput['continued']>;

/** The database had less of the log than the next incarnation names. */
export const isRewound = ({ kept, size }: Continued): boolean => kept !== undefined && kept < size;

/** Where the log is as long as the next incarnation says, it has that root. */
export const checkEnd = (
  findings: Findings,
  continued: Continued | undefined,
  tree: Pick<TreeHasher, 'size' | 'root'>,
  seq: bigint,
): void => {
  if (continued === undefined || isRewound(continued) || tree.size() !== continued.size) return;
  if (!bytesEqual(tree.root(), continued.root))
    findings.fail('append_only', {
      seq: String(seq),
      what: `root at size ${continued.size}, as the genesis of ${continued.by} names it`,
      expected: hex(continued.root),
      actual: hex(tree.root()),
      attack: 'history_rewritten',
    });
};

/** What was signed and is gone stays a finding for ever: nobody can show again what stood there. */
export const noteRewound = (findings: Findings, { by, size, kept = 0n }: Continued, end: bigint): void =>
  findings.fail('append_only', {
    seq: String(kept),
    what: `entries ${kept}–${size - 1n}, as the genesis of ${by} names them`,
    expected: 'those that were signed',
    actual:
      'gone: the database was restored from an older copy' +
      (end > kept ? `; ${end - kept} others stand there that no checkpoint covers` : ''),
    attack: 'log_rewound',
  });

/** The first entry of an incarnation says what the ones before it have. */
export const carry = (streams: StreamTracker, entry: Entry, carried: Numbers['carried'] = []): void => {
  for (const { emitter, boot, had, missing } of carried) {
    for (const { from, to } of had) streams.elsewhere(emitter, boot, from, to);
    const highest = [...had, ...missing].reduce((most, { to }) => (to > most ? to : most), 0n);
    const { seq, ingestUs, eventId } = entry;
    streams.recovered(
      { source: 'the first entry', emitter, boot, highest },
      { seq, ingestUs, timeMs: timeOfEvent(eventId) },
    );
  }
};

/** What the next incarnation goes on from must be here, or is left to it. */
export const checkContinued = (findings: Findings, tracker: StreamTracker, { by, streams = [] }: Continued): void => {
  for (const { had, missing } of streams) {
    for (const { emitter, boot, from, to } of missing) tracker.elsewhere(emitter, boot, from, to);
    for (const { emitter, boot, from, to } of had) {
      findings.count('completeness', 'carried');
      if (tracker.accounts(emitter, boot, from, to)) continue;
      findings.fail('completeness', {
        seq: null,
        what: `emitter ${emitter} boot ${boot}: numbers ${from}–${to}`,
        expected: `an entry each: the genesis of ${by} goes on behind them`,
        actual: 'missing',
        attack: 'tail_truncated',
      });
    }
  }
};
