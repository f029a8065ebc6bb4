import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { packArchive } from '../../../services/shared/bundles/pack-archive.ts';
import { findOpa } from '../../../services/cli/opa-binary.ts';
import {
  startActivePolicy,
  type ActivePolicy,
  type ActivePolicyOptions,
} from '../../../services/pdp/policy/active-policy.ts';
import { requestBundle, type BundleServer } from '../../../services/pdp/policy/bundle-request.ts';
import { createBundleStore } from '../../../services/pdp/policy/bundle-store.ts';
import { backoffMs, type HttpSourceOptions } from '../../../services/pdp/policy/http-source.ts';
import { bundleSources } from '../../../services/pdp/policy/source-settings.ts';
import { issueCertificate } from '../../support/certificates.ts';
import { freePort } from '../../support/free-ports.ts';
import { startBundleServer, type BundleServerFixture, type BundleServerOptions } from './bundle-server.ts';
import { answering, inputFor, makeBundle } from './make-bundles.ts';

const NEVER_MS = 3_600_000;
const NOW_MS = 1_767_225_600_000;

let folder: string;
const servers: BundleServerFixture[] = [];
const policies: ActivePolicy[] = [];
const bundles = new Map<number, Uint8Array>();

const bundleOf = async (serial: number): Promise<Uint8Array> => {
  const made = bundles.get(serial) ?? (await makeBundle({ rego: answering(`serial_${serial}`), serial }));
  bundles.set(serial, made);
  return made;
};
const serve = async (options: BundleServerOptions = {}): Promise<BundleServerFixture> => {
  const server = await startBundleServer(options);
  servers.push(server);
  server.publish(await bundleOf(1));
  return server;
};
const optionsOf = (url: string, more: Partial<HttpSourceOptions> = {}): HttpSourceOptions => ({
  url,
  bearerTokenFile: undefined,
  tls: {},
  followRedirects: false,
  timeoutMs: 5_000,
  maxBytes: 1024 * 1024,
  pollMs: 40,
  longPollMs: undefined,
  ...more,
});
const start = async (
  url: string,
  more: Partial<HttpSourceOptions> = {},
  options: Partial<ActivePolicyOptions> = {},
): Promise<ActivePolicy> => {
  const policy = await startActivePolicy({
    bundles: [{ http: optionsOf(url, more) }],
    pollMs: NEVER_MS,
    nowMs: Date.now,
    ...options,
  });
  policies.push(policy);
  return policy;
};
const codeOf = (policy: ActivePolicy): string | undefined => {
  const result = policy.current('acme')?.evaluate(JSON.stringify(inputFor()), NOW_MS);
  return result?.outcome === 'answer' ? result.value.reasons[0]?.code : undefined;
};
/** Ends, so that a failed test shows and does not hang the run. */
const until = async (isTrue: () => boolean): Promise<void> => {
  for (const startMs = Date.now(); !isTrue(); await delay(5))
    if (Date.now() - startMs > 20_000) throw new Error(`did not happen: ${String(isTrue)}`);
};
const remoteOf = (policy: ActivePolicy) => policy.status()[0]!.remotes[0]!;

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'edict-http-'));
});
afterEach(async () => {
  for (const policy of policies.splice(0)) await policy.close();
  for (const server of servers.splice(0)) await server.close();
  await rm(folder, { recursive: true, force: true });
});

