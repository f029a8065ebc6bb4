import { AppError, isAppError } from '../../shared/contracts/errors.ts';
import type { Log, WriteLedger } from './append.ts';
import { freshIds, ownEntry } from './own-entry.ts';

/**
 * Writes an access entry (kind 7) into a tenant's newest log; durable when this resolves. Rejects with
 * `ledger_missing`, or as `WriteLedger` does.
 */
export type RecordAccess = (
  tenant: string,
  document: Readonly<Record<string, unknown>>,
) => Promise<{ readonly log: string; readonly seq: bigint }>;

const ATTEMPTS = 5;

export const createRecordAccess =
  (write: WriteLedger, logs: (tenant: string) => Promise<readonly Log[]>): RecordAccess =>
  async (tenant, document) => {
    for (let attempt = 1; ; attempt += 1) {
      const [log] = await logs(tenant);
      if (log === undefined) throw new AppError('ledger_missing', `tenant ${tenant} has no ledger`);
      try {
        const entry = ownEntry(tenant, 'access', document, freshIds());
        const seq = await write(({ append }) => append(log, [entry]), [log]);
        return { log: log.origin, seq };
      } catch (error) {
        // Another writer was first, or a newer incarnation began: asked anew, both are known.
        if (!isAppError(error) || error.code !== 'database_conflict' || attempt >= ATTEMPTS) throw error;
      }
    }
  };
