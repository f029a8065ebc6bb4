import { existsSync, readdirSync, watch, type FSWatcher } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isTenant } from '../../shared/contracts/tenant.ts';
import { newUuidV7 } from '../../shared/contracts/uuid.ts';
import type { Check } from '../../shared/runtime/health.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { DataBook } from '../core/data-book.ts';
import type { PushData } from '../core/data-stream.ts';
import { createTenantLog, isLogFile, type TenantLog } from './tenant-log.ts';

export interface RunningDataStream {
  readonly push: PushData;
  /** False while it is not known what was pushed for the tenant: it must be denied. */
  readonly isKnown: (tenant: string) => boolean;
  /** Names no tenant: anybody may ask. */
  readonly check: Check;
  /** Tenants whose data cannot be read, and why. */
  readonly unreadable: () => ReadonlyMap<string, string>;
  readonly close: () => Promise<void>;
}

/** Whether anything was pushed below `directory`. */
export const hasFileData = (directory: string): boolean => existsSync(directory) && readdirSync(directory).length > 0;

/** For what no watcher tells: a tenant's first push, and file systems that cannot be watched. */
const POLL_MS = 200;
const COMPACT_BYTES = 4 * 1024 * 1024;
const LOCK_WAIT_MS = 10_000;

/**
 * The streams of all tenants on one machine, below `directory`. Resolves when all that was pushed is applied. A tenant
 * whose log is damaged is not known until it was restored; the others are.
 */
export const startFileDataStream = async (options: {
  readonly directory: string;
  readonly book: DataBook;
  /** Called after a tenant's data can be read again. */
  readonly onKnown?: () => void;
  readonly nowMs: () => number;
  readonly logger: Logger;
  readonly compactBytes?: number;
  readonly lockWaitMs?: number;
}): Promise<RunningDataStream> => {
  const { directory, book, logger } = options;
  const logs = new Map<string, TenantLog>();
  const broken = new Map<string, string>();
  let closed = false;

  const logOf = (tenant: string): TenantLog => {
    const known = logs.get(tenant);
    if (known !== undefined) return known;
    const log = createTenantLog({
      directory: join(directory, tenant),
      tenant,
      book,
      compactBytes: options.compactBytes ?? COMPACT_BYTES,
      lockWaitMs: options.lockWaitMs ?? LOCK_WAIT_MS,
      pause: (ms) => sleep(ms),
      monotonicMs: () => performance.now(),
    });
    logs.set(tenant, log);
    return log;
  };

  const tenants = async (): Promise<readonly string[]> => {
    try {
      const entries = await readdir(directory, { withFileTypes: true });
      return entries.filter((entry) => entry.isDirectory() && isTenant(entry.name)).map(({ name }) => name);
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT') return [];
      throw cause;
    }
  };

  const followOne = async (tenant: string): Promise<void> => {
    try {
      await logOf(tenant).catchUp();
      if (!broken.delete(tenant)) return;
      logger.info({ tenant }, 'pushed data can be read again');
      options.onKnown?.();
    } catch (error) {
      if (!broken.has(tenant)) logger.error({ tenant, err: error }, 'pushed data cannot be read: the tenant is denied');
      broken.set(tenant, errorMessage(error));
    }
  };

  for (const tenant of await tenants()) await followOne(tenant);

  let following: Promise<void> = Promise.resolve();
  const inTurn = (work: () => Promise<void>): void => {
    following = following
      .then(() => (closed ? undefined : work()))
      .catch((error: unknown) => logger.error({ err: error }, 'pushed data cannot be looked for'));
  };

  const watchers = new Map<string, FSWatcher | undefined>();
  const noted = new Set<string>();
  /** What others append is read at once; where the system cannot watch so much, by the poll. */
  const watchLog = (tenant: string): void => {
    if (watchers.has(tenant)) return;
    try {
      const watcher = watch(join(directory, tenant), { persistent: false }, (_event, name) => {
        if (noted.has(tenant) || (name !== null && !isLogFile(name))) return;
        noted.add(tenant);
        inTurn(async () => {
          noted.delete(tenant);
          await followOne(tenant);
        });
      });
      watcher.on('error', () => watcher.close());
      watchers.set(tenant, watcher);
    } catch {
      watchers.set(tenant, undefined);
    }
  };

  let isLookDue = false;
  const look = (): void => {
    if (isLookDue) return;
    isLookDue = true;
    inTurn(async () => {
      isLookDue = false;
      for (const tenant of await tenants()) {
        watchLog(tenant);
        await followOne(tenant);
      }
    });
  };
  const timer = setInterval(look, POLL_MS);
  timer.unref();
  look();

  return {
    push: (tenant, change) => logOf(tenant).append({ id: newUuidV7(options.nowMs()), tenant, change }),
    isKnown: (tenant) => !broken.has(tenant),
    // One tenant's trouble takes nothing from the others, so this stays ready.
    check: () => ({ ok: true, facts: broken.size === 0 ? {} : { unreadable: broken.size } }),
    unreadable: () => broken,
    async close() {
      closed = true;
      clearInterval(timer);
      for (const watcher of watchers.values()) watcher?.close();
      await following;
    },
  };
};
