import { statSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import type { EventHeaders } from '../../shared/contracts/events.ts';
import { partitionOf } from '../../shared/kafka/client.ts';
import type { OutgoingMessage, Sender } from '../../shared/kafka/sender.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { readCursor, saveCursor } from '../../shared/spool/cursor.ts';
import { segmentFileName, type SpoolRecord } from '../../shared/spool/format.ts';
import { openSpoolReader, type SpoolReader } from '../../shared/spool/reader.ts';
import {
  listSegments,
  scanSummary,
  sealedSummary,
  streamKey,
  type SegmentSummary,
} from '../../shared/spool/segments.ts';
import type { SpoolOfSlot } from '../../shared/spool/slots.ts';
import type { AckBook } from './ack-book.ts';
import { contains, heldRanges, splitRanges, type Range } from './holes.ts';
import { createResendPlan, type Resend, type ResendTimings } from './resend-plan.ts';

export interface SlotRelayOptions {
  readonly spool: SpoolOfSlot;
  readonly cursorFile: string;
  readonly sender: Sender;
  readonly acks: AckBook;
  readonly timings: ResendTimings;
  readonly nowMs: () => number;
  readonly logger: Logger;
  /** The segments of the emitter when it lives in this process; else they are read from the disk. */
  readonly segmentsOf: (emitter: string) => readonly SegmentSummary[] | undefined;
  /** The broker has every record below `next`. */
  readonly onConfirmed: (emitter: string, next: bigint) => void;
}

export interface SlotRelayStatus {
  readonly slot: string;
  readonly emitter: string;
  /** The first record that the broker did not confirm yet. */
  readonly next: bigint;
  /** Since when there is something that could not be sent; absent when everything is. */
  readonly behindSinceMs?: number;
  readonly resent: number;
  readonly damaged: number;
}

export interface SlotRelay {
  readonly status: () => SlotRelayStatus;
  /** Resolves when the relay ended: closed, or the spool is not the one any more that it was opened for. */
  readonly ended: Promise<void>;
  readonly close: () => Promise<void>;
}

/** With 200 bytes for key, headers and framing of each record this stays below the broker's 1 MiB for a batch. */
const BATCH = { maxRecords: 500, maxBytes: 800_000 } as const;
const SAVE_EVERY_MS = 1_000;
const RESEND_CHECK_MS = 250;
const RETAIN_EVERY_MS = 60_000;
const RETRY_MS = 1_000;

const messageOf = (emitter: string, record: SpoolRecord): OutgoingMessage => {
  const headers: EventHeaders = {
    emitter,
    boot: record.boot.toString(),
    tenant: record.tenant,
    sequence: record.sequence.toString(),
  };
  return { key: record.tenant, value: record.event, headers: { ...headers } };
};

/** Passes one slot's spool on to the broker, from its cursor on, and again what the ledger misses. */
export const startSlotRelay = (options: SlotRelayOptions): SlotRelay => {
  const { spool, cursorFile, sender, acks, nowMs, logger } = options;
  const { emitter, directory } = spool;
  const plan = createResendPlan(emitter, acks, options.timings);
  const partitionsOfTenants = new Map<string, number>();
  const sealed = new Map<bigint, SegmentSummary>();
  let closed = false;
  let damaged = 0;
  let resent = 0;
  let behindSinceMs: number | undefined;
  let savedMs = Number.NEGATIVE_INFINITY;
  let saved: bigint | undefined;
  let resendCheckMs = 0;
  let retainMs = 0;

  const startCursor = (): bigint => {
    try {
      const cursor = readCursor(cursorFile);
      return cursor?.emitter === emitter ? cursor.next : 0n;
    } catch (error) {
      logger.warn({ err: error, slot: spool.slot }, 'the cursor of the relay is damaged; everything is sent again');
      return 0n;
    }
  };

  /** The first record that the broker did not confirm. */
  let next = startCursor();
  const reader: SpoolReader = openSpoolReader({
    directory,
    emitter,
    from: next,
    isFinal: spool.movedAside,
  });

  const segments = (): readonly SegmentSummary[] => {
    const live = options.segmentsOf(emitter);
    // Segments come and go while this is walked.
    if (live !== undefined) return [...live];
    const bases = listSegments(directory);
    for (const base of sealed.keys()) if (!bases.includes(base)) sealed.delete(base);
    return bases.flatMap((base, index) => {
      const known = sealed.get(base);
      const bytes = statSync(join(directory, segmentFileName(base))).size;
      if (known?.bytes === bytes) return [known];
      try {
        const summary =
          index < bases.length - 1 ? sealedSummary(directory, base) : scanSummary(directory, base).summary;
        sealed.set(base, summary);
        return [summary];
      } catch (error) {
        // A damaged segment cannot tell what it holds; what can be read of it is sent once, in order.
        if (isAppError(error) && error.code === 'spool_corrupt') return [];
        throw error;
      }
    });
  };

  const save = (force: boolean): void => {
    if (saved === next || (!force && nowMs() - savedMs < SAVE_EVERY_MS)) return;
    try {
      saveCursor(cursorFile, { emitter, next });
      saved = next;
    } catch (error) {
      // Without a cursor the next relay sends again what this one sent: nothing is lost by it.
      logger.warn({ err: error, slot: spool.slot }, 'the cursor of the relay cannot be saved');
    }
    savedMs = nowMs();
  };

  const sendAll = async (records: readonly SpoolRecord[]): Promise<void> => {
    const count = await sender.partitions();
    const byPartition = new Map<number, OutgoingMessage[]>();
    for (const record of records) {
      let partition = partitionsOfTenants.get(record.tenant);
      if (partition === undefined || partition >= count) {
        partition = partitionOf(record.tenant, count);
        partitionsOfTenants.set(record.tenant, partition);
      }
      const messages = byPartition.get(partition);
      if (messages === undefined) byPartition.set(partition, [messageOf(emitter, record)]);
      else messages.push(messageOf(emitter, record));
    }
    await Promise.all([...byPartition].map(([partition, messages]) => sender.send(partition, messages)));
    const time = nowMs();
    for (const { boot, tenant, sequence } of records) plan.confirmed(boot, tenant, sequence, time);
  };

  /** What an earlier run sent may have been lost as well: it is watched as if it was sent now. */
  const watchEarlier = async (): Promise<void> => {
    const time = nowMs();
    for (const { base, records, streams } of segments()) {
      if (base + BigInt(records) <= next)
        for (const { boot, tenant, last } of streams.values()) plan.confirmed(boot, tenant, last, time);
      else if (base < next) await watchBefore(base, time);
    }
  };

  /** The cursor stands within a segment: its records before the cursor were sent. */
  const watchBefore = async (base: bigint, time: number): Promise<void> => {
    const earlier = openSpoolReader({ directory, emitter, from: base });
    try {
      while (!closed && earlier.next() < next) {
        const batch = await earlier.read(BATCH);
        if (batch.kind !== 'records') return;
        for (const { boot, tenant, sequence, number } of batch.records)
          if (number < next) plan.confirmed(boot, tenant, sequence, time);
      }
    } finally {
      earlier.close();
    }
  };

  /** The records of `resends` that one segment holds, sent in batches. */
  const resendFrom = async ({ base, records }: SegmentSummary, wanted: ReadonlyMap<string, readonly Range[]>) => {
    const again = openSpoolReader({ directory, emitter, from: base });
    try {
      const end = base + BigInt(records);
      while (!closed && again.next() < end) {
        const batch = await again.read(BATCH);
        if (batch.kind === 'corrupt') {
          again.seek(batch.resumeAt);
          continue;
        }
        if (batch.kind !== 'records') return;
        const matching = batch.records.filter(
          ({ boot, tenant, sequence, number }) =>
            number < next && contains(wanted.get(streamKey(boot, tenant)) ?? [], sequence),
        );
        if (matching.length === 0) continue;
        await sendAll(matching);
        resent += matching.length;
      }
    } finally {
      again.close();
    }
  };

  const resend = async (resends: readonly Resend[]): Promise<void> => {
    const held = segments();
    const wanted = new Map<string, readonly Range[]>();
    for (const { boot, tenant, ranges } of resends) {
      const { present } = splitRanges(ranges, heldRanges(held, boot, tenant));
      if (present.length > 0) wanted.set(streamKey(boot, tenant), present);
    }
    for (const segment of held) {
      const touched = [...segment.streams].some(([key, { first, last }]) =>
        (wanted.get(key) ?? []).some(([from, to]) => from <= last && to >= first),
      );
      if (touched) await resendFrom(segment, wanted);
    }
  };

  const maintain = async (): Promise<void> => {
    const time = nowMs();
    if (time >= resendCheckMs) {
      resendCheckMs = time + RESEND_CHECK_MS;
      const due = plan.due(time);
      if (due.length > 0) {
        logger.info({ slot: spool.slot, streams: due.length }, 'what the ledger misses is sent again');
        await resend(due);
      }
    }
    if (time >= retainMs) {
      retainMs = time + RETAIN_EVERY_MS;
      const held = segments();
      plan.retain((boot, tenant) => held.some(({ streams }) => streams.has(streamKey(boot, tenant))));
    }
    save(false);
  };

  /** One step; false when this spool is over. */
  const step = async (): Promise<boolean> => {
    const batch = await reader.read(BATCH);
    switch (batch.kind) {
      case 'records': {
        behindSinceMs ??= nowMs();
        await sendAll(batch.records);
        next = reader.next();
        options.onConfirmed(emitter, next);
        break;
      }
      case 'waiting':
        behindSinceMs = undefined;
        await maintain();
        if (!closed) await reader.changed();
        return true;
      case 'gone':
        logger.warn(
          { slot: spool.slot, from: next.toString(), to: batch.first.toString() },
          'records behind the cursor of the relay are deleted already',
        );
        next = batch.first;
        reader.seek(next);
        break;
      case 'corrupt':
        damaged += 1;
        logger.error(
          { slot: spool.slot, file: batch.file, record: batch.at.toString(), reason: batch.reason },
          'a record in the spool cannot be read; it is not passed on',
        );
        next = batch.resumeAt;
        reader.seek(next);
        break;
      case 'foreign':
        logger.warn({ slot: spool.slot, reason: batch.reason }, 'the cursor of the relay does not fit the spool');
        // Of another emitter: somebody moved the slot aside. Of this one: from the start, everything twice.
        if (next === 0n) return false;
        next = 0n;
        reader.seek(0n);
        return listSegments(directory).length > 0;
      default:
        return batch satisfies never;
    }
    await maintain();
    return true;
  };

  const run = async (): Promise<void> => {
    let watched = false;
    while (!closed) {
      try {
        if (!watched) await watchEarlier();
        watched = true;
        if (!(await step())) break;
      } catch (error) {
        if (closed) break;
        logger.error({ err: error, slot: spool.slot, reason: errorMessage(error) }, 'the relay of a slot is disturbed');
        // Whatever was read but not confirmed is read again.
        reader.seek(next);
        await reader.changed(RETRY_MS);
      }
    }
    save(true);
    reader.close();
  };

  const ended = run();
  return {
    status: () => ({
      slot: spool.slot,
      emitter,
      next,
      ...(behindSinceMs === undefined ? {} : { behindSinceMs }),
      resent,
      damaged,
    }),
    ended,
    async close() {
      closed = true;
      reader.close();
      await ended;
    },
  };
};
