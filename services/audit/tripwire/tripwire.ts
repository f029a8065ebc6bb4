import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, errorMessage } from '../../shared/contracts/errors.ts';
import type { CheckResult } from '../../shared/runtime/health.ts';
import type { Handle } from '../../shared/runtime/lifecycle.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { databaseError } from '../core/database.ts';
import { createChangeCollector, type TripwireAlarm } from '../core/tripwire.ts';
import { formatLsn, readStreamMessage, type Lsn } from '../core/wal-changes.ts';
import type { MemoryFile } from './memory-file.ts';
import type { TripwireMetrics } from './metrics.ts';

/** The slot's messages, from where it stands; `postgres/replication-stream.ts`. */
interface ChangeStream {
  readonly messages: AsyncIterable<Buffer>;
  readonly confirm: (lsn: Lsn) => void;
  readonly close: () => Promise<void>;
}

interface Watched {
  readonly system: string;
  readonly isCapped: boolean;
  readonly slot:
    | { readonly confirmed: Lsn; readonly walStatus: string; readonly lagBytes: number; readonly keptBytes: number }
    | undefined;
}

export interface TripwireOptions {
  readonly slot: string;
  readonly state: () => Promise<Watched>;
  readonly createSlot: () => Promise<Lsn>;
  readonly dropSlot: () => Promise<void>;
  readonly openStream: () => Promise<ChangeStream>;
  /** Stores alarms, each once however often it is told. */
  readonly raise: (alarms: readonly TripwireAlarm[]) => Promise<void>;
  readonly memory: MemoryFile;
  /** Readiness is red above it. */
  readonly maxLagBytes: number;
  readonly logger: Logger;
  readonly metrics: TripwireMetrics;
}

export interface Tripwire extends Handle {
  readonly checks: {
    readonly stream: () => CheckResult;
    readonly slot: () => Promise<CheckResult>;
    readonly changes: () => CheckResult;
  };
}

const RETRY_MS = 1_000;
/** How often the server is told how far everything was read: each time the memory is synced first. */
const CONFIRM_MS = 2_000;
const MAX_TOLD = 1_000;
const SHOWN = 10;
const UNCAPPED =
  'max_slot_wal_keep_size is not set: should nobody read the slot, the server’s disk would fill up and the ledger stop';

const maximum = (a: Lsn, b: Lsn): Lsn => (a > b ? a : b);

/**
 * Watches the write-ahead log until closed. A slot that was lost, is gone or was moved by somebody else is an alarm of
 * its own, because nobody knows what happened meanwhile; then it is made anew: late is better than blind.
 * Rejects with `settings_invalid` when the server is not made for it, also where it keeps write-ahead log without limit.
 */
