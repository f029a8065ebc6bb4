import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DECISIONS_TOPIC } from '../shared/contracts/events.ts';
import { isAppError } from '../shared/contracts/errors.ts';
import { SYSTEM_TENANT } from '../shared/contracts/tenant.ts';
import { createKafkaClient } from '../shared/kafka/client.ts';
import { unlessAborted } from '../shared/runtime/abort.ts';
import type { Checks } from '../shared/runtime/health.ts';
import { listen, parseListen } from '../shared/runtime/http-server.ts';
import { createLifecycle, type Handle } from '../shared/runtime/lifecycle.ts';
import { createLogger, type Logger } from '../shared/runtime/logger.ts';
import { createRegistry, registerGauges, type Registry } from '../shared/runtime/metrics.ts';
import { watchSettings, type PrepareReload } from '../shared/runtime/reload.ts';
import { homePaths, readKeyFile, readOrCreateKey } from '../shared/settings/home.ts';
import { loadSettings, type LoadedSettings, type Settings } from '../shared/settings/settings.ts';
import { durationMs } from '../shared/settings/units.ts';
import { openAckKey, readAckKey } from './acks/ack-key.ts';
import { createAckPublisher, type AckPublisher, type AckSink } from './acks/ack-publisher.ts';
import { createFileSink } from './acks/file-sink.ts';
import { createKafkaSink } from './acks/kafka-sink.ts';
import type { EventSource } from './core/ingest-source.ts';
import { auditAccess } from './http/access.ts';
import { createAuditApp } from './http/app.ts';
import { createAuditServer } from './http/server.ts';
import { createIngest, type Ingest } from './ingest/ingest.ts';
import { createRecordAccess } from './core/record-access.ts';
import { createIngestMetrics } from './ingest/metrics.ts';
import { createEraser } from './erasure/eraser.ts';
import { createErasures } from './erasure/requests.ts';
import { createRewinds, type Rewinds } from './ingest/rewinds.ts';
import { createSealer } from './ingest/seals.ts';
import { enterTripwireAlarms } from './ingest/tripwire-alerts.ts';
import { followCheckpoints, markFlushed } from './ingest/coverage.ts';
import { readStreamsOf } from './ingest/statements.ts';
import type { Sql } from './core/append.ts';
import { freshIds } from './core/own-entry.ts';
import { createKafkaSource } from './kafka/kafka-source.ts';
import { startSignerLink } from './link/server.ts';
import { createLedgerReader, readTenantLogs } from './postgres/read-ledger.ts';
import { readServerWarnings } from './postgres/read-server.ts';
import { readSigningState } from './postgres/read-checkpoints.ts';
import { createMetaReader } from './postgres/read-meta.ts';
import { createTileReader } from './postgres/read-tiles.ts';
import { createVerifier } from './postgres/read-verification.ts';
import { createRetention } from './retention/retention.ts';
import { createSignerStore } from './postgres/meta-store.ts';
import { createSpoolSource } from './spool/spool-source.ts';
import { ensureLedgers, openLedgerStore, type LedgerStore } from './store.ts';

export interface Audit extends Handle {
  /** Where it listens, with the port that was really taken. */
  readonly url: string;
  close(): Promise<void>;
}

export interface AuditOptions {
  readonly logger: Logger;
  readonly registry?: Registry;
  /** Reads the settings again; without it they are never reloaded. */
  readonly load?: () => Settings;
  readonly settingsFile?: string | undefined;
  /** Ends the start; then `startAudit` rejects with its reason. Means nothing once it has resolved. */
  readonly stopping?: AbortSignal;
}

const KAFKA_GROUP = 'edict-audit';
const MAX_GAP_CHECK_MS = 5_000;
const COVER_CHECK_MS = 1_000;
const DATABASE_WAIT_MS = 60_000;
const DATABASE_RETRY_MS = 1_000;
const RECLAIM_RETRY_MS = 2_000;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const DAY_MS = 86_400_000;
const ERASE_INTERVAL_MS = 1_000;
const EMBEDDED_NOTE = 'embedded: role separation is void; commits are not power-loss durable until flushed';

const maskKeyOf =
  (settings: () => Settings) =>
  (tenant: string): Uint8Array | undefined => {
    const { home, tenants } = settings();
    const file = tenants[tenant]?.mask_key_file;
    if (file !== undefined) return readKeyFile(file, 32);
    const made = homePaths(home).maskKey(tenant);
    return existsSync(made) ? readKeyFile(made, 32) : undefined;
  };

/** Copies of events that this installation itself keeps for a while, and those that the settings name. */
const copiesOf = ({ kafka, spool, audit }: Settings): readonly string[] => [
  `spools of the emitters: covered segments are kept for ${spool.keep}`,
  ...(kafka.brokers.length === 0 ? [] : [`Kafka topic ${DECISIONS_TOPIC}: as long as its retention says`]),
  'exports: access entries of the ledger name them',
  ...audit.copies,
];

