import type { Artifact } from '../../shared/contracts/artifact.ts';
import type { ArtifactQueue, BytesAgain } from './artifacts.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { DECISIONS_TOPIC, type PolicyUsed } from '../../shared/contracts/events.ts';
import { createKafkaClient } from '../../shared/kafka/client.ts';
import { createSender, type ProducerPort } from '../../shared/kafka/sender.ts';
import type { Check } from '../../shared/runtime/health.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { PrepareReload } from '../../shared/runtime/reload.ts';
import type { Settings } from '../../shared/settings/schema.ts';
import { durationMs, sizeBytes } from '../../shared/settings/units.ts';
import { releaseCovered } from '../../shared/spool/release.ts';
import { listSpools } from '../../shared/spool/slots.ts';
import type { SpoolLimits } from '../../shared/spool/writer.ts';
import type { CountRefusal, RecordEvent } from '../core/record.ts';
import { createAckBook } from './ack-book.ts';
import { createFileAckSource, createKafkaAckSource, createAckKeys } from './ack-source.ts';
import { startEmitter, type EmitterStatus } from './emitter.ts';
import { HEARTBEATS, type HeartbeatSchedule } from './heartbeats.ts';
import { createLostNumbers } from './lost.ts';
import { startRelay, type Relay, type RelayStatus } from './relay.ts';
import { RESEND_TIMINGS, type ResendTimings } from './resend-plan.ts';

export interface AuditTrailStatus {
  readonly emitter: EmitterStatus;
  /** With Kafka. */
  readonly relay?: RelayStatus;
  /** Records of this process's emitter that the broker did not confirm yet; with Kafka. */
  readonly lagRecords?: number;
  readonly acks: { readonly refused: number; readonly failure?: string; readonly lastHeardMs?: number };
  readonly lostEvents: number;
}

export interface AuditTrail {
  readonly record: RecordEvent;
  readonly countRefusal: CountRefusal;
  /** To be called when a tenant's set of active bundles changed. Written later when there is no room now. */
  readonly recordActivation: (tenant: string, policy: PolicyUsed) => void;
  /** To be called for what an activation names: its bytes are sent once for each tenant and digest, behind decisions. */
  readonly sendArtifact: (tenant: string, artifact: Artifact, again?: BytesAgain) => void;
  /** Sends a state of pushed data in the same way, as the nodes that it is made of. */
  readonly sendState: ArtifactQueue['addState'];
  readonly status: () => AuditTrailStatus;
  /** Reads `keyFiles`, the verifier keys for acks, again. */
  readonly reload: PrepareReload;
  readonly keyFiles: readonly string[];
  /** `spool`: a boot is running and has room. `relay`, with Kafka: what was recorded reaches the broker. */
  readonly checks: Readonly<Record<'spool', Check>> & Readonly<Partial<Record<'relay', Check>>>;
  /** Final heartbeats, a bounded time to reach the broker, cursors, locks. Call when no decision runs any more. */
  readonly close: () => Promise<void>;
}

export interface AuditTrailOptions {
  readonly settings: Settings;
  readonly logger: Logger;
  /** Name and version of this program, for start events. */
  readonly software: string;
  /** The mask key of a tenant, the system tenant included; for the HMAC of refused bodies. */
  readonly maskKey: (tenant: string) => { readonly key: Uint8Array };
  readonly nowMs?: () => number;
  readonly heartbeats?: HeartbeatSchedule;
  readonly resend?: ResendTimings;
  /** How long a hole that the spool cannot fill may still be filled by the broker. Default: `audit.gap_grace`. */
  readonly lostAfterMs?: number;
  readonly createProducer?: () => ProducerPort;
}

const TICK_MS = 200;
/** What grew older than `spool.keep` is looked for so often. */
const RELEASE_EVERY_MS = 10_000;
const DRAIN_MS = 5_000;
/** The relay is not ready when it is behind for so long. */
const BEHIND_MS = 60_000;
const MAX_SEGMENT_BYTES = 2 ** 32 - 2 ** 21;

const limitsOf = ({ spool, tenants }: Settings): SpoolLimits => {
  const maxBytes = sizeBytes(spool.max);
  const reserveBytes = sizeBytes(spool.reserve);
  if (reserveBytes >= maxBytes) throw new AppError('settings_invalid', '/spool/reserve: must be below /spool/max');
  const quotas = new Map(
    Object.entries(tenants).flatMap(([tenant, { spool_quota: quota }]) =>
      quota === undefined ? [] : [[tenant, sizeBytes(quota)] as const],
    ),
  );
  const defaultQuota = sizeBytes(spool.tenant_quota);
  return {
    // Several segments at least, so that room can be made by giving one up.
    segmentBytes: Math.min(sizeBytes(spool.segment), Math.floor((maxBytes - reserveBytes) / 4), MAX_SEGMENT_BYTES),
    maxBytes,
    reserveBytes,
    syncMs: durationMs(spool.sync),
    quotaBytes: (tenant) => quotas.get(tenant) ?? defaultQuota,
  };
};

/**
 * The PDP's side of the audit trail: emitter, spool, and, with Kafka, relay. Starts a boot, or, when the spool is
 * full to the last byte, waits for room (`checks.spool` says so). Throws `settings_invalid`, `spool_locked`,
 * `spool_failed`.
 */
