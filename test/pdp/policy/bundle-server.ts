import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';

/** A request as the server saw it. */
export interface Seen {
  readonly url: string;
  readonly etag: string | undefined;
  readonly prefer: string | undefined;
  readonly authorization: string | undefined;
  /** Whether the client showed a certificate that the server's authority issued. */
  readonly isKnown: boolean;
  readonly atMs: number;
}

export interface BundleServerFixture {
  readonly url: string;
  readonly seen: readonly Seen[];
  /** Serves this from now on; requests that wait are answered. */
  readonly publish: (bytes: Uint8Array) => void;
  /** Answers like this instead; undefined: as a bundle server again. */
  readonly instead: (respond: RequestListener | undefined) => void;
  readonly close: () => Promise<void>;
}

export interface BundleServerOptions {
  readonly tls?: ServerOptions;
  /** Holds requests that ask for it, as OPA's bundle API describes; off: as a plain file server with ETags. */
  readonly longPolling?: boolean;
  /** 401 without it. */
  readonly token?: string;
}

const waitOf = (prefer: string | undefined): number => Number(/wait=(\d+)/.exec(prefer ?? '')?.[1] ?? 0) * 1_000;

/** A real server of OPA's bundle API on loopback. */
export const startBundleServer = async (options: BundleServerOptions = {}): Promise<BundleServerFixture> => {
  const { tls, longPolling = false, token } = options;
  const seen: Seen[] = [];
  const waiting = new Set<() => void>();
  let content: Uint8Array = Buffer.alloc(0);
  let etag = '""';
  let other: RequestListener | undefined;

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    response.setHeader('etag', etag);
    if (request.headers['if-none-match'] === etag) return void response.writeHead(304).end();
    const type = longPolling ? 'application/vnd.openpolicyagent.bundles' : 'application/gzip';
    response.writeHead(200, { 'content-type': type, 'content-length': content.length }).end(content);
  };
  const listener: RequestListener = (request, response) => {
    const { headers, socket } = request;
    const prefer = [headers['prefer']].flat()[0];
    const isKnown = 'authorized' in socket && socket.authorized === true;
    const { authorization, 'if-none-match': known } = headers;
    seen.push({ url: request.url ?? '', etag: known, prefer, authorization, isKnown, atMs: Date.now() });
    if (other !== undefined) return other(request, response);
    if (token !== undefined && authorization !== `Bearer ${token}`) return void response.writeHead(401).end();
    const waitMs = longPolling && known === etag ? waitOf(prefer) : 0;
    if (waitMs === 0) return answer(request, response);
    const go = (): void => {
      clearTimeout(timer);
      waiting.delete(go);
      answer(request, response);
    };
    const timer = setTimeout(go, waitMs);
    waiting.add(go);
  };
  const server: Server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `${tls === undefined ? 'http' : 'https'}://localhost:${port}/bundles/test.tar.gz`,
    seen,
    publish: (bytes) => {
      content = bytes;
      etag = `"${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}"`;
      for (const go of waiting) go();
    },
    instead: (respond) => {
      other = respond;
    },
    close: () =>
      new Promise((resolve) => {
        for (const go of waiting) go();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};