describe('a bundle server', () => {
  it('is asked with the ETag of what is here, and gives a new version by itself', async () => {
    const server = await serve();
    const policy = await start(server.url);
    expect(codeOf(policy)).toBe('serial_1');
    await until(() => server.seen.length > 3);
    const [first, second] = server.seen;
    expect(first).toMatchObject({ url: '/bundles/test.tar.gz', etag: undefined, prefer: 'modes=snapshot' });
    expect(second?.etag).toBe(remoteOf(policy).etag);
    expect(policy.status()[0]).toMatchObject({ activations: 1, failed: undefined });
    server.publish(await bundleOf(2));
    await until(() => codeOf(policy) === 'serial_2');
    expect(policy.status()[0]?.sources).toEqual([server.url]);
  });

  it('that waits is asked again at once, and a new version is here without a pause', async () => {
    const server = await serve({ longPolling: true });
    const policy = await start(server.url, { pollMs: NEVER_MS, longPollMs: 60_000 });
    await until(() => server.seen.length === 2);
    expect(server.seen[1]).toMatchObject({ prefer: 'modes=snapshot,delta;wait=60', etag: remoteOf(policy).etag });
    for (const serial of [2, 3]) {
      server.publish(await bundleOf(serial));
      await until(() => codeOf(policy) === `serial_${serial}`);
    }
    expect(remoteOf(policy)).toMatchObject({ longPolling: true, failures: 0 });
  });

  it('that does not wait although it is asked to, is not asked without pauses', async () => {
    const server = await serve({ longPolling: true });
    const policy = await start(server.url, { pollMs: NEVER_MS, longPollMs: 60_000 });
    server.instead((_request, response) => response.writeHead(304).end());
    server.publish(await bundleOf(2));
    await until(() => server.seen.length >= 3);
    await delay(200);
    expect(server.seen.length).toBeLessThanOrEqual(4);
    await policy.close();
    // A plain file server is polled, whatever the settings ask.
    const plain = await serve();
    const polled = await start(plain.url, { longPollMs: 60_000 });
    await until(() => plain.seen.length > 2);
    expect(plain.seen.at(-1)?.prefer).toBe('modes=snapshot,delta');
    expect(remoteOf(polled).longPolling).toBe(false);
  });

  it('that fails is asked less and less, shows, and what is active goes on', async () => {
    const server = await serve();
    const policy = await start(server.url, { pollMs: 20 });
    server.instead((_request, response) => response.writeHead(503).end('down'));
    await until(() => remoteOf(policy).failures > 0);
    await policy.refresh();
    await policy.refresh();
    expect(policy.status()[0]?.failed).toMatchObject({
      code: 'upstream_unavailable',
      message: `${server.url}: status 503`,
    });
    expect(codeOf(policy)).toBe('serial_1');
    server.instead((_request, response) => response.writeHead(401).end());
    await until(() => remoteOf(policy).error?.includes('401') === true);
    expect(remoteOf(policy).error).toBe(`${server.url}: status 401; no bearer_token_file is set`);
    server.instead(undefined);
    await until(() => policy.status()[0]?.failed === undefined);
    expect(policy.status()[0]).toMatchObject({ activations: 1, failures: 1 });
    expect([1, 2, 3, 8, 50].map(backoffMs)).toEqual([500, 1_000, 2_000, 60_000, 60_000]);
  });

  it('that is down at a restart is not needed, and need not send again what is here', async () => {
    const server = await serve();
    const storeOf = () => createBundleStore(path.join(folder, 'kept'));
    const first = await start(server.url, {}, { storeOf });
    await first.close();
    server.instead((_request, response) => response.writeHead(500).end());
    const second = await start(server.url, {}, { storeOf });
    expect(codeOf(second)).toBe('serial_1');
    expect(second.status()[0]?.active?.restored).toBe(true);
    server.instead(undefined);
    const before = server.seen.length;
    await until(() => second.status()[0]?.active?.restored === false);
    expect(server.seen.slice(before).every(({ etag }) => etag !== undefined)).toBe(true);
    expect(second.status()[0]).toMatchObject({ activations: 1, failed: undefined });
  });

  it('confirms a set for as long as it says "not modified", and no longer', async () => {
    const server = await serve();
    const staleness = { maxMs: 2_000, whenStale: 'deny' } as const;
    const policy = await start(server.url, { pollMs: 20 }, { staleness, pollMs: 10 });
    await delay(3_000);
    expect(policy.current('acme')?.freshness(Date.now()).state).toBe('fresh');
    server.instead((request) => request.socket.destroy());
    await until(() => policy.current('acme')?.freshness(Date.now()).state === 'stale');
    expect(policy.status()[0]?.failed?.code).toBe('upstream_unavailable');
  });

  it('serves what is refused as any other source', async () => {
    const server = await serve();
    const policy = await start(server.url, { pollMs: 20 }, { pollMs: 10 });
    server.publish(gzipSync('no bundle'));
    await until(() => policy.status()[0]?.failed !== undefined);
    expect(policy.status()[0]?.failed).toMatchObject({ code: 'bundle_invalid' });
    expect(policy.status()[0]?.failed?.message).toContain(server.url);
    server.publish(await bundleOf(2));
    await until(() => codeOf(policy) === 'serial_2');
  });
});

