import { createServer, type IncomingMessage, type Server } from 'node:http';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { isObject } from '../../services/shared/contracts/json.ts';

/** What OPA uploads its decision log to: gzipped JSON arrays of events. */
export interface LogSink {
  readonly url: string;
  /** Different decisions that arrived. */
  readonly received: () => number;
  /** Nobody listens any more. */
  readonly stop: () => Promise<void>;
  /** Listens again on the same port. */
  readonly start: () => Promise<void>;
}

const unzip = promisify(gunzip);

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
};

/** Listening on a loopback port. */
export const startLogSink = async (): Promise<LogSink> => {
  const ids = new Set<string>();
  let server: Server | undefined;
  let port = 0;
  const take = async (request: IncomingMessage): Promise<void> => {
    const body = await bodyOf(request);
    const text = request.headers['content-encoding'] === 'gzip' ? await unzip(body) : body;
    const events: unknown = JSON.parse(text.toString('utf8'));
    for (const event of Array.isArray(events) ? (events as readonly unknown[]) : [])
      if (isObject(event)) ids.add(String(event['decision_id']));
  };
  const start = async (): Promise<void> => {
    const made = createServer((request, response) => {
      take(request).then(
        () => response.writeHead(200).end(),
        () => response.writeHead(400).end(),
      );
    });
    await new Promise<void>((resolve, reject) => {
      made.once('error', reject);
      made.listen(port, '127.0.0.1', resolve);
    });
    const address = made.address();
    if (typeof address === 'object' && address !== null) ({ port } = address);
    server = made;
  };
  await start();
  return {
    url: `http://127.0.0.1:${port}`,
    received: () => ids.size,
    start,
    stop: async () => {
      const ended = server;
      server = undefined;
      if (ended === undefined) return;
      await new Promise<void>((resolve) => {
        ended.close(() => resolve());
        ended.closeAllConnections();
      });
    },
  };
};
