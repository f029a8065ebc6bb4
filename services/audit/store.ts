import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { AppError, errorMessage, isAppError } from '../shared/contracts/errors.ts';
import { RETENTION_FLOOR_DAYS } from '../shared/contracts/retention.ts';
import { SYSTEM_TENANT } from '../shared/contracts/tenant.ts';
import { homePaths, readKeyFile, readOrCreateFile, readOrCreateKey } from '../shared/settings/home.ts';
import { isEmbedded, tenantNames, type Settings } from '../shared/settings/settings.ts';
import type { WriteLedger } from './core/append.ts';
import type { Database } from './core/database.ts';
import { decodeEntry, leafHash, type Genesis } from './core/entry.ts';
import type { Journal } from './core/journal.ts';
import { createTreeHasher, type TreeHasher } from '../shared/tlog/merkle.ts';
import type { PayloadKeys } from './core/payload-keys.ts';
import { createSearchNames, type NameSubject } from './core/pseudonym.ts';
import { machineStart } from './embedded/directory-lock.ts';
import { startEmbeddedPostgres } from './embedded/embedded-postgres.ts';
import { openJournal } from './embedded/journal-file.ts';
import { createSpoolMessages } from './embedded/spool-messages.ts';
import { createFilePayloadKeys } from './keys/file-payload-keys.ts';
import { createPostgresPayloadKeys } from './keys/postgres-payload-keys.ts';
import { connectPostgres, readDatabaseUrl } from './postgres/connect.ts';
import { rootInDatabase } from './postgres/continue-log.ts';
import { createLedger, type CreatedLedger, type CreateLedgerOptions } from './postgres/create-ledger.ts';
import { createFlush, createLedgerWriter, type LedgerWriterOptions } from './postgres/ledger-writer.ts';
import { keyStoreMigrations, ledgerMigrations, migrate, requireMigrated } from './postgres/migrate.ts';
import { readLogs } from './postgres/statements.ts';
import { recoverFromJournal, type Recovered } from './postgres/recover.ts';

/** Everything that the ledger lies in, open: the database, the key store, the one way to write. */
export interface LedgerStore {
  /** The writer's connection; embedded: the one session. */
  readonly database: Database;
  /** For queries, under the reading role; embedded: the same session. */
  readonly reader: Database;
  /** For retention, under the maintainer’s role; embedded: the same session. Absent without its URL. */
  readonly maintainer?: Database;
  readonly keys: PayloadKeys;
  readonly nameForSearch: NameSubject;
  readonly write: WriteLedger;
  /** Makes what is committed survive a power cut; the sizes that then do, by log id. */
  readonly flush: () => Promise<ReadonlyMap<number, bigint>>;
  readonly isEmbedded: boolean;
  /** Embedded: what the journal gave back to the database at the start. */
  readonly recovered?: Recovered;
  /** Embedded: where a damaged database was put when it was rebuilt. */
  readonly damaged?: string;
  readonly close: () => Promise<void>;
}

export type StoreRole = 'writer' | 'owner';

const systemNowUs = (): bigint => BigInt(Date.now()) * 1_000n;

const requiredFile = (file: string | undefined, member: string): string => {
  if (file === undefined) throw new AppError('settings_invalid', `${member}: is needed for this`);
  return file;
};

/** The outcome of `work`; when the signal comes first its reason, and the work ends unseen. */
const unlessAborted = <T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> =>
  new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal?.reason as Error);
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal?.removeEventListener('abort', onAbort));
  });

