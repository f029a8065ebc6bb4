import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { SpoolRecord } from '../../../services/shared/spool/format.ts';
import { openSpoolReader } from '../../../services/shared/spool/reader.ts';
import { openSpoolWriter, type NewRecord, type SpoolLimits } from '../../../services/shared/spool/writer.ts';
import type { SpoolWriter, SpoolWriterOptions } from '../../../services/shared/spool/writer.ts';

export const EMITTER = '00112233445566778899aabbccddeeff';

export const limits = (changes: Partial<SpoolLimits> = {}): SpoolLimits => ({
  segmentBytes: 64 * 1024,
  maxBytes: 1024 * 1024,
  reserveBytes: 64 * 1024,
  syncMs: 1,
  quotaBytes: () => 1024 * 1024,
  ...changes,
});

/** Temporary folders that are removed together. */
export const createFolders = () => {
  const folders: string[] = [];
  return {
    create: (): string => {
      const folder = mkdtempSync(path.join(tmpdir(), 'edict-spool-'));
      folders.push(folder);
      return folder;
    },
    removeAll: (): void => {
      for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
    },
  };
};

export const openWriter = (directory: string, options: Partial<SpoolWriterOptions> = {}): SpoolWriter =>
  openSpoolWriter({
    directory,
    emitter: EMITTER,
    limits: limits(),
    nowMs: Date.now,
    onFailure: () => undefined,
    ...options,
  });

export const record = (
  tenant: string,
  sequence: bigint,
  event: string,
  changes: Partial<NewRecord> = {},
): NewRecord => ({
  tenant,
  boot: 1n,
  sequence,
  reserve: false,
  event,
  eventBytes: Buffer.byteLength(event),
  digest: createHash('sha256').update(event).digest('hex'),
  ...changes,
});

/** Every record from `from` on; fails on anything but records and the end. */
export const readAll = async (directory: string, from = 0n): Promise<readonly SpoolRecord[]> => {
  const reader = openSpoolReader({ directory, emitter: EMITTER, from });
  const records: SpoolRecord[] = [];
  try {
    for (;;) {
      const batch = await reader.read({ maxRecords: 100, maxBytes: 1_000_000 });
      if (batch.kind === 'waiting') return records;
      if (batch.kind !== 'records') throw new Error(`unexpected ${batch.kind}`);
      records.push(...batch.records);
    }
  } finally {
    reader.close();
  }
};
