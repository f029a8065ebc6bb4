import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startWitness, type RunningWitness } from '../../services/witness/main.ts';
import { isObject } from '../../services/shared/contracts/json.ts';
import { MAX_ADD_CHECKPOINT_BYTES } from '../../services/shared/tlog/add-checkpoint.ts';
import { openCosignatures, parseWitnessVkey } from '../../services/shared/tlog/cosignature.ts';
import { silent } from '../audit/ingest/fixtures.ts';
import { spawnLogged, stopChild, tailOf, type LoggedChild } from '../support/child-process.ts';
import { edictMain, healthOf, runEdict } from '../support/edict-process.ts';
import { freePort } from '../support/free-ports.ts';
import { createTestLog } from './test-log.ts';

const log = createTestLog('log.example/main');
let folder: string;
let vkeyFile: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'edict-witness-main-'));
  vkeyFile = path.join(folder, 'log.vkey');
  writeFileSync(vkeyFile, `${log.vkey}\n`);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const post = (url: string, body: Buffer | string, method = 'POST'): Promise<Response> =>
  fetch(`${url}/add-checkpoint`, method === 'GET' ? {} : { method, body: new Uint8Array(Buffer.from(body)) });

describe('a witness over HTTP', () => {
  let witness: RunningWitness;
  beforeAll(async () => {
    const options = { logFiles: [vkeyFile], folder: path.join(folder, 'http'), listen: '127.0.0.1:0' };
    witness = await startWitness(options, { logger: silent });
  });
  afterAll(() => witness.close());

  it('shows nothing of a log before the first checkpoint', async () => {
    const shown: unknown = await (await fetch(`${witness.url}/logs`)).json();
    expect(shown).toEqual({ vkey: witness.vkey, logs: [{ origin: log.origin, checkpoint: null }] });
  });

  it('cosigns one of many histories that come at once, and shows it', async () => {
    const histories = Array.from({ length: 20 }, (_, n) => `history ${n}`);
    const answers = await Promise.all(
      histories.map(async (history) => (await post(witness.url, await log.request(0, 7, history))).status),
    );
    expect(answers.toSorted((a, b) => a - b)).toEqual([200, ...Array.from({ length: 19 }, () => 409)]);
    const shown: unknown = await (await fetch(`${witness.url}/logs`)).json();
    const [first] = isObject(shown) && Array.isArray(shown['logs']) ? (shown['logs'] as readonly unknown[]) : [];
    const checkpoint = isObject(first) ? String(first['checkpoint']) : '';
    const cosigned = histories[answers.indexOf(200)];
    expect(checkpoint.startsWith(log.note(7, cosigned).toString('utf8'))).toBe(true);
    expect(openCosignatures(Buffer.from(checkpoint), [parseWitnessVkey(witness.vkey)])).toHaveLength(1);
    const other = histories.find((history) => history !== cosigned);
    expect((await post(witness.url, await log.request(7, 7, other))).status).toBe(422);
    const metrics = await (await fetch(`${witness.url}/metrics`)).text();
    expect(metrics).toMatch(/edict_witness_requests_total\{[^}]*status="200"[^}]*\} 1\n/);
    expect(metrics).toMatch(/edict_witness_forks_total\{[^}]*\} 1\n/);
  });

  it.each([
    ['a body longer than any request', 'POST', Buffer.alloc(MAX_ADD_CHECKPOINT_BYTES + 1), 413],
    ['no body', 'POST', '', 400],
    ['another method', 'GET', '', 405],
  ] as const)('refuses %s', async (_name, method, body, status) => {
    const response = await post(witness.url, body, method);
    expect(response.status).toBe(status);
    expect(response.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
    expect(await response.json()).toMatchObject({ status });
  });

  it('says that it is ready, and knows no other path', async () => {
    expect((await fetch(`${witness.url}/health/ready`)).status).toBe(200);
    expect((await fetch(`${witness.url}/health/live`)).status).toBe(200);
    expect((await fetch(`${witness.url}/`)).status).toBe(404);
  });
});

describe('edict witness', () => {
  const state = (): string => path.join(folder, 'process');
  const logFile = (): string => path.join(folder, 'witness.log');
  const start = async (url: string): Promise<LoggedChild> => {
    const args = [edictMain(), 'witness', '--log', vkeyFile, '--state', state(), '--listen', new URL(url).host];
    const child = await spawnLogged(process.execPath, args, { cwd: folder, logFile: logFile() });
    for (const deadline = Date.now() + 30_000; (await healthOf(url, 'ready'))?.status !== 200; await sleep(20))
      if (child.hasExited() || Date.now() > deadline) throw new Error(`did not start:\n${tailOf(logFile())}`);
    return child;
  };

  it('forgets nothing when it is killed, and ends in good order on SIGTERM', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const killed = await start(url);
    expect((await post(url, await log.request(0, 5))).status).toBe(200);
    expect((await post(url, await log.request(5, 8))).status).toBe(200);
    await stopChild(killed, 0, 'SIGKILL');
    const again = await start(url);
    const stale = await post(url, await log.request(5, 9, 'b'));
    expect([stale.status, await stale.text()]).toEqual([409, '8\n']);
    expect((await post(url, await log.request(8, 9))).status).toBe(200);
    const second = await runEdict(['witness', '--log', vkeyFile, '--state', state(), '--listen', '127.0.0.1:0']);
    expect(second).toMatchObject({ code: 2, stderr: expect.stringContaining('another witness works in it') });
    expect(await stopChild(again, 20_000)).toEqual({ code: 0, signal: null });
  }, 60_000);

  it('asks for what it needs', async () => {
    const { code, stderr } = await runEdict(['witness', '--state', path.join(folder, 'x')]);
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringMatching(/required option '--log/) });
  });

  it.each([
    ['with a file that is not there', { logFiles: ['nowhere'] }, 'usage', /ENOENT/],
    ['with a file of something else', { logFiles: [edictMain()] }, 'usage', /malformed/],
    ['with no log at all', { logFiles: [] }, 'usage', /no file holds/],
    ['with a port that is none', { listen: '127.0.0.1:70000' }, 'settings_invalid', /the port/],
    ['on an address of others', { listen: '192.0.2.1:0' }, 'settings_invalid', /cannot listen/],
  ])('does not start %s', async (_name, options, code, said) => {
    const good = { logFiles: [vkeyFile], folder: path.join(folder, 'refused'), listen: '127.0.0.1:0' };
    const refused = startWitness({ ...good, ...options }, { logger: silent });
    await expect(refused).rejects.toMatchObject({ code, message: expect.stringMatching(said) });
    // It gives the folder back.
    await (await startWitness(good, { logger: silent })).close();
  });
});