describe('who asks a bundle server', () => {
  it('shows a token that is read again each time', async () => {
    const server = await serve({ token: 'second' });
    const bearerTokenFile = path.join(folder, 'token');
    await writeFile(bearerTokenFile, 'first\n');
    const policy = await start(server.url, { bearerTokenFile });
    expect(policy.current('acme')).toBeUndefined();
    await writeFile(bearerTokenFile, 'second\n');
    await until(() => codeOf(policy) === 'serial_1');
    expect(server.seen.at(-1)?.authorization).toBe('Bearer second');
    await writeFile(bearerTokenFile, 'a\r\nx-evil: 1');
    await until(() => remoteOf(policy).failures > 0);
    expect(remoteOf(policy).error).toContain('holds no bearer token');
  });

  it('trusts the authority of the settings only, and shows its certificate', async () => {
    const authority = issueCertificate('authority');
    const [ofServer, ofClient] = [issueCertificate('server', authority), issueCertificate('client', authority)];
    const server = await serve({
      tls: { cert: ofServer.cert, key: ofServer.key, ca: authority.cert, requestCert: true, rejectUnauthorized: true },
    });
    const files = { caFile: 'ca.pem', certFile: 'cert.pem', keyFile: 'key.pem' };
    const at = Object.fromEntries(Object.entries(files).map(([name, file]) => [name, path.join(folder, file)]));
    await writeFile(path.join(folder, 'ca.pem'), authority.cert);
    await writeFile(path.join(folder, 'cert.pem'), ofClient.cert);
    await writeFile(path.join(folder, 'key.pem'), ofClient.key);
    expect(codeOf(await start(server.url, { tls: at }))).toBe('serial_1');
    expect(server.seen[0]?.isKnown).toBe(true);
    const refusal = async (tls: HttpSourceOptions['tls']): Promise<string | undefined> => {
      const policy = await start(server.url, { tls });
      expect(policy.current('acme')).toBeUndefined();
      return remoteOf(policy).error;
    };
    // The usual authorities do not know this one.
    expect(await refusal({})).toMatch(/certificate/);
    // The server wants to know who asks.
    expect(await refusal({ caFile: path.join(folder, 'ca.pem') })).toMatch(/alert|ECONNRESET|socket hang up/i);
    const other = issueCertificate('another authority');
    await writeFile(path.join(folder, 'ca.pem'), other.cert);
    expect(await refusal(at)).toMatch(/certificate/);
  });
});

