import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { childrenOf } from '../support/child-process.ts';
import { healthOf } from '../support/edict-process.ts';
import { freePorts } from '../support/free-ports.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

interface Running {
  readonly child: ChildProcess;
  readonly exited: Promise<{ readonly code: number | null; readonly tookMs: number }>;
  /** What it has said so far. */
  readonly said: () => string;
  readonly signal: (signal: NodeJS.Signals) => void;
}

const serve = (service: string, configFile: string): Running => {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', 'services/cli/main.ts', 'serve', service, '--config', configFile],
    { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let text = '';
  let signalledAt = Date.now();
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
  return {
    child,
    exited: once(child, 'exit').then(([code]) => ({ code: code as number | null, tookMs: Date.now() - signalledAt })),
    said: () => text,
    signal: (signal) => {
      signalledAt = Date.now();
      child.kill(signal);
    },
  };
};

const until = async (isSo: () => boolean, what: () => string): Promise<void> => {
  for (const deadline = Date.now() + 60_000; !isSo(); await sleep(20))
    if (Date.now() > deadline) throw new Error(`did not happen: ${what()}`);
};

describe('edict serve all, when nobody reads what it prints any more', () => {
  it('goes on serving, and stops cleanly', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'edict-serve-all-'));
    const [pdpPort, auditPort] = await freePorts(2);
    const file = path.join(folder, 'edict.yaml');
    writeFileSync(
      file,
      JSON.stringify({
        home: 'home',
        pdp: { listen: `127.0.0.1:${pdpPort}` },
        audit: { listen: `127.0.0.1:${auditPort}` },
      }),
    );
    const { child, said, exited, signal } = serve('all', file);
    try {
      await until(() => said() !== '', said);
      // What `| head -1` does.
      child.stdout?.destroy();
      const isReady = async (port: number | undefined): Promise<boolean> =>
        (await healthOf(`http://127.0.0.1:${port}`, 'ready'))?.status === 200;
      for (const deadline = Date.now() + 90_000; !((await isReady(pdpPort)) && (await isReady(auditPort)));) {
        if (child.exitCode !== null || Date.now() > deadline) throw new Error(`not ready: ${said()}`);
        await sleep(100);
      }
      // The banner is written when both are up, and a supervisor that falls takes the services along.
      await sleep(1_500);
      expect(await isReady(pdpPort)).toBe(true);
      expect(await isReady(auditPort)).toBe(true);
      signal('SIGTERM');
      expect((await exited).code).toBe(0);
      expect(said()).not.toContain('EPIPE');
    } finally {
      child.kill('SIGTERM');
      await exited;
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    }
  }, 150_000);
});

describe('edict serve all, with several workers', () => {
  it('leaves no process behind when it is killed', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'edict-serve-workers-'));
    const [pdpPort, auditPort] = await freePorts(2);
    const file = path.join(folder, 'edict.yaml');
    writeFileSync(
      file,
      JSON.stringify({
        home: 'home',
        pdp: { listen: `127.0.0.1:${pdpPort}`, workers: 2 },
        audit: { listen: `127.0.0.1:${auditPort}` },
      }),
    );
    const { child, said, exited } = serve('all', file);
    const below = (pid: number): readonly number[] => childrenOf(pid).flatMap((each) => [each, ...below(each)]);
    try {
      for (const deadline = Date.now() + 90_000; ;) {
        if ((await healthOf(`http://127.0.0.1:${pdpPort}`, 'ready'))?.status === 200) break;
        if (child.exitCode !== null || Date.now() > deadline) throw new Error(`not ready: ${said()}`);
        await sleep(100);
      }
      const pids = below(child.pid ?? 0);
      // The audit service, the primary and its two workers, where the kernel tells.
      if (process.platform === 'linux') expect(pids.length).toBeGreaterThanOrEqual(4);
      child.kill('SIGKILL');
      await exited;
      await until(() => pids.every((pid) => !existsSync(`/proc/${pid}`)), said);
      expect(readdirSync(path.join(folder, 'home', 'emitters')).toSorted()).toEqual(['0', '1']);
    } finally {
      child.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    }
  }, 150_000);
});

describe('edict serve audit, stopped before it listens', () => {
  let folder: string;
  let running: Running | undefined;
  let silentServer: Server | undefined;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'edict-serve-'));
  });
  afterEach(() => {
    running?.child.kill('SIGKILL');
    silentServer?.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  const configure = (settings: Readonly<Record<string, unknown>>): string => {
    const file = path.join(folder, 'edict.yaml');
    writeFileSync(file, JSON.stringify({ home: 'home', ...settings }));
    return file;
  };
  const secret = (name: string, content: Uint8Array | string): string => {
    writeFileSync(path.join(folder, name), content);
    return name;
  };
  const withDatabase = (port: number): string => {
    const url = secret('url', `postgres://edict@127.0.0.1:${port}/ledger`);
    return configure({
      audit: { listen: '127.0.0.1:0', master_key_file: secret('master.key', Buffer.alloc(32, 7)) },
      database: { writer_url_file: url, reader_url_file: url, keys_url_file: url },
      ledger: { authority: 'test.example' },
    });
  };

  it('ends at once with 0 while it waits for a database that refuses', async () => {
    running = serve('audit', withDatabase(1));
    const { said, exited, signal } = running;
    await until(() => said().includes('does not answer yet'), said);
    signal('SIGTERM');
    const { code, tookMs } = await exited;
    expect(tookMs).toBeLessThan(4_000);
    expect(code).toBe(0);
    expect(said()).not.toContain('edict: ');
  }, 90_000);

  it('ends at once with 0 while it waits for a database that is silent', async () => {
    let hasConnection = false;
    silentServer = createServer(() => {
      hasConnection = true;
    });
    silentServer.listen(0, '127.0.0.1');
    await once(silentServer, 'listening');
    running = serve('audit', withDatabase((silentServer.address() as AddressInfo).port));
    const { said, exited, signal } = running;
    await until(() => hasConnection, said);
    signal('SIGTERM');
    const { code, tookMs } = await exited;
    expect(tookMs).toBeLessThan(4_000);
    expect(code).toBe(0);
  }, 90_000);

  it('gives up making the embedded database, and leaves nothing behind that the next start minds', async () => {
    const file = configure({ audit: { listen: '127.0.0.1:0' } });
    running = serve('audit', file);
    const made = path.join(folder, 'home', 'database.new');
    await until(() => existsSync(made) && readdirSync(made).length > 0, running.said);
    running.signal('SIGINT');
    const { code, tookMs } = await running.exited;
    expect(tookMs).toBeLessThan(5_000);
    expect(code).toBe(0);
    expect(running.said()).not.toContain('audit service listens');
    expect(existsSync(path.join(folder, 'home', 'keys', 'ledger'))).toBe(false);

    running = serve('audit', file);
    const { said, exited, signal } = running;
    await until(() => said().includes('audit service listens'), said);
    signal('SIGTERM');
    expect((await exited).code).toBe(0);
  }, 150_000);
});
