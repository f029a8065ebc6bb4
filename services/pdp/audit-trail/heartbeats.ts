import type { Stream } from './boot.ts';

/** When silence is broken. */
export interface HeartbeatSchedule {
  /** After a tenant's last event. */
  readonly firstMs: number;
  /** After its last heartbeat. */
  readonly everyMs: number;
  /** After so long without an event: one `idle`, then none until the next event. */
  readonly idleMs: number;
  /** The emitter's own, in the system tenant's stream, always. */
  readonly emitterMs: number;
}

export const HEARTBEATS: HeartbeatSchedule = {
  firstMs: 10_000,
  everyMs: 60_000,
  idleMs: 600_000,
  emitterMs: 10_000,
};

/** The heartbeat that is due on a stream now, if any. */
export const dueHeartbeat = (
  stream: Pick<Stream, 'lastEventMs' | 'lastBeatMs' | 'idle'>,
  isEmitterStream: boolean,
  nowMs: number,
  schedule: HeartbeatSchedule,
): 'active' | 'idle' | undefined => {
  const { lastEventMs, lastBeatMs } = stream;
  if (isEmitterStream) {
    // The start event is the first sign of life; after that only the emitter's own heartbeat counts.
    const last = Number.isFinite(lastBeatMs) ? lastBeatMs : lastEventMs;
    return nowMs >= last + schedule.emitterMs ? 'active' : undefined;
  }
  if (stream.idle) return undefined;
  if (nowMs >= lastEventMs + schedule.idleMs) return 'idle';
  const due = lastBeatMs > lastEventMs ? lastBeatMs + schedule.everyMs : lastEventMs + schedule.firstMs;
  return nowMs >= due ? 'active' : undefined;
};