describe('a hostile bundle server', () => {
  const ask = (url: string, more: Partial<BundleServer> = {}) =>
    requestBundle(optionsOf(url, more), {
      etag: undefined,
      takesDelta: false,
      waitMs: 0,
      signal: AbortSignal.timeout(20_000),
    }).then(
      ({ status }) => status as string,
      (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
    );

  it.each<[string, Parameters<BundleServerFixture['instead']>[0], Partial<BundleServer>, string]>([
    ['never answers', () => undefined, { timeoutMs: 100 }, 'no answer within 100 ms'],
    [
      'never ends its body',
      (_request, response) => void response.writeHead(200).write('x'),
      { timeoutMs: 100 },
      'no whole body within 100 ms',
    ],
    [
      'sends drop by drop',
      (_request, response) => {
        response.writeHead(200);
        const timer = setInterval(() => response.write('x'), 20);
        response.on('close', () => clearInterval(timer));
      },
      { timeoutMs: 200 },
      'no whole body within 200 ms',
    ],
    [
      'announces too much',
      (_request, response) => void response.writeHead(200, { 'content-length': 2_000_000 }).write('x'),
      {},
      'more than 1048576 bytes',
    ],
    [
      'sends too much',
      (_request, response) => {
        response.writeHead(200);
        for (let i = 0; i < 40; i += 1) response.write(Buffer.alloc(64 * 1024));
        response.end();
      },
      {},
      'more than 1048576 bytes',
    ],
    [
      'cuts its body off',
      (_request, response) => {
        response.writeHead(200, { 'content-length': 100 }).write('x');
        setTimeout(() => response.destroy(), 20);
      },
      {},
      'aborted',
    ],
    ['hangs up', (request) => void request.socket.destroy(), {}, 'socket hang up'],
    ['speaks no HTTP', (request) => void request.socket.end('SSH-2.0\r\n\r\n'), {}, 'Parse Error'],
    ['says "not modified" to the first request', (_request, response) => void response.writeHead(304).end(), {}, '304'],
    ['says "no content"', (_request, response) => void response.writeHead(204).end(), {}, 'status 204'],
    [
      'compresses what is compressed',
      (_request, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('x')),
      {},
      'content encoding',
    ],
    [
      'redirects',
      (_request, response) => void response.writeHead(302, { location: '/other' }).end(),
      {},
      'redirects are not followed',
    ],
    [
      'redirects to another origin',
      (_request, response) => void response.writeHead(302, { location: 'http://localhost:1/' }).end(),
      { followRedirects: true },
      'another origin',
    ],
    [
      'redirects to a file',
      (_request, response) => void response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
      { followRedirects: true },
      'another origin',
    ],
    [
      'redirects for ever',
      (_request, response) => void response.writeHead(307, { location: '/again' }).end(),
      { followRedirects: true },
      'more than 3 redirects',
    ],
    [
      'redirects nowhere',
      (_request, response) => void response.writeHead(301).end(),
      { followRedirects: true },
      'location',
    ],
  ])('that %s costs no more than its limits', async (_what, respond, more, expected) => {
    const server = await serve();
    server.instead(respond);
    const said = await ask(server.url, more);
    expect(said).toMatch(/^upstream_unavailable: http:\/\/localhost/);
    expect(said).toContain(expected);
  });

  it('may redirect within its origin, where that is allowed', async () => {
    const server = await serve();
    const bytes = await bundleOf(1);
    server.instead((request, response) => {
      if (request.url === '/moved') response.writeHead(200).end(bytes);
      else response.writeHead(308, { location: '/moved' }).end();
    });
    expect(await ask(server.url, { followRedirects: true })).toBe('bundle');
  });

  it('is asked no sooner than it says', async () => {
    const server = await serve();
    server.instead((_request, response) => response.writeHead(429, { 'retry-after': '2' }).end());
    await start(server.url);
    await delay(1_500);
    expect(server.seen).toHaveLength(1);
  });

  it('that nobody answers for is a failure, not a crash', async () => {
    expect(await ask(`http://127.0.0.1:${await freePort()}/`)).toMatch(/ECONNREFUSED/);
  });
});

describe('the same server', () => {
  it('serves OPA too', async () => {
    const server = await serve({ longPolling: true });
    // OPA as it is pinned here has no runtime for Wasm, so it gets Rego.
    const regoOf = (serial: number): Promise<Uint8Array> =>
      packArchive([
        { path: '.manifest', bytes: Buffer.from('{"roots":["edict"],"rego_version":1}') },
        { path: 'edict/edict.rego', bytes: Buffer.from(answering(`serial_${serial}`)) },
      ]);
    server.publish(await regoOf(1));
    const port = await freePort();
    const { origin, pathname } = new URL(server.url);
    const set = [
      `services.edict.url=${origin}`,
      'bundles.test.service=edict',
      `bundles.test.resource=${pathname}`,
      'bundles.test.polling.long_polling_timeout_seconds=10',
    ];
    const args = ['run', '--server', '--addr', `127.0.0.1:${port}`, '--skip-version-check', '--log-level', 'error'];
    const opa = spawn(await findOpa(), [...args, ...set.flatMap((each) => ['--set', each])], { stdio: 'ignore' });
    try {
      const ask = async (): Promise<unknown> => {
        const response = await fetch(`http://127.0.0.1:${port}/v1/data/edict/decide/reasons`, { method: 'POST' });
        return ((await response.json()) as { result?: unknown }).result;
      };
      const untilReason = async (code: string): Promise<void> => {
        for (const startMs = Date.now(); ;) {
          if (Date.now() - startMs > 20_000) throw new Error(`OPA never answered ${code}`);
          const found = await ask().catch(() => undefined);
          if (JSON.stringify(found) === JSON.stringify([{ code }])) return;
          await delay(50);
        }
      };
      await untilReason('serial_1');
      server.publish(await regoOf(2));
      await untilReason('serial_2');
    } finally {
      opa.kill('SIGKILL');
      await new Promise((resolve) => opa.once('exit', resolve));
    }
  }, 60_000);
});

describe('the settings of a bundle server', () => {
  it('become what is asked', () => {
    const [source] = bundleSources(
      [{ url: 'https://a.example/b.tar.gz', poll: '10s', long_poll: '1m', max_size: '1MiB', redirects: 'same_origin' }],
      {},
    );
    expect(source).toEqual({
      http: {
        url: 'https://a.example/b.tar.gz',
        bearerTokenFile: undefined,
        tls: {},
        followRedirects: true,
        timeoutMs: 30_000,
        maxBytes: 1024 * 1024,
        pollMs: 10_000,
        longPollMs: 60_000,
      },
    });
  });
});
