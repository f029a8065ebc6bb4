// Makes the secret files that docker-compose.yml mounts: passwords, database URLs, keys, and the settings file with its
// callers. Existing files are kept, so that running it again changes nothing.
// Usage: npm run compose:secrets [-- FOLDER], which is ./secrets when left out
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { stringify } from 'yaml';
import { newApiKey } from '../services/shared/callers/api-keys.ts';
import { SYSTEM_TENANT } from '../services/shared/contracts/tenant.ts';
import { formatVkey, generateSigningKey } from '../services/shared/contracts/signatures.ts';
import { loadSettings } from '../services/shared/settings/settings.ts';

const program = new Command('npm run compose:secrets --')
  .description('Makes the secret files that docker-compose.yml mounts; existing ones are kept.')
  .argument('[folder]', 'where to', path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', 'secrets'))
  .parse();
const [folder = ''] = program.processedArgs as readonly string[];
// After `--` everything is an argument; a misspelt option must not become a folder of keys.
if (folder === '' || folder.startsWith('-')) program.error(`${JSON.stringify(folder)} is no name for a folder`);

/** A login of scripts/compose/postgres-init.sh, and the database it uses. */
const logins = [
  { name: 'migrator', urlFile: 'owner.url', database: 'edict' },
  { name: 'writer', urlFile: 'writer.url', database: 'edict' },
  { name: 'reader', urlFile: 'reader.url', database: 'edict' },
  { name: 'signer', urlFile: 'signer.url', database: 'edict' },
  { name: 'keys', urlFile: 'keys.url', database: 'edict_keys' },
] as const;

/**
 * One key for each side: whoever asks for decisions cannot read the ledger, and the other way round. Emitters are retired
 * by an operator of the system tenant, whose ledger has an auditor of its own.
 */
const CALLERS = [
  { id: 'gateway', tenant: 'default', roles: ['decide'] },
  { id: 'auditor', tenant: 'default', roles: ['audit'] },
  { id: 'operator', tenant: SYSTEM_TENANT, roles: ['operate'] },
  { id: 'system-auditor', tenant: SYSTEM_TENANT, roles: ['audit'] },
] as const;

const settings = (storedApiKeys: ReadonlyMap<string, string>) => ({
  home: '/var/lib/edict',
  pdp: { listen: '0.0.0.0:7180' },
  audit: {
    listen: '0.0.0.0:7181',
    ack_key_file: 'audit-ack.pem',
    ack_vkey_files: ['audit-ack.vkey'],
    master_key_file: 'master.key',
  },
  // One broker only.
  kafka: { brokers: ['kafka:9092'], replication: 1 },
  database: {
    owner_url_file: 'owner.url',
    writer_url_file: 'writer.url',
    reader_url_file: 'reader.url',
    signer_url_file: 'signer.url',
    keys_url_file: 'keys.url',
  },
  ledger: { authority: 'edict.example' },
  tenants: { default: { mask_key_file: 'mask.key' } },
  callers: CALLERS.map(({ id, tenant, roles }) => ({ id, tenant, roles, api_keys: [storedApiKeys.get(id)] })),
});

/** A container's user is not the user of this machine, so the files are readable to all, and the folder to nobody. */
function write(name: string, content: string | Uint8Array): void {
  const file = path.join(folder, name);
  writeFileSync(file, content, { flag: 'wx' });
  chmodSync(file, 0o444);
}

function makeSecrets(): void {
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o700);
  if (existsSync(path.join(folder, 'edict.yaml'))) {
    process.stdout.write(`${folder} is complete; nothing was changed\n`);
    return;
  }
  const left = readdirSync(folder);
  if (left.length > 0) {
    // Half of a set would not fit a database that was made with another.
    process.stderr.write(`${folder} holds files but no edict.yaml: remove it first (${left.join(', ')})\n`);
    process.exitCode = 1;
    return;
  }
  write('postgres_admin_password', randomBytes(32).toString('base64url'));
  for (const { name, urlFile, database } of logins) {
    const password = randomBytes(32).toString('base64url');
    write(`postgres_${name}_password`, password);
    write(urlFile, `postgres://ledger_${name}:${password}@postgres:5432/${database}\n`);
  }
  // A Kafka cluster id: 16 random bytes, of which none may make it begin with a dash.
  write('kafka_cluster_id', Buffer.concat([Buffer.from([0x4d]), randomBytes(15)]).toString('base64url'));
  write('master.key', randomBytes(32));
  write('mask.key', randomBytes(32));
  const ack = generateSigningKey();
  write('audit-ack.pem', ack.pem);
  write('audit-ack.vkey', `${formatVkey('edict.example/ack', ack.key.publicKey)}\n`);
  const stored = new Map<string, string>();
  for (const { id } of CALLERS) {
    const apiKey = newApiKey();
    write(`${id}.api-key`, `${apiKey.key}\n`);
    stored.set(id, apiKey.stored);
  }
  // Last: it says that the set is complete.
  write('edict.yaml', stringify(settings(stored)));
  loadSettings({ file: path.join(folder, 'edict.yaml'), environment: {} });
  process.stdout.write(
    `${folder} is complete; the API keys are in its files ${CALLERS.map(({ id }) => `${id}.api-key`).join(', ')}\n`,
  );
}

makeSecrets();