export const startAuditTrail = async (options: AuditTrailOptions): Promise<AuditTrail> => {
  const { settings, logger } = options;
  const { home } = settings;
  const nowMs = options.nowMs ?? Date.now;
  const keepMs = durationMs(settings.spool.keep);
  const limits = limitsOf(settings);
  const acks = createAckBook();
  const ackKeys = createAckKeys(settings);

  const kafka = settings.kafka.brokers.length > 0 ? createKafkaClient(settings.kafka, 'edict-pdp', logger) : undefined;
  const ackSource =
    kafka === undefined
      ? createFileAckSource({ home, acks, keys: ackKeys.current, nowMs, logger })
      : createKafkaAckSource({ home, kafka, acks, keys: ackKeys.current, nowMs, logger });
  ackSource.poll();

  const emitter = await startEmitter({
    home,
    limits,
    keepMs,
    durability: settings.pdp.durability,
    durabilityTimeoutMs: durationMs(settings.pdp.durability_timeout),
    software: options.software,
    maskKey: options.maskKey,
    acks,
    schedule: options.heartbeats ?? HEARTBEATS,
    nowMs,
    logger,
  }).catch(async (error: unknown) => {
    await ackSource.close();
    throw error;
  });

  const relay: Relay | undefined =
    kafka === undefined
      ? undefined
      : startRelay({
          home,
          sender: createSender({
            kafka,
            topic: DECISIONS_TOPIC,
            logger,
            ...(options.createProducer === undefined ? {} : { createProducer: options.createProducer }),
          }),
          acks,
          timings: options.resend ?? RESEND_TIMINGS,
          nowMs,
          logger,
          ownSlot: () => emitter.status().slot,
          segmentsOf: emitter.segmentsOf,
          onConfirmed: emitter.confirmOnBroker,
        });

  const lost = createLostNumbers({
    acks,
    graceMs: options.lostAfterMs ?? durationMs(settings.audit.gap_grace),
    recordLost: emitter.recordLost,
  });
  let seenVersion = -1;
  let releaseAtMs = 0;

  /** Segments of slots whose emitter does not run here; a living one elsewhere does the same, which is harmless. */
  const releaseOthers = (): void => {
    const own = emitter.status().slot;
    for (const { slot, emitter: id, directory } of listSpools(home).spools) {
      if (slot === own) continue;
      releaseCovered(directory, keepMs, nowMs(), (boot, tenant, last) => {
        const ack = acks.of(id, boot, tenant);
        return ack !== undefined && ack.coveredTo >= last;
      });
    }
  };

  const tick = async (): Promise<void> => {
    ackSource.poll();
    const time = nowMs();
    if (acks.version() !== seenVersion || time >= releaseAtMs) {
      seenVersion = acks.version();
      emitter.applyAcks();
    }
    if (time >= releaseAtMs) {
      releaseAtMs = time + RELEASE_EVERY_MS;
      releaseOthers();
    }
    await emitter.tick();
    const { emitter: id } = emitter.status();
    const segments = id === undefined ? undefined : emitter.segmentsOf(id);
    if (id !== undefined && segments !== undefined) lost.check(id, segments, time);
  };

  let ticking: Promise<void> | undefined;
  const timer = setInterval(() => {
    ticking ??= tick()
      .catch((error: unknown) => logger.error({ err: error }, 'the audit trail is disturbed'))
      .finally(() => {
        ticking = undefined;
      });
  }, TICK_MS);

  const status = (): AuditTrailStatus => {
    const own = emitter.status();
    const relayed = relay?.status();
    const slot = relayed?.slots.find(({ emitter: id }) => id === own.emitter);
    const heard = acks.lastHeardMs();
    return {
      emitter: own,
      ...(relayed === undefined ? {} : { relay: relayed }),
      ...(slot === undefined || own.spool === undefined ? {} : { lagRecords: Number(own.spool.next - slot.next) }),
      acks: { ...ackSource.status(), ...(Number.isFinite(heard) ? { lastHeardMs: heard } : {}) },
      lostEvents: lost.written(),
    };
  };

  const checkSpool: Check = () => {
    const { state, failure, spool, slot, boot } = emitter.status();
    const facts = {
      slot,
      boot,
      used_bytes: spool?.usedBytes,
      free_bytes: spool?.freeBytes,
      next_record: spool?.next.toString(),
    };
    if (state !== 'running') return { ok: false, reason: failure?.message ?? `the emitter is ${state}`, facts };
    if (spool !== undefined && limits.maxBytes - spool.usedBytes < limits.reserveBytes / 2)
      return { ok: false, reason: 'the spool is full and its reserve is half used', facts };
    return { ok: true, facts };
  };

  const checkRelay: Check = () => {
    const { relay: relayed, lagRecords } = status();
    const behind = (relayed?.slots ?? []).filter(
      ({ behindSinceMs }) => behindSinceMs !== undefined && nowMs() - behindSinceMs > BEHIND_MS,
    );
    const facts = { lag_records: lagRecords, connected: relayed?.kafka.connected, failure: relayed?.kafka.failure };
    if (behind.length > 0 && relayed?.kafka.failure !== undefined)
      return { ok: false, reason: `events do not reach Kafka: ${relayed.kafka.failure}`, facts };
    return { ok: true, facts };
  };

  return {
    record: emitter.record,
    countRefusal: emitter.countRefusal,
    recordActivation: emitter.recordActivation,
    sendArtifact: emitter.sendArtifact,
    sendState: emitter.sendState,
    status,
    reload: ackKeys.reload,
    keyFiles: ackKeys.files,
    checks: { spool: checkSpool, ...(relay === undefined ? {} : { relay: checkRelay }) },
    async close() {
      clearInterval(timer);
      await ticking;
      try {
        await emitter.close();
      } finally {
        const { emitter: id, spool } = emitter.status();
        if (relay !== undefined && id !== undefined && spool !== undefined) {
          const reached = await relay.drain(id, spool.next, relay.status().kafka.connected ? DRAIN_MS : 0);
          if (!reached) logger.warn('not everything reached Kafka; the next start sends the rest');
        }
        await relay?.close();
        await ackSource.close();
      }
    },
  };
};
