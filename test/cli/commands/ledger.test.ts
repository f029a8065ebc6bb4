import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Command } from 'commander';
import { ledgerCommand } from '../../../services/cli/commands/ledger.ts';
import { migrateCommand } from '../../../services/cli/commands/migrate.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

describe('edict migrate and edict ledger create on a real server', () => {
  let folder: string;
  let config: string;
  let ledger: TestDatabase;
  let keys: TestDatabase;

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-cli-'));
    [ledger, keys] = await Promise.all([createTestDatabase(), createTestDatabase()]);
    for (const [name, url] of Object.entries({
      owner: ledger.adminUrl,
      writer: ledger.adminUrl,
      reader: ledger.adminUrl,
      keys: keys.adminUrl,
    }))
      writeFileSync(path.join(folder, `${name}.url`), `${url}\n`);
    writeFileSync(path.join(folder, 'master.key'), randomBytes(32));
    writeFileSync(path.join(folder, 'blind.key'), randomBytes(32));
    config = path.join(folder, 'edict.yaml');
    writeFileSync(
      config,
      `home: home
database: {owner_url_file: owner.url, writer_url_file: writer.url, reader_url_file: reader.url, keys_url_file: keys.url}
audit: {master_key_file: master.key}
ledger: {authority: ledger.example, blind_tenants: true, blind_key_file: blind.key}
`,
    );
  });
  afterAll(async () => {
    await Promise.all([ledger.close(), keys.close()]);
    rmSync(folder, { recursive: true, force: true });
  });

  /** What a command prints, and its exit code. */
  const run = async (command: Command, ...args: readonly string[]) => {
    let output = '';
    const write = process.stdout.write.bind(process.stdout);
    process.stdout.write = (chunk: string | Uint8Array) => {
      output += String(chunk);
      return true;
    };
    try {
      await command.exitOverride().parseAsync([...args, '--config', config, '--json'], { from: 'user' });
      return { code: process.exitCode ?? 0, output: JSON.parse(output) as unknown };
    } finally {
      process.stdout.write = write;
      process.exitCode = undefined;
    }
  };

  it('asks for the migration first', async () => {
    await expect(run(ledgerCommand(), 'create', 'edict')).rejects.toMatchObject({
      code: 'settings_invalid',
      message: expect.stringContaining('edict migrate'),
    });
  });

  it('migrates both databases, again without change', async () => {
    expect(await run(migrateCommand())).toMatchObject({
      code: 0,
      output: {
        migrated: [
          { target: 'ledger', applied: expect.arrayContaining(['0001_ledger.sql']) },
          { target: 'key store', applied: expect.arrayContaining(['0001_payload_keys.sql']) },
        ],
      },
    });
    expect(await run(migrateCommand())).toMatchObject({ output: { migrated: [{ applied: [] }, { applied: [] }] } });
  });

  it('creates a ledger once, with a blinded origin and a key pair', async () => {
    const created = await run(ledgerCommand(), 'create', 'acme');
    expect(created).toMatchObject({
      code: 0,
      output: { ledgers: [{ created: true, origin: expect.stringMatching(/^ledger\.example\/[0-9a-f]{32}\/0\/1$/) }] },
    });
    expect(existsSync(path.join(folder, 'home', 'keys', 'ledger', 'acme-1.pem'))).toBe(true);
    expect(await run(ledgerCommand(), 'create', 'acme')).toMatchObject({
      code: 1,
      output: { ledgers: [{ created: false, incarnation: 1 }] },
    });
    expect(await run(ledgerCommand(), 'create', 'acme', '--new-incarnation')).toMatchObject({
      code: 0,
      output: { ledgers: [{ created: true, incarnation: 2 }] },
    });
  });

  it('refuses what is no tenant name, and a new incarnation of nothing', async () => {
    await expect(run(ledgerCommand(), 'create', '../acme')).rejects.toMatchObject({ code: 'usage' });
    await expect(run(ledgerCommand(), 'create', 'globex', '--new-incarnation')).rejects.toMatchObject({
      code: 'usage',
    });
  });
});