const checksOf = (
  store: LedgerStore,
  ingest: Ingest,
  source: EventSource,
  acks: AckPublisher,
  reloadFailure: () => string | undefined,
  warnings: readonly string[],
): Checks => ({
  database: async () => {
    await store.database.query('select 1 as ok', []);
    if (store.isEmbedded) return { ok: true, facts: { note: EMBEDDED_NOTE } };
    return warnings.length === 0 ? { ok: true } : { ok: true, facts: { warnings } };
  },
  ledger: async () => {
    const logs = await ingest.logs();
    return { ok: true, facts: { system_tenant: SYSTEM_TENANT, ledgers: logs.size } };
  },
  ingest: () => {
    const failure = ingest.failure();
    return failure === undefined ? { ok: true } : { ok: false, reason: failure };
  },
  source: () => {
    const { ok, note, lag } = source.health();
    const facts = { source: source.name, lag };
    return ok ? { ok, facts } : { ok, reason: note ?? 'the source cannot be read', facts };
  },
  acks: () => {
    const failure = acks.failure();
    return failure === undefined ? { ok: true } : { ok: false, reason: failure };
  },
  // How old they are is a fact: without a signer the service goes on taking and answering.
  checkpoints: async () => {
    const { alarms, ...facts } = await readSigningState(store.database, BigInt(Date.now()) * 1_000n);
    return alarms.length === 0
      ? { ok: true, facts }
      : {
          ok: false,
          reason: 'the signer refuses to sign; after a restore of the database see `edict ledger resume --help`',
          facts: { ...facts, alarms },
        };
  },
  settings: () => {
    const failure = reloadFailure();
    return failure === undefined ? { ok: true } : { ok: true, facts: { reload_failed: failure } };
  },
});

/** Does `upkeep`, waits, and does it again until closed; what fails is done later. */
const startUpkeep = (what: string, waitMs: number, upkeep: () => Promise<unknown>, logger: Logger): Handle => {
  const closing = new AbortController();
  const work = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        await upkeep();
      } catch (error) {
        logger.debug({ err: error }, `${what}: tried again later`);
      }
      await sleep(waitMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  };
  const working = work();
  return {
    close: () => {
      closing.abort();
      return working;
    },
  };
};

/**
 * Before anything is read: who is erased is erased again in the key store, which may be a restored copy; what was
 * acknowledged and is missing now (a restored database) becomes holes; then every acknowledgement is published as the
 * database has it. Tries until it works, in the background.
 */
const startSource = (
  ingest: Ingest,
  repeatErasures: () => Promise<void>,
  sink: AckSink,
  acks: AckPublisher,
  source: EventSource,
  logger: Logger,
): Handle => {
  const closing = new AbortController();
  const begin = async (): Promise<void> => {
    for (let isReclaimed = false; !isReclaimed && !closing.signal.aborted;) {
      try {
        await unlessAborted(repeatErasures(), closing.signal);
        const streams = await ingest.reclaim(await unlessAborted(sink.published(), closing.signal));
        if (streams > 0) logger.warn({ streams }, 'acknowledged once and not in the database: asked for again');
        // Without a broker this waits for one; the publisher, closed after this part, gives it up.
        await unlessAborted(acks.refresh(), closing.signal);
        isReclaimed = true;
      } catch (error) {
        if (closing.signal.aborted) return;
        logger.warn({ err: error }, 'cannot begin to read: key store, acknowledgements or database do not answer');
        await sleep(RECLAIM_RETRY_MS, undefined, { signal: closing.signal }).catch(() => undefined);
      }
    }
    if (!closing.signal.aborted) await source.run(ingest);
  };
  const beginning = begin();
  return {
    async close() {
      closing.abort();
      ingest.close();
      await beginning;
      await source.close();
    },
  };
};

/** Waits a while for a database that is just starting; embedded: makes the ledgers that are missing. */
const openStore = async (
  settings: Settings,
  logger: Logger,
  onRewound: Rewinds['noticed'],
  stopping?: AbortSignal,
): Promise<LedgerStore> => {
  const deadline = Date.now() + DATABASE_WAIT_MS;
  for (;;) {
    try {
      const store = await openLedgerStore(settings, { signal: stopping, onRewound });
      const { recovered, damaged } = store;
      if (damaged !== undefined) logger.warn({ damaged }, 'the database was damaged and is rebuilt from the journal');
      if (recovered !== undefined) logger.info({ recovered }, 'the database is at its journal’s end');
      try {
        if (store.isEmbedded)
          for (const { isNew, log } of await ensureLedgers(settings, store, stopping))
            if (isNew) logger.info({ tenant: log.tenant, origin: log.origin }, 'ledger created');
      } catch (error) {
        await store.close();
        throw error;
      }
      return store;
    } catch (error) {
      stopping?.throwIfAborted();
      if (!isAppError(error) || error.code !== 'database_unavailable' || Date.now() > deadline) throw error;
      logger.warn({ err: error }, 'the database does not answer yet');
      await sleep(DATABASE_RETRY_MS, undefined, { signal: stopping }).catch(() => undefined);
      stopping?.throwIfAborted();
    }
  }
};

