import type { Ack } from '../../shared/contracts/ack.ts';
import { streamKey } from '../../shared/spool/segments.ts';

/** How far the ledger has one stream. */
export interface StreamAck {
  readonly boot: bigint;
  readonly tenant: string;
  readonly completeTo: bigint;
  readonly coveredTo: bigint;
  /** Inclusive ranges. */
  readonly holes: readonly (readonly [from: bigint, to: bigint])[];
  /** When `completeTo` last grew, or when this stream's ack was first seen. */
  readonly progressMs: number;
  /** Since when the same holes are open. */
  readonly holesMs: number;
}

/** The acks of the spools on this machine, the latest of each stream. Marks may move backwards: a restored ledger. */
export interface AckBook {
  readonly put: (ack: Ack, nowMs: number) => void;
  /** Takes the emitter's acks as the whole truth: streams that are not among them are not acknowledged. */
  readonly replace: (emitter: string, acks: readonly Ack[], nowMs: number) => void;
  readonly of: (emitter: string, boot: bigint, tenant: string) => StreamAck | undefined;
  readonly streams: (emitter: string) => Iterable<StreamAck>;
  /** When the last ack of any emitter came: a sign that the audit service is alive. */
  readonly lastHeardMs: () => number;
  /** Grows with every change. */
  readonly version: () => number;
}

/** Beyond it the oldest acks are forgotten, which only means that segments are kept longer. */
const MAX_STREAMS = 50_000;

export const createAckBook = (): AckBook => {
  const emitters = new Map<string, Map<string, StreamAck>>();
  let count = 0;
  let lastHeardMs = Number.NEGATIVE_INFINITY;
  let version = 0;

  const forgetOldest = (): void => {
    for (const [emitter, streams] of emitters) {
      for (const key of streams.keys()) {
        streams.delete(key);
        count -= 1;
        break;
      }
      if (streams.size === 0) emitters.delete(emitter);
      return;
    }
  };

  const put = (ack: Ack, nowMs: number): void => {
    let streams = emitters.get(ack.emitter);
    if (streams === undefined) {
      streams = new Map();
      emitters.set(ack.emitter, streams);
    }
    const key = streamKey(BigInt(ack.boot), ack.tenant);
    const before = streams.get(key);
    const completeTo = BigInt(ack.complete_to);
    const holes = ack.holes.map(([from, to]) => [BigInt(from), BigInt(to)] as const);
    const sameHoles =
      before !== undefined &&
      before.holes.length === holes.length &&
      before.holes.every(([from, to], index) => holes[index]?.[0] === from && holes[index][1] === to);
    if (before === undefined) count += 1;
    else streams.delete(key);
    streams.set(key, {
      boot: BigInt(ack.boot),
      tenant: ack.tenant,
      completeTo,
      coveredTo: BigInt(ack.covered_to),
      holes,
      progressMs: before !== undefined && completeTo <= before.completeTo ? before.progressMs : nowMs,
      holesMs: sameHoles ? before.holesMs : nowMs,
    });
    lastHeardMs = nowMs;
    version += 1;
    if (count > MAX_STREAMS) forgetOldest();
  };

  return {
    put,
    replace(emitter, acks, nowMs) {
      const kept = new Set(acks.map((ack) => streamKey(BigInt(ack.boot), ack.tenant)));
      const streams = emitters.get(emitter);
      for (const key of streams?.keys() ?? []) {
        if (kept.has(key)) continue;
        streams?.delete(key);
        count -= 1;
      }
      version += 1;
      for (const ack of acks) put(ack, nowMs);
    },
    of: (emitter, boot, tenant) => emitters.get(emitter)?.get(streamKey(boot, tenant)),
    streams: (emitter) => emitters.get(emitter)?.values() ?? [],
    lastHeardMs: () => lastHeardMs,
    version: () => version,
  };
};
