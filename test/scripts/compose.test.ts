import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import { readAckKey } from '../../services/audit/acks/ack-key.ts';
import { createAuthenticate } from '../../services/shared/callers/api-keys.ts';
import { parseVkey } from '../../services/shared/contracts/signatures.ts';
import { isEmbedded, loadSettings } from '../../services/shared/settings/settings.ts';
import { repositoryRoot } from '../support/prepared-parts.ts';

interface Service {
  readonly image?: string;
  readonly mem_limit?: string;
  readonly networks?: readonly string[];
  readonly user?: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly healthcheck?: { readonly test?: unknown; readonly disable?: boolean };
  readonly ports?: readonly string[];
  readonly secrets?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

const composeText = readFileSync(path.join(repositoryRoot, 'docker-compose.yml'), 'utf8');
const compose = parse(composeText, { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean }>>;
};
const services = Object.entries(compose.services);

describe('docker-compose.yml', () => {
  it('describes Postgres, Kafka, migrations, two decision points, audit service and signer', () => {
    expect(services.map(([name]) => name).toSorted()).toEqual([
      'audit',
      'kafka',
      'migrate',
      'pdp-1',
      'pdp-2',
      'postgres',
      'signer',
    ]);
  });

  it.each(services)('runs %s as an unprivileged user, read-only and without capabilities', (_name, service) => {
    expect(service.user).toMatch(/^[1-9]\d*:[1-9]\d*$/);
    expect(service.read_only).toBe(true);
    expect(service.cap_drop).toEqual(['ALL']);
    expect(service.security_opt).toContain('no-new-privileges:true');
  });

  it.each(services)('bounds the memory of %s and names the very version of its image', (_name, service) => {
    expect(service.mem_limit).toMatch(/^\d+[mg]$/);
    expect(service.image).toMatch(/^edict:local$|:\d+\.\d+(\.\d+)?(-|$)/);
  });

  it('lets nobody reach Postgres but who stores, and nobody reach Kafka but who needs it', () => {
    const on = (network: string): readonly string[] =>
      services.flatMap(([name, { networks = [] }]) => (networks.includes(network) ? [name] : [])).toSorted();
    expect(on('store')).toEqual(['audit', 'migrate', 'postgres', 'signer']);
    expect(on('events')).toEqual(['audit', 'kafka', 'migrate', 'pdp-1', 'pdp-2']);
    expect(compose.networks).toMatchObject({ store: { internal: true }, events: { internal: true } });
  });

  it('gives each program only the secrets that it opens', () => {
    const secrets = (name: string): readonly string[] => (compose.services[name]?.secrets ?? []).toSorted();
    expect(secrets('migrate')).toEqual(['edict.yaml', 'keys.url', 'master.key', 'owner.url']);
    expect(secrets('pdp-1')).toEqual(['audit-ack.vkey', 'edict.yaml', 'mask.key']);
    expect(secrets('audit')).not.toContain('owner.url');
    expect(secrets('audit')).not.toContain('signer.url');
    expect(secrets('signer')).toEqual(['edict.yaml', 'keys.url', 'master.key', 'signer.url']);
  });

  it.each(services.filter(([name]) => name !== 'migrate'))('watches the health of %s', (_name, service) => {
    expect(service.healthcheck?.test).toBeDefined();
  });

  it.each(services)('publishes ports of %s on this machine only', (_name, service) => {
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  it.each(services)('gives %s only secrets that are declared, and none in its environment', (_name, service) => {
    for (const secret of service.secrets ?? []) expect(Object.keys(compose.secrets)).toContain(secret);
    const settings = Object.entries(service.environment ?? {});
    expect(settings.filter(([name]) => /password|secret|token|key/i.test(name) && !name.endsWith('_FILE'))).toEqual([]);
  });
});

describe('npm run compose:secrets', () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-compose-'));
  const makeSecrets = () =>
    execFileSync(process.execPath, ['--import', 'tsx', 'scripts/compose-secrets.ts', folder], {
      cwd: repositoryRoot,
      encoding: 'utf8',
    });
  beforeAll(makeSecrets, 60_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('makes every file that docker-compose.yml mounts, in a folder that only its owner can enter', () => {
    for (const { file } of Object.values(compose.secrets)) {
      expect(file).toMatch(/^\.\/secrets\//);
      expect(existsSync(path.join(folder, path.basename(file)))).toBe(true);
    }
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  it('makes valid settings in which each API key names its caller, and no caller decides and audits', () => {
    const { settings } = loadSettings({ file: path.join(folder, 'edict.yaml'), environment: {} });
    expect(isEmbedded(settings)).toBe(false);
    const authenticate = createAuthenticate(settings.callers);
    for (const [id, role, tenant] of [
      ['gateway', 'decide', 'default'],
      ['auditor', 'audit', 'default'],
      ['operator', 'operate', 'edict'],
      ['system-auditor', 'audit', 'edict'],
    ] as const) {
      const key = readFileSync(path.join(folder, `${id}.api-key`), 'utf8').trim();
      expect(authenticate(`Bearer ${key}`)).toMatchObject({ id, tenant, roles: [role] });
    }
  });

  it('makes a key for acknowledgements that the audit service takes and the decision points trust', () => {
    const stateOf = (name: string) => {
      const { ino, mtimeNs, mode } = statSync(path.join(folder, name), { bigint: true });
      return { name, ino, mtimeNs, mode };
    };
    const before = readdirSync(folder).map(stateOf);
    const { key, verifier } = readAckKey(path.join(folder, 'audit-ack.pem'));
    const line = readFileSync(path.join(folder, 'audit-ack.vkey'), 'utf8');
    expect(parseVkey(line)).toMatchObject({ name: verifier.name, publicKey: key.publicKey });
    // The container mounts it read-only.
    expect(readdirSync(folder).map(stateOf)).toEqual(before);
  });

  it('keeps what is there when it runs again', () => {
    const before = readFileSync(path.join(folder, 'writer.url'), 'utf8');
    makeSecrets();
    expect(readFileSync(path.join(folder, 'writer.url'), 'utf8')).toBe(before);
  });

  it.each([
    [['--help'], 0],
    [['--', '--help'], 1],
    [['-x'], 1],
    [['a', 'b'], 1],
  ])(
    'makes no folder of %j',
    (args, status) => {
      const empty = mkdtempSync(path.join(os.tmpdir(), 'edict-compose-'));
      const script = path.join(repositoryRoot, 'scripts', 'compose-secrets.ts');
      const tsx = path.join(repositoryRoot, 'node_modules', 'tsx', 'dist', 'esm', 'index.mjs');
      const ran = spawnSync(process.execPath, ['--import', tsx, script, ...args], { cwd: empty, encoding: 'utf8' });
      expect(ran.status).toBe(status);
      if (status === 0) expect(ran.stdout).toMatch(/Usage: npm run compose:secrets -- .*\[folder\]/);
      expect(readdirSync(empty)).toEqual([]);
      rmSync(empty, { recursive: true });
    },
    60_000,
  );
});
