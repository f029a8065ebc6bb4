import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createJsonClient, type JsonClient } from '../../scripts/replay/client.ts';
import { newApiKey } from '../../services/shared/callers/api-keys.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { formatVkey, generateSigningKey } from '../../services/shared/contracts/signatures.ts';
import { edict, edictProcess, runEdict, type CommandResult, type EdictProcess } from './edict-process.ts';
import { freePorts } from './free-ports.ts';
import { startKafka, type KafkaBroker } from './kafka.ts';
import { startPostgres, runStatements, type PostgresServer } from './postgres.ts';
import { repositoryRoot } from './prepared-parts.ts';

type Members = Readonly<Record<string, unknown>>;

export interface DeploymentOptions {
  /** Tenants with a caller that asks and one that audits. Default: `acme` and `globex`. */
  readonly tenants?: readonly string[];
  /** Tenants whose callers exist, but whose ledger does not yet (with a real Postgres). */
  readonly withoutLedger?: readonly string[];
  /** What `start` starts. Default: both. */
  readonly services?: readonly ('pdp' | 'audit')[];
  /** With a real Postgres: what stands between it and everything but the superuser. */
  readonly pooler?: (postgres: PostgresServer) => Promise<Pooler>;
  /** Laid over the settings of the deployment, member by member. */
  readonly settings?: Members;
  /** Options of Node for a service, such as `--cpu-prof`. */
  readonly nodeOptions?: { readonly pdp?: readonly string[]; readonly audit?: readonly string[] };
  /** More of the environment of a service. */
  readonly environment?: { readonly pdp?: NodeJS.ProcessEnv; readonly audit?: NodeJS.ProcessEnv };
}

/** Another way to the same databases. */
export interface Pooler {
  url(login: string, database: string): string;
  close(): Promise<void>;
}

/** The keys of one tenant's two callers, and the operator's. */
export interface Keys {
  readonly decide: string;
  readonly audit: string;
}

/** PDP and audit service as real processes with their own home. */
export interface Deployment {
  /** Everything of it lies here and goes with `close`. */
  readonly folder: string;
  readonly home: string;
  readonly configFile: string;
  readonly tenants: readonly string[];
  readonly pdp: EdictProcess;
  readonly audit: EdictProcess;
  /** A file with the operator's API key, for commands that ask the audit service. */
  readonly operatorKeyFile: string;
  keys(tenant: string): Keys;
  /** A client of the PDP with the key of the tenant's gateway. Closed with the deployment. */
  gateway(tenant: string, connections?: number): JsonClient;
  /** A client of the audit service with the key of the tenant's auditor (the operator for `edict`). */
  auditor(tenant: string): JsonClient;
  /** Runs `edict ARGS --config …` of this deployment. */
  run(...args: readonly string[]): Promise<CommandResult>;
  /** Writes the settings anew with other members laid over them. */
  configure(settings: Members): void;
  start(): Promise<void>;
  /** Both with SIGTERM, PDP first. */
  stop(): Promise<void>;
  close(): Promise<void>;
}

/** A deployment with a real broker and a real database server. */
export interface ExternalDeployment extends Deployment {
  readonly kafka: KafkaBroker;
  readonly postgres: PostgresServer;
  /** The superuser's URL of the ledger's database. */
  readonly ledgerUrl: string;
  createLedger(tenant: string): Promise<void>;
}

const merge = (base: Members, over: Members): Members => {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(over)) {
    const below = merged[name];
    merged[name] = isObject(below) && isObject(value) ? merge(below, value) : value;
  }
  return merged;
};

/** A file that only its owner may read, with the bytes or text given. */
export function writeSecret(folder: string, name: string, content: Uint8Array | string): string {
  const file = path.join(folder, 'secrets', name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content, { mode: 0o600 });
  return file;
}

interface Prepared {
  readonly folder: string;
  readonly settings: Members;
  readonly closeParts?: () => Promise<void>;
}

