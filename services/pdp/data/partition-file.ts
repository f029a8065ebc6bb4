import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, errorCode } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { replaceFile } from '../../shared/spool/files.ts';
import { snapshotOf, tenantDataOf, type TenantData } from '../core/data-book.ts';

/** What one partition of the topic led to, up to an offset. */
export interface PartitionState {
  /** The offset of the first message that is not in it. */
  readonly next: number;
  /** How many partitions the topic has: with another number tenants would lie elsewhere. */
  readonly partitions: number;
  /** Hex SHA-256 of the message before `next`; undefined when there is none. */
  readonly last: string | undefined;
  readonly tenants: ReadonlyMap<string, TenantData>;
}

const fileOf = (directory: string, partition: number): string => join(directory, `partition-${partition}.json`);

/** Undefined when there is none yet. Throws `data_corrupt` for anything else than what was written. */
export const readPartitionFile = (directory: string, partition: number): PartitionState | undefined => {
  const file = fileOf(directory, partition);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw cause;
  }
  const corrupt = (cause?: unknown): AppError =>
    new AppError('data_corrupt', `${file}: is damaged; without it the topic is read from its beginning`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw corrupt(cause);
  }
  if (!isObject(value) || !isObject(value['tenants'])) throw corrupt();
  const { next, partitions, last } = value;
  if (typeof next !== 'number' || typeof partitions !== 'number') throw corrupt();
  if (last !== undefined && typeof last !== 'string') throw corrupt();
  const tenants = new Map<string, TenantData>();
  for (const [tenant, snapshot] of Object.entries(value['tenants'])) {
    const data = tenantDataOf(snapshot);
    if (data === undefined) throw corrupt();
    tenants.set(tenant, data);
  }
  return { next, partitions, last, tenants };
};

/** Replaces it, all or nothing, synced. */
export const writePartitionFile = (directory: string, partition: number, state: PartitionState): void => {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const tenants = Object.fromEntries([...state.tenants].map(([tenant, data]) => [tenant, snapshotOf(data)]));
  const { next, partitions, last } = state;
  replaceFile(fileOf(directory, partition), JSON.stringify({ v: 1, next, partitions, last, tenants }));
};