export const startTripwire = async (options: TripwireOptions): Promise<Tripwire> => {
  const { slot, memory, metrics, logger } = options;
  const closing = new AbortController();
  let failure: string | undefined = 'nothing was read yet';
  let endStream: (() => Promise<void>) | undefined;
  /** What was said by this process: the newest alarms in order. */
  const told = new Set<string>();
  let alarmCount = 0;

  /** Said first, then stored; said once, also when it is read a second time because it could not be stored. */
  const raise = async (alarms: readonly TripwireAlarm[]): Promise<void> => {
    for (const { lsn, xid, relation, operation, rows, keys } of alarms) {
      const name = `${formatLsn(lsn)} ${operation} ${relation}`.trimEnd();
      if (told.has(name)) continue;
      told.add(name);
      if (told.size > MAX_TOLD) told.delete([...told][0] ?? '');
      alarmCount += 1;
      const facts = { lsn: formatLsn(lsn), xid: xid === undefined ? null : String(xid), rows: String(rows), keys };
      logger.error({ ...facts, relation, operation }, 'the ledger was changed behind its programs');
      metrics.alarms.inc({ operation });
    }
    await options.raise(alarms);
  };

  const interrupted = async (lsn: Lsn, why: string): Promise<void> => {
    metrics.interruptions.inc();
    await raise([{ lsn, relation: '', operation: 'watch_interrupted', rows: 0n, keys: [why] }]);
  };

  /** The slot as it is to be read from; made where there is none. */
  const prepareSlot = async (): Promise<{ readonly system: string; readonly from: Lsn }> => {
    const { system, isCapped, slot: found } = await options.state();
    const known = memory.read();
    const remembered = known?.slot === slot && known.system === system ? known.lsn : undefined;
    if (known !== undefined && remembered === undefined)
      logger.warn({ known: { ...known, lsn: formatLsn(known.lsn) } }, 'the memory is of another server or slot');
    if (found !== undefined && found.walStatus !== 'lost') {
      // The memory is written before the server is told, so it is never behind.
      if (remembered !== undefined && found.confirmed > remembered)
        await interrupted(remembered, `somebody moved the slot on to ${formatLsn(found.confirmed)}`);
      return { system, from: found.confirmed };
    }
    if (!isCapped) throw new AppError('settings_invalid', UNCAPPED);
    if (found !== undefined) {
      await interrupted(remembered ?? found.confirmed, 'the slot was lost: more was written than the server may keep');
      await options.dropSlot();
    } else if (remembered !== undefined) await interrupted(remembered, 'the slot was gone');
    const from = await options.createSlot();
    logger.info({ slot, lsn: formatLsn(from) }, 'slot made');
    return { system, from };
  };

  const read = async (system: string, from: Lsn): Promise<void> => {
    const opened = await options.openStream();
    const collector = createChangeCollector();
    let safe = from;
    let confirmed = 0n;
    const confirm = (): void => {
      if (safe > confirmed) memory.write({ slot, system, lsn: safe });
      confirmed = safe;
      opened.confirm(safe);
    };
    let failed = new AppError('database_unavailable', 'the stream ended');
    endStream = () => {
      confirm();
      return opened.close();
    };
    const timer = setInterval(() => {
      try {
        confirm();
      } catch (error) {
        failed = databaseError(error);
        void opened.close();
      }
    }, CONFIRM_MS);
    try {
      confirm();
      failure = undefined;
      metrics.watching.set(1);
      for await (const bytes of opened.messages) {
        const message = readStreamMessage(bytes);
        if (message.kind === 'keepalive') {
          if (!collector.isInTransaction()) safe = maximum(safe, message.end);
          if (message.wantsReply) confirm();
          continue;
        }
        const commit = collector.take(message.message);
        if (commit === undefined) continue;
        if (commit.alarms.length > 0) await raise(commit.alarms);
        safe = maximum(safe, commit.end);
        if (commit.alarms.length > 0) confirm();
      }
    } catch (error) {
      failed = databaseError(error);
    } finally {
      clearInterval(timer);
      metrics.watching.set(0);
      endStream = undefined;
      await opened.close();
    }
    throw failed;
  };

  const work = async (first: { readonly system: string; readonly from: Lsn }): Promise<void> => {
    let prepared: typeof first | undefined = first;
    while (!closing.signal.aborted) {
      try {
        const { system, from } = prepared ?? (await prepareSlot());
        prepared = undefined;
        await read(system, from);
      } catch (error) {
        if (closing.signal.aborted) return;
        failure = errorMessage(error);
        logger.warn({ err: error }, 'watching is tried again');
      }
      await sleep(RETRY_MS, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  };

  const working = work(await prepareSlot());
  return {
    checks: {
      stream: () => (failure === undefined ? { ok: true } : { ok: false, reason: failure }),
      slot: async () => {
        const { isCapped, slot: found } = await options.state();
        if (found === undefined) return { ok: false, reason: 'the slot is gone' };
        const { lagBytes, keptBytes, walStatus } = found;
        metrics.lag.set(lagBytes);
        metrics.kept.set(keptBytes);
        const facts = { lag_bytes: lagBytes, kept_bytes: keptBytes, wal_status: walStatus };
        if (walStatus === 'lost' || walStatus === 'unreserved')
          return { ok: false, reason: `what the slot needs is ${walStatus}`, facts };
        if (lagBytes > options.maxLagBytes)
          return { ok: false, reason: `more than ${options.maxLagBytes} bytes wait`, facts };
        return isCapped ? { ok: true, facts } : { ok: false, reason: UNCAPPED, facts };
      },
      changes: () =>
        alarmCount === 0
          ? { ok: true }
          : {
              ok: false,
              reason: 'the ledger was changed behind its programs; restart the tripwire once that is looked into',
              facts: {
                alarms: alarmCount,
                newest: [...told].slice(-SHOWN),
              },
            },
    },
    close: async () => {
      closing.abort();
      await endStream?.();
      await working;
    },
  };
};
