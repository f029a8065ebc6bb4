import { createServer } from 'node:http';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { signCheckpoint } from '../../services/shared/tlog/checkpoint.ts';
import type { Database } from '../../services/audit/core/database.ts';
import { freshIds, ownEntry } from '../../services/audit/core/own-entry.ts';
import { createRecordAccess } from '../../services/audit/core/record-access.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { readTenantLogs } from '../../services/audit/postgres/read-ledger.ts';
import { createAuthenticate, newApiKey } from '../../services/shared/callers/api-keys.ts';
import { listen } from '../../services/shared/runtime/http-server.ts';
import { printable } from '../../services/cli/commands/audit-print.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { repositoryRoot } from '../support/prepared-parts.ts';
import {
  formatVkey,
  generateSigningKey,
  parseVkey,
  signingKeyFromPem,
} from '../../services/shared/contracts/signatures.ts';
import { LEDGER_TEMPLATE, ledgerKeys, openLedger, searchNames, signLedgers } from '../audit/http/ledger-fixture.ts';
import { startAudit, type StartedAudit } from '../audit/http/started-audit.ts';

describe('edict audit', () => {
  let test: TestDatabase;
  let database: Database;
  let audit: StartedAudit;
  let folder: string;
  let keyFile: string;
  let initechKeyFile: string;

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-cli-audit-'));
    keyFile = path.join(folder, 'auditor.key');
    const { key, stored } = newApiKey();
    writeFileSync(keyFile, `${key}\n`);
    test = await createTestDatabase(LEDGER_TEMPLATE);
    database = connectPostgres(test.adminUrl, { poolSize: 4 });
    const { keys, write } = openLedger(database);
    const initech = newApiKey();
    initechKeyFile = path.join(folder, 'initech.key');
    writeFileSync(initechKeyFile, `${initech.key}\n`);
    const authenticate = createAuthenticate(
      [['acme', stored] as const, ['initech', initech.stored] as const].map(([tenant, apiKey]) => ({
        id: `auditor-${tenant}`,
        tenant,
        roles: ['audit'],
        api_keys: [apiKey],
        requires_agent: true,
        believe_unverified: true,
        properties: {},
      })),
    );
    audit = await startAudit({
      database,
      keys,
      reports: database,
      recordAccess: createRecordAccess(write, (tenant) => readTenantLogs(database, tenant)),
      access: () => ({ mode: 'callers', authenticate }),
      nameSubject: searchNames,
    });
  });
  afterAll(async () => {
    await audit.close();
    await database.close();
    await test.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const edict = (...args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
    new Promise((resolve, reject) => {
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', path.join(repositoryRoot, 'services/cli/main.ts'), 'audit', ...args],
        { cwd: repositoryRoot, env: { PATH: process.env['PATH'] } },
      );
      const out = { stdout: '', stderr: '' };
      child.stdout.on('data', (chunk: Buffer) => (out.stdout += chunk.toString('utf8')));
      child.stderr.on('data', (chunk: Buffer) => (out.stderr += chunk.toString('utf8')));
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, ...out }));
    });
  const asAuditor = (command: string, ...args: readonly string[]) =>
    edict(command, '--url', audit.url, '--key-file', keyFile, ...args);

  it('lists who, which agent, what, when, decision and reason', async () => {
    const { code, stdout } = await asAuditor('query', '--table', '--agent', 'analytics-agent');
    expect(code).toBe(0);
    const [header, ...rows] = stdout.trimEnd().split('\n');
    expect(header?.split(/\s+/)).toEqual(['when', 'who', 'agent', 'action', 'resource', 'decision', 'reason', 'id']);
    expect(rows.map((row) => row.split(/\s+/).slice(0, 7))).toEqual([
      ['2026-01-01T00:00:03.000Z', 'bob', 'analytics-agent', 'write', 'hr.salaries', 'deny', 'agent_not_entitled'],
      ['2026-01-01T00:00:02.000Z', 'alice', 'analytics-agent', 'read', 'hr.salaries', 'deny', 'agent_not_entitled'],
    ]);
  }, 30_000);

  it('tells the history of a session, a chain and a resource in order, with everybody through whom it went', async () => {
    const tell = async (...args: readonly string[]) => {
      const told = await edict('query', '--url', audit.url, '--key-file', initechKeyFile, '--table', ...args);
      expect(told.code).toBe(0);
      // Columns are as wide as what stands in them.
      return told.stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.replaceAll(/ {2,}/g, '  '));
    };
    const [head, ...steps] = await tell('--session', 's-9');
    expect(head).toMatch(/^when +who, through whom +action +resource +decision +reason +obligations +id$/);
    expect(steps).toEqual([
      expect.stringMatching(
        /^2026-01-01T00:00:01.000Z {2}alice → planner → researcher → analytics-agent +read +dataset\/hr.salaries +allow +permitted +redact +[-0-9a-f]{36}$/,
      ),
      expect.stringMatching(
        /^2026-01-01T00:00:03.000Z {2}alice → researcher → planner → x → y → z → deep → writer +write +dataset\/a\/b +deny +agent_not_entitled purpose_mismatch +- /,
      ),
    ]);
    expect((await tell('--chain', 'planner,researcher')).slice(1)).toEqual([steps[0]]);
    expect((await tell('--resource', 'dataset/a/b')).slice(1)).toHaveLength(1);
    const files = await tell('--resource', 'file/a/b', '--order', 'newest', '--limit', '1');
    expect(files[1]).toContain('bob → planner');
    const piped = await edict('query', '--url', audit.url, '--key-file', initechKeyFile, '--chain', 'planner');
    const rows = piped.stdout.trimEnd().split('\n');
    expect(rows.map((row) => (JSON.parse(row) as { seq: string }).seq)).toEqual(['1', '2', '3']);
  }, 60_000);

  it('exports into a file of which the ledger has the digest, whole or not at all', async () => {
    const out = path.join(folder, 'chain.csv');
    const asInitech = (...args: readonly string[]) =>
      edict('export', '--url', audit.url, '--key-file', initechKeyFile, ...args);
    const done = await asInitech('--format', 'csv', '--chain', 'planner', '--out', out, '--json');
    const file = readFileSync(out);
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(done.stdout)).toEqual({
      out,
      format: 'csv',
      rows: '3',
      bytes: String(file.length),
      sha256: createHash('sha256').update(file).digest('hex'),
      log: 'audit.example.com/initech/0/1',
      seq: '6',
    });
    expect(statSync(out).mode & 0o777).toBe(0o600);
    const nowhere = await asInitech('--out', path.join(folder, 'nowhere', 'x'));
    expect([nowhere.code, nowhere.stdout]).toEqual([2, '']);
    expect(nowhere.stderr).toContain('--out');
    // A proxy that drops the trailers: the file cannot be compared with the entry.
    const proxy = await listen(
      createServer((request, response) => {
        void fetch(`${audit.url}${request.url}`, {
          headers: { authorization: request.headers.authorization ?? '' },
        }).then(async (answer) => response.end(await answer.text()));
      }),
      { host: '127.0.0.1', port: 0 },
    );
    const dropped = path.join(folder, 'dropped.csv');
    try {
      const doubted = await edict('export', '--url', proxy.url, '--key-file', initechKeyFile, '--out', dropped);
      expect([doubted.code, doubted.stdout]).toEqual([2, '']);
      expect(doubted.stderr).toContain('did not confirm');
      expect(readdirSync(folder).filter((name) => name.startsWith('dropped'))).toEqual([]);
    } finally {
      await proxy.close();
    }
  }, 60_000);

  it('prints one head for all pages', async () => {
    const { stdout } = await asAuditor('query', '--table', '--all', '--limit', '3');
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(9);
    expect(lines.filter((line) => line.startsWith('when'))).toEqual([lines[0]]);
  }, 30_000);

  it('refuses before it verifies what it could not keep, and several tenants with one key', async () => {
    const nowhere = await asAuditor('verify', '--remember', path.join(folder, 'nowhere', 'memory.json'));
    expect(nowhere).toMatchObject({ code: 2, stdout: '' });
    expect(nowhere.stderr).toMatch(/usage: --remember: .* cannot be written \(ENOENT\)/);
    const all = await asAuditor('verify', '--all-tenants');
    expect(all).toMatchObject({ code: 2, stdout: '' });
    expect(all.stderr).toMatch(/usage: --all-tenants/);
  }, 30_000);

  it('escapes what a terminal would obey, as a table and as JSON', async () => {
    const shown = await asAuditor('query', '--table');
    expect(shown.stdout).toContain('carol\\u001b[31m');
    expect(shown.stdout).toContain('a\\u202egent');
    const lines = await asAuditor('query', '--all', '--limit', '3');
    for (const { stdout } of [shown, lines])
      expect(['\u001b', '\u202e'].filter((character) => stdout.includes(character))).toEqual([]);
    const rows = lines.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { seq: string; agent?: string });
    expect(rows.map(({ seq }) => seq)).toEqual(['9', '8', '7', '6', '4', '3', '2', '1']);
    expect(rows[3]?.agent).toBe('a\u202egent');
  }, 30_000);

  it('asks for no more pages once nobody reads what it prints, and ends with 0', async () => {
    let pages = 0;
    const slow = createServer((request, response) => {
      pages += 1;
      // So slow that the closed pipe is noticed between two pages.
      setTimeout(() => audit.app(request, response), 300);
    });
    const slowServer = await listen(slow, { host: '127.0.0.1', port: 0 });
    try {
      const main = path.join(repositoryRoot, 'services/cli/main.ts');
      const options = [
        'audit',
        'query',
        '--url',
        slowServer.url,
        '--key-file',
        keyFile,
        '--ndjson',
        '--all',
        '--limit',
        '1',
      ];
      const child = spawn(process.execPath, ['--import', 'tsx', main, ...options], {
        cwd: repositoryRoot,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let said = '';
      child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
      child.stdout.once('data', () => child.stdout.destroy());
      const code = await new Promise((resolve) => child.once('close', resolve));
      expect([code, said]).toEqual([0, '']);
      expect(pages).toBeLessThan(8);
    } finally {
      await slowServer.close();
    }
  }, 30_000);

  it('shows one event with its entry and its hashes', async () => {
    const { stdout } = await asAuditor('query', '--json', '--limit', '1');
    const { decisions } = JSON.parse(stdout) as { decisions: { decision_id: string }[] };
    const id = decisions[0]?.decision_id ?? '';
    const shown = await asAuditor('show', id);
    expect(shown.code).toBe(0);
    expect(shown.stdout).toContain(`"id": "${id}"`);
    expect(shown.stdout).toMatch(/leaf +[0-9a-f]{64} {2}fits/);
    const missing = await asAuditor('show', '01970000-0000-7000-8000-000000000001');
    expect([missing.code, missing.stdout]).toEqual([2, '']);
    expect(missing.stderr).toContain('has no event');
  }, 30_000);

  it('verifies with exit code 0, and that of its class for an altered row, which it names', async () => {
    const memory = path.join(folder, 'known.json');
    const whole = await asAuditor('verify', '--remember', memory);
    expect(whole.code).toBe(0);
    expect(whole.stdout).toMatch(/integrity +ok {2}\(10 entries, 10 payloads\)/);
    expect(whole.stdout).toMatch(/authenticity +not checked/);
    expect(JSON.parse(readFileSync(memory, 'utf8'))).toMatchObject({
      known: [{ origin: 'audit.example.com/acme/0/1', size: '10' }],
    });
    expect((await asAuditor('verify', '--remember', memory)).stdout).toMatch(/append-only +ok/);
    await database.query("update edict.decision set decision = 'allow' where log_id = 2 and seq = 3");
    const altered = await asAuditor('verify');
    expect(altered.code).toBe(20);
    expect(altered.stdout).toMatch(
      /projection +FAILED.*\n +entry 3: search column decision {2}\(search edited\)\n +expected +"deny"\n +found +"allow"/,
    );
    const json = await asAuditor('verify', '--json');
    expect(json.code).toBe(20);
    expect(JSON.parse(json.stdout)).toMatchObject({
      exit_code: 20,
      reports: [{ verdicts: { projection: { status: 'failed', firstBad: { seq: '3', attack: 'search_edited' } } } }],
    });
  }, 60_000);

  it('verifies signed logs, by the ledger’s word and by keys that the auditor holds', async () => {
    await database.query("update edict.decision set decision = 'deny' where log_id = 2 and seq = 3");
    await signLedgers(database, path.join(folder, 'signer'));
    const vkeyFile = path.join(folder, 'acme.vkey');
    const { publicKey } = signingKeyFromPem(ledgerKeys.get('acme') ?? '');
    writeFileSync(vkeyFile, `${formatVkey('audit.example.com/acme/0/1', publicKey)}\n`);
    const signed = await asAuditor('verify', '--vkey', vkeyFile);
    expect(signed.stdout).toMatch(/authenticity +ok {2}\(.*1 checkpoints\)/);
    expect(signed.stdout).toMatch(/your key +ok {2}signed up to entry 10/);
    expect(signed.code).toBe(0);
    const between = await asAuditor('verify', '--from', '2026-01-01T00:00:02Z', '--to', '2026-01-01T00:00:05Z');
    expect([between.code, between.stdout]).toEqual([
      0,
      expect.stringMatching(
        /Nothing is missing between 2026-01-01T00:00:02.000Z and 2026-01-01T00:00:05.000Z {2}\(3 events of 1 streams\)/,
      ),
    ]);
    expect(await asAuditor('verify', '--from', '2026-01-01T00:00:02Z')).toMatchObject({ code: 2, stdout: '' });
    const memory = path.join(folder, 'places.json');
    expect((await asAuditor('verify', '--remember', memory)).stdout).not.toContain('were verified on');
    const kept = JSON.parse(readFileSync(memory, 'utf8')) as {
      places: { origin: string; size: string; mac: string }[];
    };
    expect(kept.places).toMatchObject([{ origin: 'audit.example.com/acme/0/1', size: '11' }]);
    const since = await asAuditor('verify', '--remember', memory);
    expect([since.code, since.stdout]).toEqual([0, expect.stringMatching(/since +entries 0–10 were verified on 20/)]);
    const full = await asAuditor('verify', '--remember', memory, '--full');
    expect(full.stdout).toMatch(/integrity +ok {2}\(11 entries/);
    const altered = kept.places.map((place) => ({ ...place, mac: '00'.repeat(32) }));
    writeFileSync(memory, JSON.stringify({ ...kept, places: altered }));
    expect((await asAuditor('verify', '--remember', memory)).stdout).toMatch(/integrity +ok {2}\(11 entries/);
    const logUrl = `${audit.url}/log/acme/0/1`;
    const fromTiles = ['verify', '--log-url', logUrl, '--vkey', vkeyFile, '--key-file', keyFile];
    const open = await edict(...fromTiles);
    expect(open.stdout).toMatch(/authenticity +ok {2}\(1 checkpoints\)[^]*integrity +not checked {2}\(11 entries/);
    expect(open.code).toBe(0);
    const { stdout } = await asAuditor('query', '--json', '--limit', '1');
    const id = (JSON.parse(stdout) as { decisions: { decision_id: string }[] }).decisions[0]?.decision_id ?? '';
    expect((await asAuditor('show', id)).stdout).toMatch(/proof +not checked {2}in a tree of 11; --vkey/);
    const proven = await asAuditor('show', id, '--vkey', vkeyFile);
    expect([proven.code, proven.stdout]).toEqual([
      0,
      expect.stringMatching(/proof +good {2}entry 9 of the 11 that your key signed/),
    ]);
    const other = generateSigningKey().key.publicKey;
    writeFileSync(vkeyFile, `${formatVkey('audit.example.com/acme/0/1', other)}\n`);
    const foreign = await asAuditor('verify', '--vkey', vkeyFile);
    expect(foreign.stdout).toMatch(/your key +FAILED {2}the checkpoint was not signed with this key/);
    expect(foreign.code).toBe(25);
    expect(await asAuditor('show', id, '--vkey', vkeyFile)).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/proof +NONE {2}the checkpoint was not signed with this key/) as string,
    });
    writeFileSync(vkeyFile, `${formatVkey('audit.example.com/other/0/1', other)}\n`);
    expect((await asAuditor('verify', '--vkey', vkeyFile)).stdout).toContain('no --vkey is of');
    writeFileSync(vkeyFile, 'none');
    expect(await asAuditor('verify', '--vkey', vkeyFile)).toMatchObject({ code: 2, stdout: '' });
  }, 480_000);

  it('has the newest checkpoint, and that it continues the one that is held', async () => {
    const vkeyFile = path.join(folder, 'own.vkey');
    const held = path.join(folder, 'acme.checkpoint');
    const { publicKey } = signingKeyFromPem(ledgerKeys.get('acme') ?? '');
    writeFileSync(vkeyFile, `${formatVkey('audit.example.com/acme/0/1', publicKey)}\n`);
    const first = await asAuditor('checkpoint', '--vkey', vkeyFile, '--hold', held);
    expect(first).toMatchObject({ code: 0, stdout: readFileSync(held, 'utf8') });
    expect(first.stdout).toMatch(/^audit\.example\.com\/acme\/0\/1\n11\n/);
    await openLedger(database).write(({ append }) =>
      append({ id: 2, tenant: 'acme', origin: 'audit.example.com/acme/0/1' }, [
        ownEntry('acme', 'alert', { alert: 'of a test' }, freshIds()),
      ]),
    );
    await signLedgers(database, path.join(folder, 'signer'));
    const second = await asAuditor('checkpoint', '--vkey', vkeyFile, '--hold', held);
    expect(second).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(
        /^continues the checkpoint of size 11\nno --policy: witnesses were not asked about/,
      ) as string,
    });
    expect(readFileSync(held, 'utf8')).toBe(second.stdout);
    // Somebody takes the newest one away: what is left is good in itself, and less than what the auditor holds.
    await database.query(
      'alter table edict.checkpoint disable trigger all; delete from edict.checkpoint where log_id = 2 and size = 13',
    );
    expect(await asAuditor('checkpoint', '--vkey', vkeyFile, '--hold', held)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: '! the log has 11 signed entries; you hold a checkpoint of 13\n',
    });
    const key = signingKeyFromPem(ledgerKeys.get('acme') ?? '');
    const verifier = parseVkey(formatVkey('audit.example.com/acme/0/1', key.publicKey));
    const forked = { origin: 'audit.example.com/acme/0/1', size: 10n, root: Buffer.alloc(32) };
    writeFileSync(held, signCheckpoint(forked, key, verifier));
    const broken = await asAuditor('checkpoint', '--vkey', vkeyFile, '--hold', held, '--json');
    expect(broken.code).toBe(1);
    expect(JSON.parse(broken.stdout)).toMatchObject({
      size: '11',
      continues: null,
      problem: 'the tree of size 11 does not begin with the one of size 10 that you hold',
    });
    writeFileSync(held, 'none');
    expect((await asAuditor('checkpoint', '--vkey', vkeyFile, '--hold', held)).code).toBe(2);
  }, 480_000);

  it('exports evidence that verifies without any service, and not when a byte of it was changed', async () => {
    const file = path.join(folder, 'evidence.tar');
    const exported = await asAuditor('export', '--format', 'bundle', '-o', file);
    expect(exported).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/: 11 entries, \d+ bytes\nsha256/) as string,
    });
    const vkeyFile = path.join(folder, 'evidence.vkey');
    const { publicKey } = signingKeyFromPem(ledgerKeys.get('acme') ?? '');
    writeFileSync(vkeyFile, `${formatVkey('audit.example.com/acme/0/1', publicKey)}\n`);
    const good = await edict('verify', '--file', file, '--vkey', vkeyFile);
    expect(good.stdout).toMatch(/authenticity +ok.*\n +signed with the key that you hold/);
    expect(good.stdout).toMatch(/completeness +ok/);
    expect(good.stdout).toContain(createHash('sha256').update(readFileSync(file)).digest('hex'));
    expect(good).toMatchObject({ code: 0, stderr: '' });
    const bytes = readFileSync(file);
    bytes[bytes.indexOf('"payload":"') + 20] = 0x41;
    writeFileSync(file, bytes);
    const bad = await edict('verify', '--file', file, '--json');
    expect(bad.code).toBe(1);
    expect(JSON.parse(bad.stdout)).toMatchObject({
      about: { by: 'auditor-acme', access: { log: 'audit.example.com/acme/0/1', begun: '13' } },
      report: { verdicts: { integrity: { status: 'failed' }, authenticity: { status: 'not_checked' } } },
    });
    expect(await asAuditor('verify', '--file', file)).toMatchObject({ code: 2, stdout: '' });
  }, 120_000);

  it('ends with 2 for a wrong option, a foreign tenant, a missing key and a service that is not there', async () => {
    expect((await asAuditor('query', '--nonsense')).code).toBe(2);
    const foreign = await asAuditor('query', '--tenant', 'globex');
    expect([foreign.code, foreign.stdout]).toEqual([2, '']);
    expect((await edict('query', '--url', audit.url)).stderr).toMatch(/usage: .*401/);
    const bad = await asAuditor('query', '--limit', '501');
    expect(bad.code).toBe(2);
    expect(bad.stderr).toContain('limit: ');
    const gone = await edict('verify', '--url', 'http://127.0.0.1:9');
    expect([gone.code, gone.stderr]).toEqual([2, expect.stringContaining('no audit service answers')]);
  }, 60_000);
});

describe('printable', () => {
  it('leaves letters of all languages, and escapes what moves or hides', () => {
    expect(printable('Grüße, 世界 🎉')).toBe('Grüße, 世界 🎉');
    expect(printable('a\u001b]0;x\u0007b\r\n\u009b\u202e\u2028\\\ud800')).toBe(
      'a\\u001b]0;x\\u0007b\\u000d\\u000a\\u009b\\u202e\\u2028\\\\\\ud800',
    );
  });
});
