import type { Artifact } from '../../shared/contracts/artifact.ts';
import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import type { Durability } from '../../shared/contracts/decision.ts';
import type { PolicyUsed, RecoveredStream } from '../../shared/contracts/events.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { readCursor } from '../../shared/spool/cursor.ts';
import type { SpoolFs } from '../../shared/spool/files.ts';
import { createMarkWaiters } from '../../shared/spool/marks.ts';
import type { SegmentSummary } from '../../shared/spool/segments.ts';
import { openSpoolWriter, type SpoolLimits, type SpoolStatus, type SpoolWriter } from '../../shared/spool/writer.ts';
import type { CountRefusal, RecordEvent } from '../core/record.ts';
import type { AckBook } from './ack-book.ts';
import { createArtifactQueue, type ArtifactQueue, type ArtifactStatus, type BytesAgain } from './artifacts.ts';
import { createBoot, EMITTER_TENANT, recoveredStreams, startMembers, type Boot } from './boot.ts';
import { dueHeartbeat, type HeartbeatSchedule } from './heartbeats.ts';
import { createRefusalCounter } from './refusals.ts';
import { moveSlotAside, openIdentity, saveBoot, takeSlot, type Slot } from './slot.ts';

export interface EmitterOptions {
  readonly home: string;
  readonly limits: SpoolLimits;
  /** How long covered segments are kept while there is room. */
  readonly keepMs: number;
  readonly durability: Durability;
  readonly durabilityTimeoutMs: number;
  /** Name and version of this program, for the start event. */
  readonly software: string;
  readonly maskKey: (tenant: string) => { readonly key: Uint8Array };
  readonly acks: AckBook;
  readonly schedule: HeartbeatSchedule;
  readonly nowMs: () => number;
  readonly logger: Logger;
  readonly fs?: SpoolFs;
}

export interface EmitterStatus {
  readonly state: 'running' | 'failed' | 'closed';
  /** Why nothing can be recorded at the moment. */
  readonly failure?: AppError;
  readonly slot?: string;
  readonly emitter?: string;
  readonly boot?: string;
  readonly spool?: SpoolStatus;
  /** Boots that ended because the spool failed. */
  readonly failedBoots: number;
  /** Spools that were moved aside because they could not continue. */
  readonly damagedSpools: number;
  /** Refusals that wait to be named by the next event of their tenant. */
  readonly suppressed: number;
  readonly artifacts: ArtifactStatus;
}

export interface Emitter {
  readonly record: RecordEvent;
  readonly countRefusal: CountRefusal;
  /** Records that a tenant's policy became active; when there is no room, as soon as there is. */
  readonly recordActivation: (tenant: string, policy: PolicyUsed) => void;
  /** Sends the bytes that an activation names, once for each tenant and digest; see `createArtifactQueue`. */
  readonly sendArtifact: (tenant: string, artifact: Artifact, again?: BytesAgain) => void;
  /** Sends a state of pushed data in the same way, as the nodes that it is made of. */
  readonly sendState: ArtifactQueue['addState'];
  /** Names numbers of a boot that nothing can bring any more. False when it could not be written. */
  readonly recordLost: (tenant: string, boot: bigint, ranges: readonly (readonly [bigint, bigint])[]) => boolean;
  /** To be called several times a second: heartbeats, refusals, what waits for room, a new boot after a failure. */
  readonly tick: () => Promise<void>;
  /** To be called when acks changed, and from time to time for what grew older than `keepMs`. */
  readonly applyAcks: () => void;
  /** The broker has every record of `emitter` below `mark`. */
  readonly confirmOnBroker: (emitter: string, mark: bigint) => void;
  /** The live spool's segments when `emitter` is the running one. */
  readonly segmentsOf: (emitter: string) => readonly SegmentSummary[] | undefined;
  readonly status: () => EmitterStatus;
  /** Final heartbeats, last sync, lock given up. Rejects with `spool_failed` when the last sync failed. */
  readonly close: () => Promise<void>;
}

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 10_000;
/** A boot that lasted so long ends the growing of the pauses. */
const STEADY_MS = 60_000;
/** Room that a start event needs, generously. */
const START_BYTES = 4096;
const MAX_RECOVERED = 1000;
/** Of states of pushed data: some milliseconds, more than an ordinary push changes. */
const STATE_BYTES_AT_ONCE = 96 * 1024;
/** At a clean stop: a second at most. */
const STATE_BYTES_AT_END = 16 * 1024 * 1024;
const MAX_WAITING_ACTIVATIONS = 1024;

