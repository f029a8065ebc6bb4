import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createBareServer } from '../../scripts/bench/bare-server.ts';
import { sendLoad } from '../../scripts/bench/load.ts';
import { median, table } from '../../scripts/bench/measure.ts';

describe('the load generator', () => {
  let server: Server;
  const received: string[] = [];
  let status = 200;
  beforeAll(async () => {
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += chunk));
      request.on('end', () => {
        received.push(`${String(request.headers['x-test'])} ${body}`);
        const answer = 'é'.repeat(5_000);
        response.writeHead(status, { 'content-length': Buffer.byteLength(answer) });
        // In two parts, so that an answer comes in more than one piece.
        response.write(answer.slice(0, 10));
        setImmediate(() => response.end(answer.slice(10)));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterAll(async () => {
    await new Promise((resolve) => server.close(resolve));
  });

  const order = (more: object = {}) => ({
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    path: '/decide',
    headers: { 'X-Test': 'yes' },
    bodies: ['{"a":1}', '{"b":"ü"}'],
    connections: 3,
    warmUpMs: 0,
    durationMs: 200,
    ...more,
  });

  it('sends the bodies in turn and counts whole answers by status', async () => {
    const result = await sendLoad(order());
    expect(result.requests).toBeGreaterThan(0);
    expect(result.statuses).toEqual({ '200': result.requests });
    expect(result.p99Ms).toBeGreaterThanOrEqual(result.p50Ms);
    expect(new Set(received)).toEqual(new Set(['yes {"a":1}', 'yes {"b":"ü"}']));
  });

  it('tells other statuses apart', async () => {
    status = 503;
    const result = await sendLoad(order());
    expect(result.statuses).toEqual({ '503': result.requests });
  });

  it('fails when nobody listens', async () => {
    const { port } = server.address() as AddressInfo;
    const gone = createServer();
    await new Promise<void>((resolve) => gone.listen(0, '127.0.0.1', resolve));
    const closed = (gone.address() as AddressInfo).port;
    await new Promise((resolve) => gone.close(resolve));
    expect(closed).not.toBe(port);
    await expect(sendLoad(order({ port: closed }))).rejects.toThrow(/ECONNREFUSED/);
  });
});

describe('the bare server', () => {
  it('answers as many bytes as a decision has', async () => {
    const server = createBareServer(900);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const response = await fetch(`http://127.0.0.1:${port}/decide`, { method: 'POST', body: '{"a":1}' });
      expect(response.status).toBe(200);
      expect(await response.text()).toHaveLength(900);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });
});

describe('figures', () => {
  it('have the middle of an odd and the mean of the two middles of an even count as median', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([7])).toBe(7);
  });

  it('stand to the right of their names', () => {
    expect(
      table([
        ['a', 'n'],
        ['long', '10'],
      ]),
    ).toBe('a      n\nlong  10');
  });
});
