import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { EventData } from '../../../services/shared/contracts/events.ts';
import { newUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import { openSpoolReader } from '../../../services/shared/spool/reader.ts';
import { listSpools } from '../../../services/shared/spool/slots.ts';
import { createAckBook } from '../../../services/pdp/audit-trail/ack-book.ts';
import { startEmitter, type Emitter, type EmitterOptions } from '../../../services/pdp/audit-trail/emitter.ts';
import { HEARTBEATS } from '../../../services/pdp/audit-trail/heartbeats.ts';
import { limits } from '../../shared/spool/spool-fixture.ts';

export const logger = createLogger({ service: 'test', level: 'silent' });

export const openEmitter = (home: string, changes: Partial<EmitterOptions> = {}): Promise<Emitter> =>
  startEmitter({
    home,
    limits: limits(),
    keepMs: 86_400_000,
    durability: 'spool',
    durabilityTimeoutMs: 5_000,
    software: 'edict/test',
    maskKey: () => ({ key: Buffer.alloc(32, 7) }),
    acks: createAckBook(),
    schedule: HEARTBEATS,
    nowMs: Date.now,
    logger,
    ...changes,
  });

export const draft = (tenant: string, members = '"answer":{}', timeMs = Date.now()) =>
  ({ id: newUuidV7(timeMs), type: 'edict.decision.v1', tenant, timeMs, members }) as const;

/** A parsed event with what the spool says about it. */
export interface SpooledEvent {
  readonly number: bigint;
  readonly tenant: string;
  readonly boot: bigint;
  readonly sequence: bigint;
  readonly reserve: boolean;
  readonly bytes: Buffer;
  readonly digest: string;
  readonly id: string;
  readonly type: string;
  readonly source: string;
  readonly data: EventData & Readonly<Record<string, unknown>>;
}

/** Everything in every spool under `home`, slot by slot. */
export const spooled = async (home: string): Promise<readonly SpooledEvent[]> => {
  const events: SpooledEvent[] = [];
  for (const { directory, emitter } of listSpools(home).spools) {
    const names = readdirSync(directory).filter((name) => name.endsWith('.seg'));
    const reader = openSpoolReader({ directory, emitter, from: BigInt(path.parse(names.toSorted()[0] ?? '0').name) });
    for (;;) {
      const batch = await reader.read({ maxRecords: 1000, maxBytes: 10_000_000 });
      if (batch.kind !== 'records') break;
      for (const { number, tenant, boot, sequence, reserve, event } of batch.records) {
        const bytes = Buffer.from(event);
        const digest = createHash('sha256').update(bytes).digest('hex');
        const parsed = JSON.parse(bytes.toString()) as Pick<SpooledEvent, 'id' | 'type' | 'source' | 'data'>;
        events.push({ ...parsed, number, tenant, boot, sequence, reserve, bytes, digest });
      }
    }
    reader.close();
  }
  return events;
};