const MEMORY = Promise.resolve<Durability>('memory');

/**
 * Opens an emitter in the lowest free slot and begins a boot. Throws when the slot cannot be opened at all
 * (`spool_locked`, `spool_failed`); a full spool gives an emitter that is `failed` and begins a boot once there is
 * room. A spool that cannot continue is moved aside, and a new key begins.
 */
export const startEmitter = async (options: EmitterOptions): Promise<Emitter> => {
  const { home, acks, nowMs, logger, durability } = options;
  const suppressed = new Map<string, number>();
  const movedAside: Slot[] = [];
  let activations: readonly { readonly tenant: string; readonly policy: PolicyUsed }[] = [];
  let slot: Slot = await takeSlot(home);
  let boot: Boot | undefined;
  /** The running boot, or after `close` the one that ran last. */
  let lastBoot: Boot | undefined;
  let failure: AppError | undefined;
  let closed = false;
  let opening: Promise<void> | undefined;
  let retryAtMs = 0;
  let retryDelayMs = RETRY_MIN_MS;
  let begunMs = Number.NEGATIVE_INFINITY;
  let failedBoots = 0;
  let damagedSpools = 0;
  let syncFailed = false;
  /** Heartbeats of the new boot that had no room yet. */
  let toRecover: [tenant: string, recovered: readonly RecoveredStream[]][] = [];
  let onBroker = createBrokerWaiters(options.durabilityTimeoutMs);
  let lastWaiter: Promise<void> | undefined;
  let lastDurable: Promise<Durability> = MEMORY;

  const artifacts = createArtifactQueue({
    file: () => slot.paths.artifacts,
    keepFreeBytes: (tenant) => {
      const { maxBytes, reserveBytes, quotaBytes } = options.limits;
      return Math.floor(Math.min(maxBytes - reserveBytes, quotaBytes(tenant)) / 4);
    },
    nowMs,
    logger,
  });

  const suppress = (tenant: string, count: number): void => {
    suppressed.set(tenant, (suppressed.get(tenant) ?? 0) + count);
  };
  const refusals = createRefusalCounter({ nowMs, maskKey: options.maskKey, onOverflow: suppress });

  const endBoot = (error: AppError): void => {
    boot = undefined;
    failure = error;
    failedBoots += 1;
    // A disk that fails again and again must not fill the ledger with boots.
    retryDelayMs = nowMs() - begunMs > STEADY_MS ? RETRY_MIN_MS : Math.min(retryDelayMs * 2, RETRY_MAX_MS);
    retryAtMs = nowMs() + retryDelayMs;
    onBroker.fail(error);
    logger.error({ err: error }, 'the spool failed: nothing is decided until a new boot begins');
  };

  const openBoot = async (): Promise<void> => {
    const identity = openIdentity(slot);
    const { emitter } = identity;
    let dead = false;
    const writer: SpoolWriter = openSpoolWriter({
      directory: slot.paths.spool,
      emitter,
      limits: options.limits,
      nowMs,
      syncTimeout: { ms: options.durabilityTimeoutMs, error: () => notDurable('disk') },
      onFailure: (error) => {
        dead = true;
        if (error.details['step'] === 'sync') syncFailed = true;
        if (boot?.writer === writer) endBoot(error);
      },
      rewriteTail: syncFailed,
      ...(options.fs === undefined ? {} : { fs: options.fs }),
    });
    try {
      checkHistory(slot, emitter, identity.lastBoot, writer);
      writer.applyCoverage(coverageOf(emitter), options.keepMs);
      if (writer.room(EMITTER_TENANT, START_BYTES, true) !== 'ok')
        throw new AppError('spool_full', 'the spool has no room for a start event, so no boot begins');
      const earlier = recoveredStreams(writer.segments(), (number, tenant, last) => {
        const ack = acks.of(emitter, number, tenant);
        return ack !== undefined && ack.completeTo >= last;
      });
      const number = identity.lastBoot + 1n;
      saveBoot(slot, number);
      const begun = createBoot({ identity, boot: number, writer, suppressed });
      const time = nowMs();
      begun.append(
        EMITTER_TENANT,
        { id: newUuidV7(time), type: 'edict.start.v1', timeMs: time },
        startMembers(identity, options.software),
      );
      // Nothing of this boot counts before its start event is there.
      await writer.whenWritten(writer.next() - 1n);
      if (dead) throw writer.status().failure ?? new AppError('spool_failed', 'the spool failed at its start');
      onBroker = createBrokerWaiters(options.durabilityTimeoutMs);
      syncFailed = false;
      failure = undefined;
      begunMs = nowMs();
      lastBoot = begun;
      toRecover = [...earlier].flatMap(([tenant, list]) => inParts(tenant, list));
      boot = begun;
      logger.info(
        { slot: slot.name, emitter, boot: begun.boot, next_record: writer.next().toString() },
        'a boot of the emitter began',
      );
      recover(begun);
    } catch (error) {
      await writer.close().catch(() => undefined);
      throw error;
    }
  };

  const coverageOf = (emitter: string) => (number: bigint, tenant: string, last: bigint) => {
    const ack = acks.of(emitter, number, tenant);
    return ack !== undefined && ack.coveredTo >= last;
  };

  /** Tries to begin a boot, with a new key when the spool cannot continue. */
  const open = async (): Promise<void> => {
    try {
      await openBoot();
    } catch (error) {
      if (!isAppError(error) || error.code !== 'spool_corrupt') throw error;
      const name = moveSlotAside(home, slot, nowMs());
      damagedSpools += 1;
      movedAside.push(slot);
      logger.error({ err: error, moved_to: name }, 'the spool cannot continue; it was moved aside, a new key begins');
      slot = await takeSlot(home);
      syncFailed = false;
      await openBoot();
    }
  };

  const reopen = async (): Promise<void> => {
    try {
      await open();
    } catch (error) {
      failure = isAppError(error) ? error : new AppError('spool_failed', errorMessage(error), { cause: error });
      retryDelayMs = Math.min(retryDelayMs * 2, RETRY_MAX_MS);
      retryAtMs = nowMs() + retryDelayMs;
      logger.error({ err: failure, retry_ms: retryDelayMs }, 'no boot could begin');
    }
  };

  /** Runs what may find the spool full or failed; false when it did. */
  const attempt = (write: () => void): boolean => {
    try {
      write();
      return true;
    } catch (error) {
      if (isAppError(error) && (error.code === 'spool_full' || error.code === 'spool_failed')) return false;
      throw error;
    }
  };

  const recover = (current: Boot): void => {
    while (toRecover.length > 0) {
      const [first] = toRecover;
      if (first === undefined) return;
      if (!attempt(() => current.heartbeat(first[0], 'active', nowMs(), first[1]))) return;
      const stream = current.streams.get(first[0]);
      if (stream !== undefined) stream.lastEventMs = Math.max(stream.lastEventMs, nowMs());
      toRecover.shift();
    }
  };

  const beat = (current: Boot): void => {
    const time = nowMs();
    for (const stream of current.streams.values()) {
      const state = dueHeartbeat(stream, stream.tenant === EMITTER_TENANT, time, options.schedule);
      if (state === undefined) continue;
      if (!attempt(() => current.heartbeat(stream.tenant, state, time))) return;
      if (state === 'idle') stream.idle = true;
    }
  };

  const writeRefusals = (all: boolean): void => {
    for (const { tenant, count, members } of refusals.take(nowMs(), all)) {
      const time = nowMs();
      const current = boot;
      const head = { id: newUuidV7(time), type: 'edict.refusals.v1', timeMs: time } as const;
      if (current === undefined || !attempt(() => current.append(tenant, head, members))) suppress(tenant, count);
    }
  };

  const writeActivations = (current: Boot): void => {
    // A tenant without room waits, with what comes later of it; the others do not wait for it.
    const waiting = new Set<string>();
    activations = activations.filter(({ tenant, policy }) => {
      if (waiting.has(tenant)) return true;
      const time = nowMs();
      const head = { id: newUuidV7(time), type: 'edict.activation.v1', timeMs: time } as const;
      const members = JSON.stringify({ policy }).slice(1, -1);
      if (!attempt(() => current.append(tenant, head, members))) waiting.add(tenant);
      return waiting.has(tenant);
    });
  };

  const durableOf = (writer: SpoolWriter, number: bigint): Promise<Durability> => {
    if (durability === 'memory') return MEMORY;
    const waiter =
      durability === 'spool'
        ? writer.whenWritten(number)
        : durability === 'disk'
          ? writer.whenSynced(number)
          : onBroker.waitFor(number);
    // The events of one turn wait for the same thing: one promise for all of them.
    if (waiter !== lastWaiter) {
      lastWaiter = waiter;
      lastDurable = waiter.then(() => durability);
      // Whoever answers sees the rejection; an event without an answer has nobody who would.
      lastDurable.catch(() => undefined);
      if (durability === 'broker') setImmediate(onBroker.seal);
    }
    return lastDurable;
  };

  try {
    await open();
  } catch (error) {
    if (!isAppError(error) || error.code !== 'spool_full') {
      await slot.lock.release();
      for (const { lock } of movedAside) await lock.release();
      throw error;
    }
    failure = error;
    retryAtMs = nowMs() + retryDelayMs;
    logger.error({ err: error }, 'no boot could begin');
  }

  return {
    record(draft) {
      const current = boot;
      if (current === undefined)
        throw new AppError(
          failure?.code === 'spool_full' ? 'spool_full' : 'spool_failed',
          'no boot of the emitter is running',
          {
            cause: failure,
          },
        );
      const { number, sequence } = current.append(draft.tenant, draft, draft.members);
      return {
        emitter: current.identity.emitter,
        boot: current.boot,
        sequence,
        durable: durableOf(current.writer, number),
      };
    },
    countRefusal: refusals.count,
    recordActivation(tenant, policy) {
      if (activations.length >= MAX_WAITING_ACTIVATIONS) {
        activations = activations.slice(1);
        logger.error({ tenant }, 'too many activations wait for room in the spool; the oldest is not recorded');
      }
      activations = [...activations, { tenant, policy }];
      if (boot !== undefined) writeActivations(boot);
    },
    sendArtifact: artifacts.add,
    sendState(tenant, root, nodes) {
      artifacts.addState(tenant, root, nodes);
      if (boot !== undefined) artifacts.sendStates(boot, STATE_BYTES_AT_ONCE, tenant);
    },
    recordLost(tenant, lostBoot, ranges) {
      const current = boot;
      if (current === undefined) return false;
      const time = nowMs();
      const lost = ranges.map(([from, to]) => ({
        boot: lostBoot.toString(),
        from: from.toString(),
        to: to.toString(),
      }));
      const members = JSON.stringify({ lost, reason: 'neither the spool nor the broker has them' }).slice(1, -1);
      return attempt(() =>
        current.append(tenant, { id: newUuidV7(time), type: 'edict.lost.v1', timeMs: time }, members),
      );
    },
    async tick() {
      if (closed) return;
      if (boot === undefined) {
        if (opening === undefined && nowMs() >= retryAtMs) {
          opening = reopen().finally(() => {
            opening = undefined;
          });
        }
        await opening;
      }
      writeRefusals(false);
      const current = boot;
      if (current === undefined) return;
      recover(current);
      writeActivations(current);
      beat(current);
      await artifacts.send(() => (closed ? undefined : boot));
    },
    applyAcks() {
      if (boot !== undefined) boot.writer.applyCoverage(coverageOf(boot.identity.emitter), options.keepMs);
    },
    confirmOnBroker(emitter, mark) {
      if (boot?.identity.emitter === emitter) onBroker.advance(mark);
    },
    segmentsOf: (emitter) => (boot?.identity.emitter === emitter ? boot.writer.segments() : undefined),
    status: () => ({
      state: closed ? 'closed' : boot === undefined ? 'failed' : 'running',
      ...(failure === undefined ? {} : { failure }),
      slot: slot.name,
      ...(lastBoot === undefined || (boot === undefined && !closed)
        ? {}
        : { emitter: lastBoot.identity.emitter, boot: lastBoot.boot, spool: lastBoot.writer.status() }),
      failedBoots,
      damagedSpools,
      suppressed: [...suppressed.values()].reduce((sum, count) => sum + count, 0),
      artifacts: artifacts.status(),
    }),
    async close() {
      if (closed) return;
      closed = true;
      await opening;
      const current = boot;
      try {
        if (current === undefined) return;
        writeRefusals(true);
        recover(current);
        writeActivations(current);
        artifacts.sendStates(current, STATE_BYTES_AT_END);
        // The system tenant last: its final heartbeat says that the emitter itself is gone.
        const streams = [...current.streams.values()].filter(({ tenant }) => tenant !== EMITTER_TENANT);
        for (const { tenant } of streams) attempt(() => current.heartbeat(tenant, 'final', nowMs()));
        attempt(() => current.heartbeat(EMITTER_TENANT, 'final', nowMs()));
        boot = undefined;
        await current.writer.close();
        await artifacts.close();
      } finally {
        onBroker.fail(new AppError('spool_failed', 'the emitter is closed'));
        await slot.lock.release();
        for (const { lock } of movedAside) await lock.release();
      }
    },
  };
};

