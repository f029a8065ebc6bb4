import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Ack } from '../../shared/contracts/ack.ts';
import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Log, WriteLedger } from '../core/append.ts';
import type { Database } from '../core/database.ts';
import { readMessage, type Reading } from '../core/ingest-message.ts';
import { lostOffsetsEntry, rewoundSourceEntry } from '../core/ingest-own.ts';
import { needsOf, type Plan } from '../core/ingest-plan.ts';
import { createSlicer } from '../core/ingest-slices.ts';
import type { KeepAlive, SourceHandler, SourceMessage, SourcePartition, Taken } from '../core/ingest-source.ts';
import { nameHoles, streamKey, type Stream } from '../core/ingest-stream.ts';
import { freshIds, type OwnIds } from '../core/own-entry.ts';
import { planGaps, planReclaim, planRetirement } from '../core/ingest-upkeep.ts';
import type { IngestMetrics } from './metrics.ts';
import { planWithState, storePlan } from './state.ts';
import {
  markRetired,
  moveCursor,
  putStreams,
  readCursors,
  readNewestLogs,
  readOpenStreams,
  readStreams,
  readStreamsOf,
  type Logs,
} from './statements.ts';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
/** Another writer is first now and then; again and again it is a fault that somebody must see. */
const CONFLICTS_IN_A_ROW = 5;
/**
 * How long messages are read in one go: less than a round trip to the database, so that reading fills the time in which
 * the transaction of the slice before waits, and hardly delays it.
 */
const READ_SLICE_MS = 0.25;
/** A ledger that was just created is known after this time at the latest. */
const LOGS_AGE_MS = 1_000;

export interface IngestOptions {
  /** For what is read outside a transaction. */
  readonly database: Pick<Database, 'query'>;
  readonly writeLedger: WriteLedger;
  /** Microseconds since 1970. */
  readonly nowUs: () => bigint;
  /** Messages in one transaction. */
  readonly batch: number;
  readonly gapGraceMs: number;
  /** The emitters that count; empty: all. */
  readonly pinned: readonly string[];
  /** True when a commit survives a power cut by itself. */
  readonly isCommitDurable: boolean;
  /** Told after each commit which streams moved; must not throw. */
  readonly onCommitted: (streams: readonly Stream[]) => void;
  readonly logger: Logger;
  readonly metrics: IngestMetrics;
  readonly ids?: OwnIds;
}

export interface RetiredEmitter {
  readonly emitter: string;
  /** Tenants whose ledgers got the entry. */
  readonly tenants: readonly string[];
  readonly streams: number;
}

export interface Ingest extends SourceHandler {
  /** Writes gap entries for holes older than the grace time; how many. Rejects when the database is away. */
  readonly writeGaps: () => Promise<number>;
  /** Closes an emitter that never comes back. Rejects with `not_found` when nothing was ever heard of it. */
  readonly retire: (emitter: string, by: string) => Promise<RetiredEmitter>;
  /** Asks again for what was acknowledged once and is not in the database (a restored copy); how many streams. */
  readonly reclaim: (acks: readonly Ack[]) => Promise<number>;
  readonly logs: () => Promise<Logs>;
  /** Why nothing can be stored at the moment; undefined when it can. */
  readonly failure: () => string | undefined;
  /** Retries end. What is in a transaction is finished by whoever waits for it. */
  readonly close: () => void;
}

const isConflict = (error: unknown): boolean => isAppError(error) && error.code === 'database_conflict';

const isFirstIncarnation = (origin: string): boolean => origin.endsWith('/1');

const present = (logs: Logs, tenants: Iterable<string>): readonly Log[] =>
  [...tenants].map((tenant) => logs.get(tenant)).filter((log) => log !== undefined);

/**
 * Takes messages into the ledger: one transaction a batch, with the source's cursor moved by compare-and-set in it.
 * Nothing but the cursors is kept in memory; they are only a guess that the database confirms or refuses.
 */