const openPostgresStore = async (
  settings: Settings,
  role: StoreRole,
  nowUs: () => bigint,
  signal: AbortSignal | undefined,
  onRewound: LedgerWriterOptions['onRewound'],
): Promise<LedgerStore> => {
  const { database: files, audit } = settings;
  const masterKey = readKeyFile(requiredFile(audit.master_key_file, '/audit/master_key_file'), 32);
  const connect = (name: 'owner' | 'writer' | 'reader' | 'maintainer' | 'keys', poolSize: number): Database =>
    connectPostgres(readDatabaseUrl(requiredFile(files[`${name}_url_file`], `/database/${name}_url_file`)), {
      poolSize,
      applicationName: `edict-${name}`,
      isPooled: files.pooler,
      // Queries of auditors have optional filters, so each wants a plan of its own.
      prepares: name === 'writer' || name === 'keys',
    });
  const open: Database[] = [];
  const closeAll = async (): Promise<void> => {
    await Promise.allSettled(open.map((each) => each.close()));
  };
  try {
    const database = connect(role, 4);
    open.push(database);
    const keyDatabase = connect('keys', 4);
    open.push(keyDatabase);
    const reader = role === 'owner' ? database : connect('reader', 4);
    if (reader !== database) open.push(reader);
    const maintainer =
      role === 'owner' || files.maintainer_url_file === undefined ? undefined : connect('maintainer', 1);
    if (maintainer !== undefined) open.push(maintainer);
    await unlessAborted(requireMigrated(database, ledgerMigrations()), signal);
    await unlessAborted(requireMigrated(keyDatabase, keyStoreMigrations()), signal);
    const keys = createPostgresPayloadKeys(keyDatabase, { masterKey });
    const nameForSearch = createSearchNames(masterKey);
    return {
      database,
      reader,
      ...(maintainer === undefined ? {} : { maintainer }),
      keys,
      nameForSearch,
      write: createLedgerWriter({
        database,
        keys,
        nameForSearch,
        nowUs,
        ...(onRewound === undefined ? {} : { onRewound }),
      }),
      flush: createFlush(database),
      isEmbedded: false,
      close: closeAll,
    };
  } catch (error) {
    // A pool waits for what its connections are doing, and a server that is silent may take its time.
    if (signal?.aborted === true) void closeAll();
    else await closeAll();
    throw error;
  }
};

/** Says which start of the machine the database was opened under; gone after a clean stop. */
const openedMark = (home: string): string => `${homePaths(home).database}.opened`;

/** True when the machine was started anew while the database was open: nothing of it was synced since its last flush. */
const hadPowerCut = (home: string): boolean => {
  const mark = openedMark(home);
  return existsSync(mark) && readFileSync(mark, 'utf8') !== machineStart();
};

const putAside = (path: string, why: string): string => {
  const to = `${path}.${why}-${new Date().toISOString().replaceAll(/[:.]/g, '')}`;
  renameSync(path, to);
  return to;
};

const openEmbeddedStore = async (
  settings: Settings,
  nowUs: () => bigint,
  signal: AbortSignal | undefined,
): Promise<LedgerStore> => {
  const { home } = settings;
  const paths = homePaths(home);
  const masterKey =
    settings.audit.master_key_file === undefined
      ? readOrCreateKey(paths.masterKey)
      : readKeyFile(settings.audit.master_key_file, 32);
  const keys = createFilePayloadKeys(paths.subjectKeys, { masterKey });
  const nameForSearch = createSearchNames(masterKey);

  const openOnce = async (
    isThorough: boolean,
  ): Promise<{ database: Database; journal: Journal; recovered: Recovered; recover: () => Promise<Recovered> }> => {
    const database = await startEmbeddedPostgres(paths.database, { signal });
    let journal: Journal | undefined;
    // Ends what follows between two statements.
    const closeEarly = (): void => void database.close();
    signal?.addEventListener('abort', closeEarly, { once: true });
    try {
      await migrate(database, ledgerMigrations());
      await applyRetentionFloor(database, settings);
      // Opened only now: the database's lock is the journal's too.
      const opened = await openJournal(paths.journal);
      journal = opened;
      const recover = async (thorough = false): Promise<Recovered> => {
        const spools = createSpoolMessages(home);
        try {
          return await recoverFromJournal({
            database,
            journal: opened,
            keys,
            nameForSearch,
            fetchMessage: spools.fetch,
            isThorough: thorough,
          });
        } finally {
          spools.close();
        }
      };
      const recovered = await recover(isThorough);
      signal?.throwIfAborted();
      return { database, journal, recovered, recover };
    } catch (error) {
      await journal?.close();
      await database.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', closeEarly);
    }
  };

  const isThorough = hadPowerCut(home);
  let damaged: string | undefined;
  const opened = await openOnce(isThorough).catch(async (error: unknown) => {
    signal?.throwIfAborted();
    // Only what a power cut may have torn is rebuilt; anything else is for a person to look at.
    if (!isThorough || !existsSync(paths.database) || (isAppError(error) && error.code === 'database_locked'))
      throw error;
    damaged = putAside(paths.database, 'damaged');
    return openOnce(true);
  });
  const { database, journal, recovered, recover } = opened;
  writeFileSync(openedMark(home), machineStart(), { mode: 0o600 });
  return {
    database,
    reader: database,
    maintainer: database,
    keys,
    nameForSearch,
    write: createLedgerWriter({
      database,
      keys,
      nameForSearch,
      nowUs,
      journal,
      recover: async () => {
        await recover();
      },
    }),
    flush: createFlush(database),
    isEmbedded: true,
    recovered,
    ...(damaged === undefined ? {} : { damaged }),
    close: async () => {
      try {
        await database.flush();
        rmSync(openedMark(home), { force: true });
      } finally {
        await database.close();
        await journal.close();
        await keys.close();
      }
    },
  };
};

