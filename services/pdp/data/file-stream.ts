import { existsSync, readdirSync } from 'node:fs';
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
import { createTenantLog, type TenantLog } from './tenant-log.ts';

export interface RunningDataStream {
  readonly push: PushData;
  /** False while it is not known what was pushed for the tenant: it must be denied. */
  readonly isKnown: (tenant: string) => boolean;
  readonly check: Check;
  readonly close: () => Promise<void>;
}

/** Whether anything was pushed below `directory`. */
export const hasFileData = (directory: string): boolean => existsSync(directory) && readdirSync(directory).length > 0;

const POLL_MS = 200;
const COMPACT_BYTES = 4 * 1024 * 1024;

/**
 * The streams of all tenants on one machine, below `directory`. Resolves when all that was pushed is applied. Rejects
 * with `data_corrupt` for a log that is damaged: what was pushed is not known then.
 */
export const startFileDataStream = async (options: {
  readonly directory: string;
  readonly book: DataBook;
  readonly nowMs: () => number;
  readonly logger: Logger;
  readonly compactBytes?: number;
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
      pause: (ms) => sleep(ms),
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

  for (const tenant of await tenants()) await logOf(tenant).catchUp();

  const follow = async (): Promise<void> => {
    for (const tenant of await tenants()) {
      try {
        await logOf(tenant).catchUp();
        if (broken.delete(tenant)) logger.info({ tenant }, 'pushed data can be read again');
      } catch (error) {
        if (!broken.has(tenant))
          logger.error({ tenant, err: error }, 'pushed data cannot be read: the tenant is denied');
        broken.set(tenant, errorMessage(error));
      }
    }
  };

  let following: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    following = following
      .then(() => (closed ? undefined : follow()))
      .catch((error: unknown) => logger.error({ err: error }, 'pushed data cannot be looked for'));
  }, POLL_MS);
  timer.unref();

  return {
    push: (tenant, change) => logOf(tenant).append({ id: newUuidV7(options.nowMs()), tenant, change }),
    isKnown: (tenant) => !broken.has(tenant),
    // One tenant's trouble takes nothing from the others, so this stays ready.
    check: () => ({ ok: true, facts: broken.size === 0 ? {} : { unreadable: Object.fromEntries(broken) } }),
    async close() {
      closed = true;
      clearInterval(timer);
      await following;
    },
  };
};