export const createIngest = (options: IngestOptions): Ingest => {
  const { database, writeLedger, nowUs, logger, metrics, isCommitDurable } = options;
  const ids = options.ids ?? freshIds();
  const pinned = options.pinned.length === 0 ? undefined : new Set(options.pinned);
  /** `<topic>/<partition>`; undefined: the database has no row. */
  const cursors = new Map<string, bigint | undefined>();
  const closing = new AbortController();
  let failure: string | undefined;
  let known: { readonly logs: Logs; readonly atMs: number } | undefined;

  const nowMs = (): number => Number(nowUs() / 1_000n);
  const cursorKey = ({ topic, partition }: SourcePartition): string => `${topic}/${partition}`;

  const logsFor = async (tenants: Iterable<string>): Promise<Logs> => {
    const isFresh = known !== undefined && nowMs() - known.atMs < LOGS_AGE_MS;
    const isKnown = known !== undefined && [...tenants].every((tenant) => known?.logs.has(tenant));
    if (known === undefined || !isFresh || !isKnown) known = { logs: await readNewestLogs(database), atMs: nowMs() };
    if (!known.logs.has(SYSTEM_TENANT))
      throw new AppError('ledger_missing', `there is no ledger for the system tenant ${SYSTEM_TENANT}`);
    return known.logs;
  };

  const readCursor = async (of: SourcePartition): Promise<bigint | undefined> => {
    const found = (await readCursors(database, of.topic)).get(of.partition);
    cursors.set(cursorKey(of), found);
    return found;
  };

  const cursorOf = async (of: SourcePartition): Promise<bigint | undefined> =>
    cursors.has(cursorKey(of)) ? cursors.get(cursorKey(of)) : readCursor(of);

  /** Until it works, or `keepAlive` says that it is in vain. */
  const persist = async <T>(work: () => Promise<T>, keepAlive: KeepAlive): Promise<T> => {
    let conflicts = 0;
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(delayMs * 2, LAST_RETRY_MS)) {
      try {
        const result = await work();
        if (failure !== undefined) logger.info('storing works again');
        failure = undefined;
        return result;
      } catch (error) {
        if (isConflict(error)) conflicts += 1;
        // That another writer was first is no failure: the next attempt reads what it wrote.
        if (!isConflict(error) || conflicts >= CONFLICTS_IN_A_ROW) {
          if (failure === undefined) logger.error({ err: error }, 'cannot store; waiting');
          failure = errorMessage(error);
          metrics.failures.inc();
        }
        if (closing.signal.aborted || !(await keepAlive())) throw error;
      }
      await sleep(delayMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  };

  const committed = (streams: readonly Stream[]): void => {
    if (streams.length > 0) options.onCommitted(streams);
  };

  const storeSlice = async (
    of: SourcePartition,
    readings: readonly Reading[],
    comparesAll: boolean,
  ): Promise<Taken> => {
    const cursor = await cursorOf(of);
    const from = cursor ?? 0n;
    const fresh = readings.filter(({ message }) => message.offset >= from);
    const last = fresh.at(-1);
    if (last === undefined) return { nextOffset: from, fenced: false };
    const named = new Set([SYSTEM_TENANT, ...fresh.flatMap(({ headerTenant }) => headerTenant ?? [])]);
    const logs = await logsFor(named);
    const needs = needsOf(fresh, new Set(logs.keys()));
    const locked = present(logs, named);
    const started = performance.now();
    const outcome = await writeLedger(async ({ sql, append }): Promise<Plan | 'fenced'> => {
      if (!(await moveCursor(sql, of.topic, of.partition, cursor, last.message.offset + 1n))) return 'fenced';
      const plan = await planWithState(sql, fresh, {
        logs,
        needs,
        nextOffset: from,
        nowMs: nowMs(),
        ids,
        // The key of received events is a log's: what a log before it has, only a look finds.
        comparesAll: comparesAll || locked.some(({ origin }) => !isFirstIncarnation(origin)),
      });
      await storePlan({ sql, append }, logs, plan, nowUs(), isCommitDurable);
      return plan;
    }, locked);
    if (outcome === 'fenced') {
      const found = (await readCursor(of)) ?? 0n;
      metrics.fenced.inc();
      logger.warn(
        { ...of, expected: String(from), found: String(found) },
        'the cursor is not where it was left: another reader, or an older database',
      );
      return { nextOffset: found, fenced: true };
    }
    cursors.set(cursorKey(of), outcome.nextOffset);
    metrics.batchSeconds.observe((performance.now() - started) / 1_000);
    metrics.count(fresh.length, outcome);
    committed(outcome.streams);
    return { nextOffset: outcome.nextOffset, fenced: false };
  };

  const takeSlice = async (of: SourcePartition, readings: readonly Reading[]): Promise<Taken> => {
    try {
      return await storeSlice(of, readings, false);
    } catch (error) {
      // An id that is there already under another number; or another writer, and then this reads what it wrote.
      if (!isConflict(error)) throw error;
      return await storeSlice(of, readings, true);
    }
  };

  /** Reads messages in short goes, so that the transaction of the slice before gets its answers in between. */
  async function* readSlices(messages: readonly SourceMessage[]): AsyncGenerator<readonly Reading[], void> {
    // As even as can be: a small last slice costs as many round trips as a large one.
    const slicer = createSlicer(Math.ceil(messages.length / Math.ceil(messages.length / options.batch)));
    let startedMs = performance.now();
    for (const message of messages) {
      const full = slicer.add(readMessage(message, pinned));
      if (full !== undefined) yield full;
      if (performance.now() - startedMs < READ_SLICE_MS) continue;
      await nextTurn();
      startedMs = performance.now();
    }
    yield slicer.rest();
  }

  /** Moves a cursor with one entry in the system ledger that says why. */
  const jump = async (
    of: SourcePartition,
    from: bigint | undefined,
    to: bigint,
    entry: ReturnType<typeof lostOffsetsEntry>,
  ) => {
    const logs = await logsFor([]);
    const log = logs.get(SYSTEM_TENANT);
    const moved = await writeLedger(
      async ({ sql, append }) => {
        if (log === undefined || !(await moveCursor(sql, of.topic, of.partition, from, to))) return false;
        await append(log, [entry]);
        return true;
      },
      log === undefined ? [] : [log],
    );
    if (!moved) return (await readCursor(of)) ?? 0n;
    cursors.set(cursorKey(of), to);
    return to;
  };

  return {
    async positions(topic) {
      const found = await readCursors(database, topic);
      for (const [partition, next] of found) cursors.set(cursorKey({ topic, partition }), next);
      return found;
    },
    async take(messages, keepAlive) {
      const [first] = messages;
      if (first === undefined) return { nextOffset: 0n, fenced: false };
      const of = { topic: first.topic, partition: first.partition };
      let taken: Taken = { nextOffset: first.offset, fenced: false };
      const slices = readSlices(messages);
      let reading = slices.next();
      for (;;) {
        const { value: slice, done } = await reading;
        if (done === true) return taken;
        // The next slice is read while the database works on this one.
        reading = slices.next();
        taken = await persist(() => takeSlice(of, slice), keepAlive);
        if (taken.fenced || closing.signal.aborted || !(await keepAlive())) return taken;
      }
    },
    reconcile: ({ topic, partition, first, end, read }, keepAlive) =>
      persist(async () => {
        const of = { topic, partition };
        const cursor = await readCursor(of);
        const from = cursor ?? 0n;
        if (first > from) {
          logger.error({ ...of, from: String(from), first: String(first) }, 'the source lost what was never read');
          metrics.lostOffsets.inc(Number(first - from));
          return jump(of, cursor, first, lostOffsetsEntry(SYSTEM_TENANT, of, { from, to: first - 1n }, ids));
        }
        if (cursor !== undefined && cursor === read && read > end) {
          logger.error({ ...of, read: String(read), end: String(end) }, 'the source ends before what was read');
          return jump(of, cursor, first, rewoundSourceEntry(SYSTEM_TENANT, of, { read, first, end }, ids));
        }
        return from;
      }, keepAlive),
    async writeGaps() {
      const logs = await logsFor([]);
      const open = await readOpenStreams(database, logs);
      metrics.missing.set(open.reduce((sum, { holes }) => sum + holes.length, 0));
      const due = planGaps(open, nowMs(), options.gapGraceMs, ids);
      if (due.length === 0) return 0;
      const tenants = new Set(due.map(({ stream }) => stream.tenant));
      const locked = present(logs, tenants);
      const written = await writeLedger(async ({ sql, append }) => {
        // Read again under the lock: a number may have come in between.
        const streams = new Map(
          (
            await readStreams(
              sql,
              logs,
              due.map(({ stream }) => stream),
            )
          ).map((stream) => [streamKey(stream), stream]),
        );
        const gaps = planGaps([...streams.values()], nowMs(), options.gapGraceMs, ids);
        for (const tenant of tenants) {
          const log = logs.get(tenant);
          const own = gaps.filter(({ stream }) => stream.tenant === tenant);
          if (log === undefined || own.length === 0) continue;
          const firstSeq = await append(
            log,
            own.map(({ entry }) => entry),
          );
          own.forEach(({ stream, hole }, index) => {
            const key = streamKey(stream);
            streams.set(key, nameHoles(streams.get(key) ?? stream, [hole], firstSeq + BigInt(index)));
          });
        }
        await putStreams(sql, logs, [...streams.values()], nowUs(), isCommitDurable);
        return { gaps: gaps.length, streams: [...streams.values()] };
      }, locked);
      metrics.entries.inc({ kind: 'gap' }, written.gaps);
      committed(written.streams);
      return written.gaps;
    },
    async retire(emitter, by) {
      const logs = await logsFor([]);
      const done = await writeLedger(
        async ({ sql, append }) => {
          if (!(await markRetired(sql, emitter)))
            throw new AppError('not_found', `nothing was ever heard of emitter ${emitter}`);
          const streams = await readStreamsOf(sql, logs, emitter);
          const retirement = planRetirement(emitter, streams, SYSTEM_TENANT, by, ids);
          for (const [tenant, entry] of retirement.entries) {
            const log = logs.get(tenant);
            if (log !== undefined) await append(log, [entry]);
          }
          await putStreams(sql, logs, retirement.streams, nowUs(), isCommitDurable);
          return retirement;
        },
        [...logs.values()],
      );
      committed(done.streams);
      return { emitter, tenants: [...done.entries.keys()], streams: done.streams.length };
    },
    async reclaim(acks) {
      if (acks.length === 0) return 0;
      const logs = await logsFor([]);
      const streams = await writeLedger(
        async ({ sql }) => {
          const named = acks.map(({ tenant, emitter, boot }) => ({ tenant, emitter, boot: BigInt(boot) }));
          const further = planReclaim(acks, await readStreams(sql, logs, named), new Set(logs.keys()), nowMs());
          await putStreams(sql, logs, further, nowUs(), isCommitDurable);
          return further;
        },
        [...logs.values()],
      );
      committed(streams);
      return streams.length;
    },
    logs: () => logsFor([]),
    failure: () => failure,
    close: () => closing.abort(),
  };
};