const notDurable = (level: Durability): AppError =>
  new AppError('event_not_durable', `the event did not reach level ${level} in time`);

const createBrokerWaiters = (timeoutMs: number) =>
  createMarkWaiters({ ms: timeoutMs, error: () => notDurable('broker') });

/** One heartbeat names at most so many boots. */
const inParts = (
  tenant: string,
  recovered: readonly RecoveredStream[],
): [tenant: string, recovered: readonly RecoveredStream[]][] => {
  const parts: [string, readonly RecoveredStream[]][] = [[tenant, recovered.slice(0, MAX_RECOVERED)]];
  for (let from = MAX_RECOVERED; from < recovered.length; from += MAX_RECOVERED)
    parts.push([tenant, recovered.slice(from, from + MAX_RECOVERED)]);
  return parts;
};

/** Throws `spool_corrupt` when the spool is behind what others know of it: numbers would be used twice. */
const checkHistory = ({ paths }: Slot, emitter: string, lastBoot: bigint, writer: SpoolWriter): void => {
  for (const { streams } of writer.segments())
    for (const { boot } of streams.values())
      if (boot > lastBoot)
        throw new AppError('spool_corrupt', `${paths.boot}: says ${lastBoot}, but the spool has boot ${boot}`);
  const cursor = readCursorLeniently(paths.relayCursor);
  if (cursor?.emitter === emitter && cursor.next > writer.next())
    throw new AppError(
      'spool_corrupt',
      `${paths.spool}: ends at record ${writer.next()}, but the relay passed on ${cursor.next}`,
    );
};

const readCursorLeniently = (path: string) => {
  try {
    return readCursor(path);
  } catch {
    // The relay will begin again from the oldest record; it is no reason to give up the spool.
    return undefined;
  }
};
