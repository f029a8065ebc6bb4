import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Log, WriteLedger } from '../core/append.ts';
import { rewoundDatabaseEntry } from '../core/ingest-own.ts';
import type { OwnIds } from '../core/own-entry.ts';
import type { Logs } from './statements.ts';

export interface Rewinds {
  /** For the writer: a log has lost its end. Must not throw. */
  readonly noticed: (log: Log, committed: bigint, found: bigint) => void;
  /** Makes alert entries of what was noticed and asks for what is missing; how many. Rejects when it must be tried again. */
  readonly enter: () => Promise<number>;
}

/**
 * A database that lost commits while the service runs: a failover to a replica that was behind, a server without
 * `synchronous_commit`, a restored copy. The cursor is part of it, so what the source still has is read again; this says
 * that it happened, and asks the emitters for what was acknowledged.
 */
export const createRewinds = (options: {
  readonly writeLedger: WriteLedger;
  readonly logs: () => Promise<Logs>;
  /** Asks again for what was acknowledged and is not there. */
  readonly reclaim: () => Promise<unknown>;
  readonly ids: OwnIds;
  readonly logger: Logger;
}): Rewinds => {
  /** By log id: the most that was committed, the least that was found. */
  const open = new Map<number, { readonly log: Log; readonly committed: bigint; readonly found: bigint }>();
  return {
    noticed(log, committed, found) {
      options.logger.error(
        { origin: log.origin, committed_size: String(committed), found_size: String(found) },
        'the database has lost the end of a log that was committed',
      );
      const known = open.get(log.id);
      open.set(log.id, {
        log,
        committed: known !== undefined && known.committed > committed ? known.committed : committed,
        found: known !== undefined && known.found < found ? known.found : found,
      });
    },
    async enter() {
      const rewound = [...open.values()];
      const system = rewound.length === 0 ? undefined : (await options.logs()).get(SYSTEM_TENANT);
      if (system === undefined) return 0;
      await options.reclaim();
      await options.writeLedger(
        ({ append }) =>
          append(
            system,
            rewound.map(({ log, ...sizes }) => rewoundDatabaseEntry(SYSTEM_TENANT, log, sizes, options.ids)),
          ),
        [system],
      );
      for (const each of rewound) if (open.get(each.log.id) === each) open.delete(each.log.id);
      return rewound.length;
    },
  };
};
