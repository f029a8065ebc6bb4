import { createServer } from 'node:http';
import { connect } from 'node:net';
import { once } from 'node:events';
import { isLoopback, listen, parseListen } from '../../../services/shared/runtime/http-server.ts';

describe('http server', () => {
  it.each([
    ['127.0.0.1:7180', { host: '127.0.0.1', port: 7180 }],
    ['[::1]:0', { host: '::1', port: 0 }],
    ['pdp.internal:80', { host: 'pdp.internal', port: 80 }],
  ])('reads %s', (text, address) => {
    expect(parseListen(text)).toEqual(address);
  });

  it('refuses a port that does not exist', () => {
    expect(() => parseListen('127.0.0.1:70000')).toThrow(expect.objectContaining({ code: 'settings_invalid' }));
  });

  it.each([
    ['127.0.0.1', true],
    ['127.8.8.8', true],
    ['::1', true],
    ['localhost', true],
    ['0.0.0.0', false],
    ['::', false],
    ['127.0.0.1.example', false],
  ])('knows whether only this machine can reach %s', (host, expected) => {
    expect(isLoopback(host)).toBe(expected);
  });

  it('says which address is taken', async () => {
    const first = await listen(createServer(), { host: '127.0.0.1', port: 0 });
    try {
      await expect(listen(createServer(), { host: '127.0.0.1', port: first.port })).rejects.toMatchObject({
        code: 'settings_invalid',
        message: expect.stringContaining('EADDRINUSE') as string,
      });
    } finally {
      await first.close();
    }
  });

  it('finishes the request in flight, then closes its kept-alive socket, and takes no new one', async () => {
    let answer: () => void = () => undefined;
    const arrived = new Promise<void>((resolve) => {
      answer = resolve;
    });
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const http = createServer((_request, response) => {
      answer();
      void held.then(() => response.end('done'));
    });
    const server = await listen(http, { host: '127.0.0.1', port: 0 });
    const idle = connect(server.port, '127.0.0.1');
    await once(idle, 'connect');
    const response = fetch(server.url);
    await arrived;
    const closed = server.close();
    release();
    expect(await (await response).text()).toBe('done');
    await closed;
    await expect(fetch(server.url)).rejects.toThrow();
    idle.destroy();
  });

  it('lives on when a connection could not be accepted', async () => {
    const http = createServer((_request, response) => response.end('done'));
    const server = await listen(http, { host: '127.0.0.1', port: 0 });
    try {
      http.emit('error', Object.assign(new Error('accept EMFILE'), { code: 'EMFILE' }));
      expect(await (await fetch(server.url)).text()).toBe('done');
    } finally {
      await server.close();
    }
  });
});