/**
 * Opens what the settings name. On a real server the schemas must be migrated; the embedded database is made,
 * migrated and, when it is behind its journal, brought to the journal's end. Rejects with `settings_invalid`,
 * `database_unavailable`, `database_locked`, `journal_corrupt`, or `ledger_corrupt` when only a new incarnation helps;
 * with the signal's reason, soon after it is aborted, when that comes before everything is open.
 */
export const openLedgerStore = (
  settings: Settings,
  options: {
    readonly role?: StoreRole;
    readonly nowUs?: () => bigint;
    readonly signal?: AbortSignal | undefined;
    /** On a real server: told when it has lost the end of a log. */
    readonly onRewound?: LedgerWriterOptions['onRewound'];
  } = {},
): Promise<LedgerStore> => {
  const { nowUs = systemNowUs, role = 'writer', signal, onRewound } = options;
  return isEmbedded(settings)
    ? openEmbeddedStore(settings, nowUs, signal)
    : openPostgresStore(settings, role, nowUs, signal, onRewound);
};

/**
 * Tells the database below which age nothing may be dropped, whatever an entry says: 183 days, unless the settings say
 * that no law asks for it. As the owner: no other role may.
 */
export const applyRetentionFloor = (database: Database, settings: Settings): Promise<void> =>
  database.transaction(async (sql) => {
    await sql.query('set local role edict_owner', []);
    await sql.query('update edict.retention_floor set days = $1::int where days <> $1::int', [
      settings.audit.retention_below_floor ? 0 : RETENTION_FLOOR_DAYS,
    ]);
  });

/** The first part of every origin: the setting, or, embedded, a name made at the first start. */
const ledgerAuthority = (settings: Settings): string => {
  if (settings.ledger.authority !== undefined) return settings.ledger.authority;
  if (!isEmbedded(settings)) throw new AppError('settings_invalid', '/ledger/authority: is needed for this');
  const made = readOrCreateFile(homePaths(settings.home).authority, () =>
    Buffer.from(`local-${randomBytes(8).toString('hex')}\n`, 'utf8'),
  );
  return made.toString('utf8').trim();
};

export interface CreateTenantLedgerOptions {
  readonly newIncarnation?: boolean;
  /** What the new incarnation continues, when the database has lost it. */
  readonly previous?: NonNullable<Genesis['previous']> & { readonly incarnation: number };
  /** After a restore: the tree that was signed. */
  readonly resumed?: NonNullable<CreateLedgerOptions['resumed']>;
  readonly nowUs?: () => bigint;
}

/** Creates a tenant's ledger in an open store, as the settings say; see `createLedger`. */
export const createTenantLedger = (
  settings: Settings,
  store: Pick<LedgerStore, 'write'>,
  tenant: string,
  options: CreateTenantLedgerOptions = {},
): Promise<CreatedLedger> => {
  const paths = homePaths(settings.home);
  const { blind_tenants: isBlind, blind_key_file: blindKeyFile } = settings.ledger;
  const blindKey = isBlind
    ? blindKeyFile === undefined
      ? readOrCreateKey(paths.blindKey)
      : readKeyFile(blindKeyFile, 32)
    : undefined;
  return createLedger({
    write: store.write,
    tenant,
    authority: ledgerAuthority(settings),
    ...(blindKey === undefined ? {} : { blindKey }),
    keyFile: paths.ledgerKey,
    nowUs: options.nowUs ?? systemNowUs,
    ...(options.newIncarnation === undefined ? {} : { newIncarnation: options.newIncarnation }),
    ...(options.previous === undefined ? {} : { previous: options.previous }),
    ...(options.resumed === undefined ? {} : { resumed: options.resumed }),
  });
};

/** The embedded start: a ledger for the system tenant and for each tenant of the settings, made where missing. */
export const ensureLedgers = async (
  settings: Settings,
  store: LedgerStore,
  signal?: AbortSignal,
): Promise<readonly CreatedLedger[]> => {
  const ledgers: CreatedLedger[] = [];
  for (const tenant of [SYSTEM_TENANT, ...tenantNames(settings)]) {
    signal?.throwIfAborted();
    ledgers.push(await createTenantLedger(settings, store, tenant));
  }
  return ledgers;
};

