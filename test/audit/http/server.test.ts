import { connect } from 'node:net';
import { createAuditServer } from '../../../services/audit/http/server.ts';
import { parametersOf } from '../../../services/audit/http/access.ts';
import { listen, type ListeningServer } from '../../../services/shared/runtime/http-server.ts';

describe('the server of the audit service', () => {
  let server: ListeningServer;
  beforeAll(async () => {
    const http = createAuditServer((_request, response) => response.end('handled'), { maxHeaderSize: 2_048 });
    server = await listen(http, { host: '127.0.0.1', port: 0 });
  });
  afterAll(() => server.close());

  const raw = (bytes: string): Promise<string> =>
    new Promise((resolve, reject) => {
      let text = '';
      const socket = connect(server.port, '127.0.0.1', () => socket.write(bytes));
      socket.setEncoding('utf8').on('data', (part: string) => (text += part));
      socket.on('end', () => resolve(text)).on('error', reject);
    });

  it.each([
    ['another origin', 'GET http://evil:99999999/v1/decisions HTTP/1.1\r\nHost: a\r\n\r\n', 400, 'request_invalid'],
    ['an origin that is none', 'GET http://[/v1/decisions HTTP/1.1\r\nHost: a\r\n\r\n', 400, 'request_invalid'],
    ['a tunnel', 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n', 405, 'method_not_allowed'],
    ['what is no HTTP', 'hello\r\n\r\n', 400, 'malformed_http'],
    ['no Host', 'GET / HTTP/1.1\r\n\r\n', 400, 'malformed_http'],
    [
      'a head that is too large',
      `GET / HTTP/1.1\r\nHost: a\r\nx: ${'y'.repeat(3_000)}\r\n\r\n`,
      431,
      'header_too_large',
    ],
    ['another expectation', 'GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n', 417, 'expectation_failed'],
  ])('answers %s with a problem', async (_what, request, status, code) => {
    const [head = '', body = ''] = (await raw(request)).split('\r\n\r\n');
    expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(head.toLowerCase()).toContain('content-type: application/problem+json');
    expect(JSON.parse(body.replace(/^[0-9a-f]+\r\n|\r\n0$/g, ''))).toMatchObject({ status, code });
  });

  it('hands everything else to the routes', async () => {
    expect(await (await fetch(`${server.url}//evil:99999999/v1`)).text()).toBe('handled');
    expect([...parametersOf('//evil:99999999/v1?a=1&b=%20')]).toEqual([
      ['a', '1'],
      ['b', ' '],
    ]);
    expect([...parametersOf('/v1')]).toEqual([]);
  });
});