async function assemble({ folder, settings, closeParts }: Prepared, options: DeploymentOptions): Promise<Deployment> {
  const tenants = options.tenants ?? ['acme', 'globex'];
  const [pdpPort, auditPort] = await freePorts(2);
  const home = path.join(folder, 'home');
  const configFile = path.join(folder, 'edict.yaml');
  const newKeys = new Map(tenants.map((tenant) => [tenant, { decide: newApiKey(), audit: newApiKey() }]));
  const operator = newApiKey();
  const callers = [
    ...[...newKeys].flatMap(([tenant, { decide, audit }]) => [
      { id: `gateway-${tenant}`, tenant, roles: ['decide', 'data'], api_keys: [decide.stored], requires_agent: false },
      { id: `auditor-${tenant}`, tenant, roles: ['audit'], api_keys: [audit.stored] },
    ]),
    { id: 'operator', tenant: 'edict', roles: ['audit', 'operate'], api_keys: [operator.stored] },
  ];
  const base = merge(
    {
      home,
      pdp: {
        listen: `127.0.0.1:${pdpPort}`,
        bundles: [path.join(repositoryRoot, 'bundles', 'mesh.tar.gz')],
        bundle_poll: '100ms',
      },
      audit: { listen: `127.0.0.1:${auditPort}` },
      tenants: Object.fromEntries(tenants.map((tenant) => [tenant, {}])),
      callers,
    },
    merge(settings, options.settings ?? {}),
  );
  const configure = (more: Members): void => {
    // JSON is YAML.
    writeFileSync(configFile, JSON.stringify(merge(base, more), undefined, 2));
  };
  configure({});
  const service = (name: 'pdp' | 'audit', port: number | undefined): EdictProcess =>
    edictProcess({
      service: name,
      url: `http://127.0.0.1:${port}`,
      configFile,
      folder,
      ...(options.nodeOptions?.[name] === undefined ? {} : { nodeOptions: options.nodeOptions[name] }),
      ...(options.environment?.[name] === undefined ? {} : { environment: options.environment[name] }),
    });
  const pdp = service('pdp', pdpPort);
  const audit = service('audit', auditPort);
  const clients: JsonClient[] = [];
  const keys = (tenant: string): Keys => {
    const found = newKeys.get(tenant);
    if (found === undefined) throw new Error(`the deployment has no tenant ${tenant}`);
    return { decide: found.decide.key, audit: found.audit.key };
  };
  const client = (url: string, apiKey: string, connections?: number): JsonClient => {
    const made = createJsonClient(url, { apiKey, ...(connections === undefined ? {} : { connections }) });
    clients.push(made);
    return made;
  };
  return {
    folder,
    home,
    configFile,
    tenants,
    pdp,
    audit,
    operatorKeyFile: writeSecret(folder, 'operator.key', operator.key),
    keys,
    gateway: (tenant, connections) => client(pdp.url, keys(tenant).decide, connections),
    auditor: (tenant) => client(audit.url, tenant === 'edict' ? operator.key : keys(tenant).audit),
    run: (...args) => runEdict([...args, '--config', configFile]),
    configure,
    async start() {
      const services = options.services ?? ['audit', 'pdp'];
      await Promise.all(services.map((name) => (name === 'pdp' ? pdp : audit).start()));
    },
    async stop() {
      await pdp.stop();
      await audit.stop();
    },
    async close() {
      for (const each of clients) each.close();
      await Promise.all([pdp.kill9(), audit.kill9()]);
      await closeParts?.();
      if (process.env['EDICT_TEST_KEEP'] === undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      else process.stderr.write(`kept ${folder}\n`);
    },
  };
}

const newFolder = (): string => mkdtempSync(path.join(os.tmpdir(), 'edict-system-'));

async function started<T extends Deployment>(deployment: T): Promise<T> {
  try {
    await deployment.start();
    return deployment;
  } catch (error) {
    await deployment.close();
    throw error;
  }
}

/** PDP and audit service on one home: the audit service reads the spool and keeps an embedded database. Started. */
export async function startEmbedded(options: DeploymentOptions = {}): Promise<Deployment> {
  return await started(await assemble({ folder: newFolder(), settings: {} }, options));
}

/** The logins of the services, each a member of exactly one role of the ledger. */
const LOGINS = {
  ledger_owner: 'edict_owner',
  ledger_writer: 'edict_writer',
  ledger_reader: 'edict_reader_all',
  ledger_signer: 'edict_signer',
  ledger_maintainer: 'edict_maintainer',
} as const;

async function prepareDatabases(postgres: PostgresServer): Promise<{ ledger: string; keys: string }> {
  const ledger = await postgres.createDatabase();
  const keys = await postgres.createDatabase();
  const roles = readFileSync(path.join(repositoryRoot, 'migrations', 'roles.sql'), 'utf8');
  await runStatements(
    postgres.url(undefined, ledger),
    roles,
    ...Object.entries(LOGINS).map(([login, role]) => `create role ${login} login in role ${role}`),
    'create role keys_owner login',
    `alter database "${keys}" owner to keys_owner`,
  );
  return { ledger, keys };
}

async function external(options: DeploymentOptions): Promise<ExternalDeployment> {
  const folder = newFolder();
  const [kafka, postgres] = await Promise.all([startKafka(), startPostgres()]);
  let pooler: Pooler | undefined;
  const closeParts = async (): Promise<void> => {
    await pooler?.close();
    await Promise.all([kafka.close(), postgres.close()]);
  };
  try {
    const { ledger, keys } = await prepareDatabases(postgres);
    pooler = await options.pooler?.(postgres);
    const way = pooler ?? postgres;
    const urlFile = (login: string, database: string): string =>
      writeSecret(folder, `${login}.url`, way.url(login, database));
    const ackKey = generateSigningKey();
    const tenants = options.tenants ?? ['acme', 'globex'];
    const settings: Members = {
      kafka: { brokers: [...kafka.brokers], partitions: 3, replication: 1 },
      database: {
        owner_url_file: urlFile('ledger_owner', ledger),
        writer_url_file: urlFile('ledger_writer', ledger),
        reader_url_file: urlFile('ledger_reader', ledger),
        signer_url_file: urlFile('ledger_signer', ledger),
        maintainer_url_file: urlFile('ledger_maintainer', ledger),
        keys_url_file: urlFile('keys_owner', keys),
        pooler: pooler !== undefined,
      },
      audit: {
        master_key_file: writeSecret(folder, 'master.key', randomBytes(32)),
        ack_key_file: writeSecret(folder, 'audit-ack.pem', ackKey.pem),
        ack_vkey_files: [
          writeSecret(folder, 'audit-ack.vkey', `${formatVkey('edict-audit-ack', ackKey.key.publicKey)}\n`),
        ],
      },
      ledger: { authority: 'test.example' },
      tenants: Object.fromEntries(
        tenants.map((tenant) => [
          tenant,
          { mask_key_file: writeSecret(folder, `mask-${tenant}.key`, randomBytes(32)) },
        ]),
      ),
    };
    const deployment = await assemble({ folder, settings, closeParts }, options);
    const createLedger = async (tenant: string): Promise<void> => {
      await edict('ledger', 'create', tenant, '--config', deployment.configFile);
    };
    await edict('migrate', '--config', deployment.configFile);
    for (const tenant of ['edict', ...tenants])
      if (options.withoutLedger?.includes(tenant) !== true) await createLedger(tenant);
    const ledgerUrl = postgres.url(undefined, ledger);
    return { ...deployment, kafka, postgres, ledgerUrl, createLedger };
  } catch (error) {
    await closeParts();
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** PDP and audit service with a real broker and a real Postgres of their own, migrated, ledgers created. Started. */
export async function startExternal(options: DeploymentOptions = {}): Promise<ExternalDeployment> {
  return await started(await external(options));
}