type Previous = NonNullable<CreateTenantLedgerOptions['previous']>;
/** By tenant: what its next incarnation continues. */
type Continued = ReadonlyMap<string, Previous>;

/** Origin, size and root of every log in the journal, the newest incarnation of each tenant. */
const logsInJournal = async (folder: string): Promise<Continued> => {
  if (!existsSync(folder)) return new Map();
  const journal = await openJournal(folder);
  try {
    return await continuedBy(journal);
  } finally {
    await journal.close();
  }
};

const continuedBy = async (journal: Journal): Promise<Continued> => {
  const trees = new Map<string, { readonly tenant: string; readonly tree: TreeHasher }>();
  for await (const { operations } of journal.read(1n))
    for (const operation of operations) {
      if (operation.kind !== 'append') continue;
      const { origin, tenant } = operation.log;
      const known = trees.get(origin) ?? { tenant, tree: createTreeHasher() };
      trees.set(origin, known);
      for (const { header } of operation.entries) {
        if (decodeEntry(header).seq !== known.tree.size())
          throw new AppError('journal_corrupt', `${origin}: entry ${known.tree.size()} is missing from the journal`);
        known.tree.add(leafHash(header));
      }
    }
  const latest = new Map<string, Previous>();
  for (const [origin, { tenant, tree }] of trees) {
    const incarnation = Number(origin.split('/').at(-1));
    if (incarnation > (latest.get(tenant)?.incarnation ?? 0))
      latest.set(tenant, { origin, size: tree.size(), root: tree.root(), incarnation });
  }
  return latest;
};

/** The same from a database that still opens, whatever its journal says. */
const logsInDatabase = async (folder: string): Promise<Continued> => {
  const latest = new Map<string, Previous>();
  if (!existsSync(folder)) return latest;
  const database = await startEmbeddedPostgres(folder);
  try {
    await migrate(database, ledgerMigrations());
    for (const log of await readLogs(database)) {
      const { incarnation, tenant } = log;
      if (incarnation > (latest.get(tenant)?.incarnation ?? 0))
        latest.set(tenant, { ...(await rootInDatabase(database, log)), incarnation });
    }
  } finally {
    await database.close();
  }
  return latest;
};

/** Of each tenant the newest incarnation, and of one incarnation whichever knows more of it. */
const joinContinued = (a: Continued, b: Continued): Continued => {
  const joined = new Map(a);
  for (const [tenant, candidate] of b) {
    const known = joined.get(tenant);
    const isNewer =
      known === undefined ||
      candidate.incarnation > known.incarnation ||
      (candidate.incarnation === known.incarnation && candidate.size > known.size);
    if (isNewer) joined.set(tenant, candidate);
  }
  return joined;
};

/**
 * The embedded ledger that cannot go on: puts database and journal aside (nothing is deleted), and begins a new
 * incarnation of every log that journal or database know, each naming what it continues. What the spools still have
 * comes in again by itself. Rejects with `ledger_corrupt` when neither can be read.
 */
export const restartEmbeddedLedgers = async (
  settings: Settings,
): Promise<{ readonly aside: readonly string[]; readonly ledgers: readonly CreatedLedger[] }> => {
  const paths = homePaths(settings.home);
  // The database first: its lock keeps a running service's journal out of reach.
  const sources = [() => logsInDatabase(paths.database), () => logsInJournal(paths.journal)];
  let logs: Continued = new Map();
  const failures: unknown[] = [];
  for (const read of sources) {
    try {
      logs = joinContinued(logs, await read());
    } catch (error) {
      if (isAppError(error) && error.code === 'database_locked') throw error;
      failures.push(error);
    }
  }
  if (logs.size === 0)
    throw new AppError(
      'ledger_corrupt',
      `neither database nor journal name a ledger to continue: ${failures.map(errorMessage).join('; ')}`,
      { cause: failures[0] },
    );
  const aside = [paths.database, paths.journal]
    .filter((path) => existsSync(path))
    .map((path) => putAside(path, 'ended'));
  rmSync(openedMark(settings.home), { force: true });
  const store = await openLedgerStore(settings);
  try {
    const ledgers: CreatedLedger[] = [];
    for (const [tenant, previous] of logs)
      ledgers.push(await createTenantLedger(settings, store, tenant, { newIncarnation: true, previous }));
    return { aside, ledgers };
  } finally {
    await store.close();
  }
};
