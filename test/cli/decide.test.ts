import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { createAuthenticate } from '../../services/shared/callers/api-keys.ts';
import type { Caller } from '../../services/shared/settings/schema.ts';
import { REQUEST, startEdge, type Edge } from '../pdp/http/edge.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}
const edict = (...args: readonly string[]): Promise<Run> => edictIn({}, ...args);
const edictIn = (environment: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<Run> =>
  new Promise((resolve) => {
    execFile(
      process.execPath,
      ['--import', 'tsx', 'services/cli/main.ts', ...args],
      { cwd: ROOT, env: { ...process.env, ...environment } },
      (error, stdout, stderr) => resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    );
  });

describe('edict decide', () => {
  let edge: Edge;
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'edict-decide-'));
  });
  afterEach(async () => {
    await edge.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const file = (name: string, content: string): string => {
    const path = join(directory, name);
    writeFileSync(path, content);
    return path;
  };

  it('prints decision and reasons, and exits with 0 for allow, 1 for deny, 2 for neither', async () => {
    edge = await startEdge();
    const request = file('request.json', JSON.stringify(REQUEST));
    const allow = await edict('decide', '-f', request, '--url', edge.url);
    expect(allow.stdout).toMatch(/^allow\n {2}permitted\n/);
    expect(allow.code).toBe(0);
    const bob = file('bob.json', JSON.stringify({ ...REQUEST, subject: { type: 'user', id: 'bob' } }));
    const deny = await edict('decide', '-f', bob, '--url', edge.url, '--json');
    expect(JSON.parse(deny.stdout)).toMatchObject({ decision: 'deny', reasons: [{ code: 'no' }] });
    expect(deny.code).toBe(1);
    const bad = await edict('decide', '-f', file('bad.json', '{}'), '--url', edge.url);
    expect(bad.stdout).toContain('no decision: 400 request_invalid');
    expect(bad.stdout).toContain('/subject');
    expect(bad.code).toBe(2);
    const hostile = file('hostile.json', JSON.stringify({ ...REQUEST, '\u001b[2J\u009b': 1 }));
    for (const format of [[], ['--json']]) {
      const { stdout } = await edict('decide', '-f', hostile, '--url', edge.url, ...format);
      expect(stdout).toContain('\\u001b[2J\\u009b');
      expect(stdout).not.toContain('\u001b');
      expect(stdout).not.toContain('\u009b');
    }
    const nobody = await edict('decide', '-f', request, '--url', 'http://127.0.0.1:1');
    expect(nobody.stderr).toContain('does not answer');
    expect(nobody.code).toBe(2);
  }, 60_000);

  it('asks where the settings say that the decision point listens, unless told otherwise', async () => {
    edge = await startEdge();
    const request = file('request.json', JSON.stringify(REQUEST));
    const { port } = new URL(edge.url);
    const settings = file('edict.yaml', `pdp: { listen: '0.0.0.0:${port}' }\n`);
    const elsewhere = file('elsewhere.yaml', `pdp: { listen: '127.0.0.1:1' }\n`);
    const runs = await Promise.all([
      edict('decide', '-f', request, '--config', settings),
      edictIn({ EDICT_CONFIG: settings }, 'decide', '-f', request),
      edictIn({ EDICT_PDP_LISTEN: `127.0.0.1:${port}` }, 'decide', '-f', request),
      edict('decide', '-f', request, '--config', elsewhere, '--url', edge.url),
    ]);
    expect(runs.map(({ code, stderr }) => [code, stderr])).toEqual(runs.map(() => [0, '']));
    const wrong = await edict('decide', '-f', request, '--config', elsewhere);
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('http://127.0.0.1:1 does not answer')]);
  }, 60_000);

  it('sends the key of a file', async () => {
    edge = await startEdge({ callers: [{}] });
    const request = file('request.json', JSON.stringify(REQUEST));
    const key = file('key', `${edge.keys[0] ?? ''}\n`);
    expect((await edict('decide', '-f', request, '--url', edge.url, '--key-file', key)).code).toBe(0);
    expect((await edict('decide', '-f', request, '--url', edge.url)).stdout).toContain('401');
  }, 60_000);
});

describe('edict keys new', () => {
  it('prints a key once and the settings that know it', async () => {
    const { stdout, code } = await edict('keys', 'new', '--caller', 'gw-1', '--tenant', 'acme', '--role', 'operate');
    expect(code).toBe(0);
    const [key] = /^edict_[a-z0-9]{12}_[A-Za-z0-9_-]{43}$/m.exec(stdout) ?? [];
    const yaml = stdout.slice(stdout.indexOf('callers:'));
    expect(yaml).not.toContain(key?.slice(19));
    const { callers } = parse(yaml) as { readonly callers: readonly Caller[] };
    expect(callers).toMatchObject([{ id: 'gw-1', tenant: 'acme', roles: ['operate'] }]);
    expect(createAuthenticate(callers)(`Bearer ${key ?? ''}`)?.id).toBe('gw-1');
  }, 60_000);

  it('prints JSON, and names what is wrong', async () => {
    const { stdout } = await edict('keys', 'new', '--caller', 'a', '--tenant', 'b', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ caller: { id: 'a', tenant: 'b', roles: ['decide'] } });
    const wrong = await edict('keys', 'new', '--caller', 'a', '--tenant', 'Not A Tenant');
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain('/tenant');
  }, 60_000);
});
