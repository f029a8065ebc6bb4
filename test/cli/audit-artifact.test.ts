import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { auditCommand } from '../../services/cli/commands/audit.ts';
import { BUNDLE_MEDIA_TYPE } from '../../services/shared/contracts/artifact.ts';
import { DATA_MEDIA_TYPE, encodeDataNode } from '../../services/shared/contracts/data-node.ts';
import { sha256Hex } from '../../services/shared/contracts/bytes.ts';
import { listen, type ListeningServer } from '../../services/shared/runtime/http-server.ts';

/** Something that answers in the place of the audit service, and need not be honest. */
describe('edict audit artifact', () => {
  const bytes = Buffer.from('{"a":1}');
  const digest = `sha256:${sha256Hex(bytes)}`;
  const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-artifact-'));
  const out = path.join(folder, 'artifact');
  let answer: { readonly type: string; readonly body: Buffer; readonly status?: number };
  let answers: (url: string) => typeof answer;
  let server: ListeningServer;
  const asked: (string | undefined)[] = [];

  beforeAll(async () => {
    const http = createServer((request, response) => {
      asked.push(request.url);
      const { status = 200, type, body } = answers(request.url ?? '');
      response.writeHead(status, { 'content-type': type }).end(body);
    });
    server = await listen(http, { host: '127.0.0.1', port: 0 });
  });
  beforeEach(() => {
    rmSync(out, { force: true });
    answers = () => answer;
  });
  afterAll(async () => {
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const run = async (wanted: string): Promise<{ readonly code: unknown; readonly stdout: string }> => {
    const { exitCode } = process;
    const write = process.stdout.write.bind(process.stdout);
    let stdout = '';
    process.exitCode = 0;
    process.stdout.write = (text: string | Uint8Array): boolean => {
      stdout += String(text);
      return true;
    };
    try {
      const args = ['artifact', wanted, '--out', out, '--url', server.url, '--tenant', 'acme', '--json'];
      await auditCommand().exitOverride().parseAsync(args, { from: 'user' });
      return { code: process.exitCode, stdout };
    } finally {
      process.stdout.write = write;
      process.exitCode = exitCode;
    }
  };

  it('writes what has the digest', async () => {
    answer = { type: 'application/json', body: bytes };
    const { code, stdout } = await run(digest);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ digest, media_type: 'application/json', bytes: 7, intact: true, out });
    expect(readFileSync(out).equals(bytes)).toBe(true);
    expect(asked.at(-1)).toBe(`/v1/artifacts/${digest}?tenant=acme`);
  });

  it.each([
    ['other bytes', 'application/json', Buffer.from('{"a":2}')],
    ['the right bytes as a bundle', BUNDLE_MEDIA_TYPE, bytes],
    ['nothing', 'application/json', Buffer.alloc(0)],
  ])('writes nothing and exits with 1 for %s', async (_what, type, body) => {
    answer = { type, body };
    const { code, stdout } = await run(digest);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ intact: false, out: null });
    expect(existsSync(out)).toBe(false);
  });

  it('puts pushed data together of its nodes, and checks each', async () => {
    const users = encodeDataNode({ members: { bob: 1 }, nodes: {} });
    const more = encodeDataNode({ members: { x: [1] }, nodes: { users: users.digest } });
    const root = encodeDataNode({ parts: [more.digest] });
    const texts = new Map([users, more, root].map((node) => [node.digest, node.text]));
    // What they are called is covered by no digest.
    let type = DATA_MEDIA_TYPE;
    answers = (url) => ({ type, body: Buffer.from(texts.get(/sha256:[0-9a-f]{64}/.exec(url)?.[0] ?? '') ?? '') });
    const { code, stdout } = await run(root.digest);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ media_type: 'application/json', intact: true, nodes: 3 });
    expect(readFileSync(out, 'utf8')).toBe('{"users":{"bob":1},"x":[1]}');
    type = 'application/octet-stream';
    expect(JSON.parse((await run(root.digest)).stdout)).toMatchObject({ intact: true, nodes: 3 });
    const many = Object.fromEntries(Array.from({ length: 200_000 }, (_, n) => [`n${n}`, n]));
    const wide = encodeDataNode({ members: many, nodes: {} });
    const over = encodeDataNode({ parts: [wide.digest] });
    for (const node of [wide, over]) texts.set(node.digest, node.text);
    expect((await run(over.digest)).code).toBe(0);

    rmSync(out);
    texts.set(users.digest, encodeDataNode({ members: { bob: 2 }, nodes: {} }).text);
    expect((await run(root.digest)).code).toBe(1);
    texts.set(users.digest, 'no node');
    await expect(run(root.digest)).rejects.toThrow('no state');
    expect(existsSync(out)).toBe(false);
  });

  it('says what the service says where there is none', async () => {
    const body = Buffer.from(JSON.stringify({ detail: '1 of 2 parts are in the ledger so far' }));
    answer = { type: 'application/problem+json', body, status: 409 };
    await expect(run(digest)).rejects.toThrow('1 of 2 parts');
    await expect(run('sha256:00')).rejects.toMatchObject({ code: 'usage' });
  });
});
