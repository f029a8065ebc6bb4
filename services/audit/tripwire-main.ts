import { AppError } from '../shared/contracts/errors.ts';
import { listenHealth } from '../shared/runtime/health-server.ts';
import { createLifecycle, type Handle } from '../shared/runtime/lifecycle.ts';
import { createLogger, type Logger } from '../shared/runtime/logger.ts';
import { createRegistry } from '../shared/runtime/metrics.ts';
import { homePaths } from '../shared/settings/home.ts';
import type { LoadedSettings, Settings } from '../shared/settings/settings.ts';
import { sizeBytes } from '../shared/settings/units.ts';
import { connectPostgres, readDatabaseUrl } from './postgres/connect.ts';
import { ledgerMigrations, requireMigrated } from './postgres/migrate.ts';
import { openReplicationStream } from './postgres/replication-stream.ts';
import { createSlot, dropSlot, insertTripwireAlarms, PUBLICATIONS, readWatchState } from './postgres/tripwire-slot.ts';
import { openMemoryFile } from './tripwire/memory-file.ts';
import { createTripwireMetrics } from './tripwire/metrics.ts';
import { startTripwire } from './tripwire/tripwire.ts';

export interface RunningTripwire extends Handle {
  /** Where it answers `/health` and `/metrics`; undefined when it listens nowhere. */
  readonly url: string | undefined;
  close(): Promise<void>;
}

/** Starts the tripwire. Throws `settings_invalid`, `tripwire_failed`, `database_unavailable`; nothing runs then. */
export const serveChanges = async (settings: Settings, { logger }: { logger: Logger }): Promise<RunningTripwire> => {
  const parts: Handle[] = [];
  const close = async (): Promise<void> => {
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) await part.close();
  };
  try {
    const { slot, max_lag: maxLag, memory_file: memoryFile, listen: address } = settings.tripwire;
    const urlFile = settings.database.tripwire_url_file;
    if (urlFile === undefined)
      throw new AppError(
        'settings_invalid',
        '/database/tripwire_url_file: the tripwire needs it; an embedded database has no write-ahead log to watch',
      );
    const url = readDatabaseUrl(urlFile);
    const database = connectPostgres(url, { poolSize: 2, applicationName: 'edict-tripwire' });
    parts.push(database);
    await requireMigrated(database, ledgerMigrations());
    const registry = createRegistry({ service: 'tripwire' });
    const tripwire = await startTripwire({
      slot,
      state: () => readWatchState(database, slot),
      createSlot: () => createSlot(database, slot),
      dropSlot: () => dropSlot(database, slot),
      openStream: () => openReplicationStream({ url, slot, publications: PUBLICATIONS }),
      raise: (alarms) => insertTripwireAlarms(database, alarms, BigInt(Date.now()) * 1000n),
      memory: openMemoryFile(memoryFile ?? homePaths(settings.home).tripwireMemory),
      maxLagBytes: sizeBytes(maxLag),
      logger,
      metrics: createTripwireMetrics(registry),
    });
    parts.push(tripwire);
    if (address === undefined) return { url: undefined, close };
    const { checks } = tripwire;
    // The check measures.
    const server = await listenHealth(address, { checks, registry, measure: async () => checks.slot() });
    parts.push(server);
    return { url: server.url, close };
  } catch (error) {
    await close();
    throw error;
  }
};

/** `edict serve tripwire`: runs until a signal; resolves when it watches. */
export const serveTripwire = async (loaded: LoadedSettings): Promise<{ readonly url: string }> => {
  const { settings, file } = loaded;
  const logger = createLogger({ service: 'tripwire', level: settings.log.level });
  logger.info({ file, settings }, 'settings');
  const lifecycle = createLifecycle({ logger });
  const { url } = await lifecycle.start('tripwire', () => serveChanges(settings, { logger }));
  logger.info({ url }, 'tripwire runs');
  return { url: url ?? '' };
};
