import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../shared/contracts/errors.ts';
import { formatVkey, parseVkey, signingKeyFromPem } from '../shared/contracts/signatures.ts';
import type { Checks } from '../shared/runtime/health.ts';
import { listenHealth } from '../shared/runtime/health-server.ts';
import { createLifecycle, type Handle } from '../shared/runtime/lifecycle.ts';
import { createLogger, type Logger } from '../shared/runtime/logger.ts';
import { createRegistry } from '../shared/runtime/metrics.ts';
import type { Policy } from '../shared/tlog/policy.ts';
import { homePaths, readKeyFile } from '../shared/settings/home.ts';
import { readPolicyFile } from '../shared/settings/policy-file.ts';
import { acquireLock } from '../shared/spool/lock.ts';
import { isEmbedded, type LoadedSettings, type Settings } from '../shared/settings/settings.ts';
import { durationMs } from '../shared/settings/units.ts';
import type { SignerStore } from './core/meta-log.ts';
import { createPostgresPayloadKeys } from './keys/postgres-payload-keys.ts';
import { createLinkedStore } from './link/client.ts';
import { connectPostgres, readDatabaseUrl } from './postgres/connect.ts';
import { ledgerMigrations, requireMigrated } from './postgres/migrate.ts';
import { createSignerStore } from './postgres/meta-store.ts';
import { openMemoryFolder } from './signer/memory-file.ts';
import { createSignerMetrics } from './signer/metrics.ts';
import { createWitnessMetrics } from './witness/metrics.ts';
import { startWitnesses } from './witness/witnesses.ts';
import { createSigner, startSigning, type SignerOptions } from './signer/signer.ts';

export interface RunningSigner extends Handle {
  /** Where it answers `/health` and `/metrics`; undefined when it listens nowhere. */
  readonly url: string | undefined;
  close(): Promise<void>;
}

const required = (file: string | undefined, pointer: string): string => {
  if (file === undefined) throw new AppError('settings_invalid', `${pointer}: the signer needs it`);
  return file;
};

/** Under its own role of the ledger's database; the embedded one has a single session, so through the audit service. */
const openStore = async (settings: Settings, parts: Handle[]): Promise<SignerStore> => {
  if (isEmbedded(settings)) return createLinkedStore(homePaths(settings.home).signerLink);
  const { database: files, audit } = settings;
  const masterKey = readKeyFile(required(audit.master_key_file, '/audit/master_key_file'), 32);
  const connect = (member: 'signer_url_file' | 'keys_url_file') => {
    const database = connectPostgres(readDatabaseUrl(required(files[member], `/database/${member}`)), {
      poolSize: 2,
      applicationName: 'edict-signer',
      isPooled: files.pooler,
    });
    parts.push(database);
    return database;
  };
  const database = connect('signer_url_file');
  const keys = createPostgresPayloadKeys(connect('keys_url_file'), { masterKey });
  await requireMigrated(database, ledgerMigrations());
  return createSignerStore({ database, keys, transaction: database.transaction });
};

const keysIn =
  (folder: string): SignerOptions['keyOf'] =>
  ({ tenant, incarnation, origin }) => {
    const file = join(folder, `${tenant}-${incarnation}.pem`);
    try {
      const key = signingKeyFromPem(readFileSync(file, 'utf8'));
      return { key, verifier: parseVkey(formatVkey(origin, key.publicKey)) };
    } catch (cause) {
      throw new AppError(
        'settings_invalid',
        `${file}: is no private key (${errorCode(cause) ?? errorMessage(cause)})`,
        {
          cause,
        },
      );
    }
  };

/** The witnesses to be asked. Throws `settings_invalid` for a file that is none, or names nobody who could be asked. */
const readPolicy = (file: string | undefined): Policy | undefined => {
  if (file === undefined) return undefined;
  const invalid = (what: string, cause?: unknown): AppError =>
    new AppError('settings_invalid', `/signer/witness_policy_file: ${what}`, { cause });
  const policy = readPolicyFile(file, invalid);
  const addresses = policy.witnesses.flatMap(({ url }) => url ?? []);
  if (addresses.length === 0) throw invalid(`${file}: no witness has an address`);
  const bad = addresses.find((url) => !URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol));
  if (bad !== undefined) throw invalid(`${file}: ${bad} is no address`);
  return policy;
};

/** Starts the signer. Throws `settings_invalid`, `signer_memory_failed`, `database_unavailable`; nothing runs then. */
export const startSigner = async (settings: Settings, { logger }: { logger: Logger }): Promise<RunningSigner> => {
  const parts: Handle[] = [];
  const close = async (): Promise<void> => {
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) await part.close();
  };
  try {
    const paths = homePaths(settings.home);
    const policy = readPolicy(settings.signer.witness_policy_file);
    const registry = createRegistry({ service: 'signer' });
    const folder = settings.signer.memory_dir ?? paths.signerMemory;
    const memory = openMemoryFolder(folder);
    // Two that share a memory could each believe that they alone have signed.
    const lock = await acquireLock(folder);
    if (lock === undefined) throw new AppError('signer_memory_failed', `${folder}: another signer works with it`);
    parts.push({ close: lock.release });
    const store = await openStore(settings, parts);
    const metrics = createSignerMetrics(registry);
    const signer = createSigner({
      store,
      memory,
      keyOf: keysIn(settings.signer.keys_dir ?? paths.ledgerKeys),
      nowUs: () => BigInt(Date.now()) * 1_000n,
      logger,
      metrics,
    });
    const intervalMs = durationMs(settings.signer.interval);
    const signing = startSigning(signer, intervalMs, logger);
    parts.push(signing);
    const witnesses =
      policy === undefined
        ? undefined
        : startWitnesses({
            policy,
            store,
            intervalMs,
            timeoutMs: durationMs(settings.signer.witness_timeout),
            logger,
            metrics: createWitnessMetrics(registry, metrics.alarms),
          });
    if (witnesses !== undefined) parts.push(witnesses);
    const address = settings.signer.listen;
    if (address === undefined) return { url: undefined, close };
    const checks: Checks = {
      signing: () => {
        const reason = signing.failure();
        return reason === undefined ? { ok: true } : { ok: false, reason };
      },
      logs: () => {
        const refused = Object.fromEntries(signer.refused());
        return signer.refused().size === 0
          ? { ok: true }
          : { ok: false, reason: 'logs are not signed', facts: { refused } };
      },
      // Never asked for is a fact: what an auditor makes of it stands in the auditor's own policy.
      witnesses: () => {
        if (witnesses === undefined) return { ok: true, facts: { note: 'no witness is asked' } };
        const facts = { quorum_size: String(witnesses.quorumSize()), witnesses: witnesses.states() };
        const reason = witnesses.trouble();
        return reason === undefined ? { ok: true, facts } : { ok: false, reason, facts };
      },
    };
    const server = await listenHealth(address, { checks, registry });
    parts.push(server);
    return { url: server.url, close };
  } catch (error) {
    await close();
    throw error;
  }
};

/** `edict serve signer`: runs until a signal; resolves when it signs. */
export const serveSigner = async (loaded: LoadedSettings): Promise<{ readonly url: string }> => {
  const { settings, file } = loaded;
  const logger = createLogger({ service: 'signer', level: settings.log.level });
  logger.info({ file, settings }, 'settings');
  const lifecycle = createLifecycle({ logger });
  const { url } = await lifecycle.start('signer', () => startSigner(settings, { logger }));
  logger.info({ url }, 'signer runs');
  return { url: url ?? '' };
};