/**
 * Starts the audit service: ledgers, acknowledgements, ingest, source, listener, in this order, and closes them in
 * reverse. Throws `settings_invalid`, whatever a part cannot start with, and the reason of `stopping`; nothing is left
 * running then.
 */
export const startAudit = async (settings: Settings, options: AuditOptions): Promise<Audit> => {
  const parts: Handle[] = [];
  const close = async (): Promise<void> => {
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) await part.close();
  };
  try {
    return await openAudit(settings, options, parts, close);
  } catch (error) {
    await close();
    throw error;
  }
};

const openAudit = async (
  settings: Settings,
  options: AuditOptions,
  parts: Handle[],
  close: () => Promise<void>,
): Promise<Audit> => {
  const { logger, registry = createRegistry({ service: 'audit' }), stopping } = options;
  const { home, kafka } = settings;
  const paths = homePaths(home);
  const address = parseListen(settings.audit.listen);
  let current = settings;
  let access = auditAccess(settings);

  const rewinds = createRewinds({
    writeLedger: (work, logs) => store.write(work, logs),
    logs: () => ingest.logs(),
    reclaim: async () => await ingest.reclaim(await sink.published()),
    ids: freshIds(),
    logger,
  });
  const store = await openStore(settings, logger, rewinds.noticed, stopping);
  parts.push(store);
  // The embedded database is as it was made.
  const warnings = store.isEmbedded ? [] : await readServerWarnings(store.database);
  for (const warning of warnings) logger.warn(warning);

  const keyFile = settings.audit.ack_key_file;
  const { key, verifier, vkey } = keyFile === undefined ? openAckKey(paths.ackKey, paths.ackVkey) : readAckKey(keyFile);
  const client = kafka.brokers.length === 0 ? undefined : createKafkaClient(kafka, 'edict-audit', logger);
  const sink =
    client === undefined
      ? createFileSink(home, verifier)
      : createKafkaSink({ kafka: client, verifier, groupId: `${KAFKA_GROUP}-acks`, logger });
  const keepMs = durationMs(settings.spool.keep);
  const acks: AckPublisher = createAckPublisher({
    key,
    logs: () => ingest.logs(),
    streams: async (emitter, recent) =>
      readStreamsOf(
        store.database,
        await ingest.logs(),
        emitter,
        recent === undefined ? undefined : { ...recent, sinceUs: BigInt(Date.now() - keepMs) * 1_000n },
      ),
    flush: store.flush,
    // Where a commit is durable by itself, it has said so in its own transaction; where there are checkpoints, they say.
    ...(store.isEmbedded
      ? {
          onCovered: async (streams) => markFlushed(store.database, await ingest.logs(), streams),
        }
      : {}),
    sink,
    logger,
  });
  const graceMs = durationMs(settings.audit.gap_grace);
  const ingest: Ingest = createIngest({
    database: store.database,
    writeLedger: store.write,
    nowUs: () => BigInt(Date.now()) * 1_000n,
    batch: settings.audit.batch,
    gapGraceMs: graceMs,
    pinned: settings.emitters,
    isCommitDurable: !store.isEmbedded,
    onCommitted: acks.changed,
    logger,
    metrics: createIngestMetrics(registry),
  });
  parts.push(acks);
  const source =
    client === undefined
      ? createSpoolSource({ home, batch: settings.audit.batch, logger })
      : createKafkaSource({ kafka: client, topic: DECISIONS_TOPIC, groupId: KAFKA_GROUP, logger });
  const erasing = { database: store.database, keys: store.keys, nowUs: () => BigInt(Date.now()) * 1_000n };
  const eraser = createEraser({ ...erasing, writeLedger: store.write, nameForSearch: store.nameForSearch, logger });
  let isRepeated = false;
  const repeatErasures = async (): Promise<void> => {
    if (!isRepeated) await eraser.repeat();
    isRepeated = true;
  };
  parts.push(startSource(ingest, repeatErasures, sink, acks, source, logger));
  const gapCheckMs = Math.max(100, Math.min(graceMs / 2, MAX_GAP_CHECK_MS));
  parts.push(startUpkeep('gap entries', gapCheckMs, ingest.writeGaps, logger));
  const own = { database: store.database, writeLedger: store.write, logs: ingest.logs, ids: freshIds() };
  const sealer = createSealer(own);
  const cover = async (): Promise<void> => {
    const moved = await followCheckpoints(store.database);
    if (moved.length > 0) acks.changed(moved);
  };
  parts.push(startUpkeep('covered marks', COVER_CHECK_MS, cover, logger));
  const seal = async (): Promise<void> => {
    await rewinds.enter();
    await cover();
    await sealer.sealAll();
    await sealer.enterAlarms();
    await enterTripwireAlarms(own);
  };
  parts.push(startUpkeep('seals', durationMs(settings.audit.seal_interval), seal, logger));
  const erasures = createErasures({
    ...erasing,
    expiryMs: durationMs(settings.audit.erasure_expiry),
    copies: copiesOf(settings),
  });
  const periodMs = settings.audit.retention === undefined ? undefined : durationMs(settings.audit.retention);
  const retention = createRetention({
    ...erasing,
    maintainer: store.maintainer,
    writeLedger: store.write,
    periodDays: periodMs === undefined ? null : periodMs / DAY_MS,
    logger,
  });
  const erase = async (): Promise<void> => {
    await repeatErasures();
    await erasures.expire();
    await eraser.advance();
    await retention.advance();
  };
  parts.push(startUpkeep('erasures', ERASE_INTERVAL_MS, erase, logger));
  if (store.isEmbedded) {
    const transaction = (work: (sql: Sql) => Promise<void>): Promise<void> => store.write(({ sql }) => work(sql));
    const signing = createSignerStore({ database: store.database, keys: store.keys, transaction });
    parts.push(await startSignerLink({ store: signing, file: paths.signerLink, logger }));
  }
  registerGauges(registry, {
    edict_source_lag_messages: { help: 'Messages that wait in the source.', read: () => source.health().lag },
  });

  // On a server `edict ledger create` makes them, and they are known then by themselves.
  const createMissing = (next: Settings): void => {
    if (store.isEmbedded)
      ensureLedgers(next, store).catch((error: unknown) => logger.error({ err: error }, 'cannot create a ledger'));
  };
  const reloadParts: readonly PrepareReload[] = [
    (next) => {
      const nextAccess = auditAccess(next);
      return () => {
        current = next;
        access = nextAccess;
        createMissing(next);
      };
    },
  ];
  const { load, settingsFile } = options;
  const reload =
    load === undefined
      ? undefined
      : watchSettings({
          initial: settings,
          load,
          parts: reloadParts,
          files: () => (settingsFile === undefined ? [] : [settingsFile]),
          logger,
          registry,
        });
  if (reload !== undefined) parts.push(reload);

  const audit = createAuditApp({
    reader: createLedgerReader({ database: store.reader, keys: store.keys }),
    tiles: createTileReader(store.reader),
    meta: createMetaReader(store.reader),
    verify: createVerifier({
      database: store.reader,
      reports: store.database,
      keys: store.keys,
      nameForSearch: store.nameForSearch,
      graceMs,
      placeKey: readOrCreateKey(paths.cursorKey),
      acks: async (tenant) => (await sink.published()).filter((ack) => ack.tenant === tenant),
    }),
    access: () => access,
    cursorKey: readOrCreateKey(paths.cursorKey),
    nameSubject: store.nameForSearch,
    maskKey: maskKeyOf(() => current),
    retire: ingest.retire,
    erasures,
    retention,
    recordAccess: createRecordAccess(store.write, (tenant) => readTenantLogs(store.database, tenant)),
    checks: checksOf(store, ingest, source, acks, () => reload?.failure(), warnings),
    registry,
    logger,
    listenHost: address.host,
    allowedHosts: settings.audit.allowed_hosts,
  });
  parts.push(audit);
  const http = createAuditServer(audit.app, {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: 2_000,
  });
  http.maxConnections = 1_024;
  stopping?.throwIfAborted();
  const server = await listen(http, address);
  parts.push(server);
  logger.info(
    { url: server.url, source: source.name, embedded: store.isEmbedded, ack_vkey: vkey },
    'audit service listens',
  );
  return { url: server.url, close };
};

/** `edict serve audit`: runs until a signal; resolves when it listens. */
export const serveAudit = async (loaded: LoadedSettings): Promise<{ readonly url: string }> => {
  const { settings, file } = loaded;
  const logger = createLogger({ service: 'audit', level: settings.log.level });
  logger.info({ file, settings }, 'settings');
  const lifecycle = createLifecycle({ logger });
  const load = (): Settings => loadSettings({ file, services: ['audit'] }).settings;
  return lifecycle.start('audit', (stopping) => startAudit(settings, { logger, load, settingsFile: file, stopping }));
};
