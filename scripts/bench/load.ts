import { connect, type Socket } from 'node:net';
import { errorMessage } from '../../services/shared/contracts/errors.ts';
import { isObject } from '../../services/shared/contracts/json.ts';

/**
 * One run of the load generator: each connection sends its next request when the answer is whole, or, with `everyMs`,
 * when its time has come. What had to wait for the answer before it counts from when it should have been sent.
 */
export interface LoadOrder {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent in turn. */
  readonly bodies: readonly string[];
  readonly connections: number;
  /** Between two requests of one connection. Default: none, a closed loop. */
  readonly everyMs?: number;
  /** Load that is not counted, so that connections, compiled code and caches are warm. */
  readonly warmUpMs: number;
  readonly durationMs: number;
}

export interface LoadResult {
  readonly requests: number;
  readonly durationMs: number;
  /** Count by status. */
  readonly statuses: Readonly<Record<string, number>>;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Microseconds, a sixteenth of relative error: 64 powers of two with 16 steps each. */
const createHistogram = () => {
  const counts = new Uint32Array(64 * 16);
  let total = 0;
  const bucketOf = (us: number): number => {
    if (us < 16) return Math.floor(us);
    const power = Math.floor(Math.log2(us));
    return (power - 3) * 16 + Math.floor((us / 2 ** power - 1) * 16);
  };
  const lowerBound = (bucket: number): number =>
    bucket < 16 ? bucket : 2 ** (Math.floor(bucket / 16) + 3) * (1 + (bucket % 16) / 16);
  return {
    add(us: number): void {
      counts[bucketOf(Math.max(0, us))] = (counts[bucketOf(Math.max(0, us))] ?? 0) + 1;
      total += 1;
    },
    /** The smallest value that `share` of all do not exceed, milliseconds. */
    quantileMs(share: number): number {
      let seen = 0;
      for (let bucket = 0; bucket < counts.length; bucket += 1) {
        seen += counts[bucket] ?? 0;
        if (seen >= total * share && seen > 0) return lowerBound(bucket + 1) / 1_000;
      }
      return 0;
    },
  };
};

const requestBytes = ({ host, port, path, headers }: LoadOrder, body: string): Buffer => {
  const lines = [
    `POST ${path} HTTP/1.1`,
    `Host: ${host}:${port}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`, 'utf8');
};

const HEADERS_END = Buffer.from('\r\n\r\n');

/** Status and whole length of the answer that `bytes` begins with; undefined while it is not all there. */
const wholeAnswer = (bytes: Buffer): { readonly status: string; readonly length: number } | undefined => {
  const end = bytes.indexOf(HEADERS_END);
  if (end < 0) return undefined;
  const head = bytes.toString('latin1', 0, end);
  const [, contentLength] = /\r\ncontent-length: *(\d+)/i.exec(head) ?? [];
  if (contentLength === undefined) throw new Error('the answer has no Content-Length');
  const length = end + HEADERS_END.length + Number(contentLength);
  return bytes.length < length ? undefined : { status: head.slice(9, 12), length };
};

/** Sends load for the time ordered. Rejects when a connection breaks: a server under test must not cut any. */
export const sendLoad = async (order: LoadOrder): Promise<LoadResult> => {
  const requests = order.bodies.map((body) => requestBytes(order, body));
  const histogram = createHistogram();
  const statuses: Record<string, number> = {};
  let counted = 0;
  const startedMs = performance.now();
  const countFromMs = startedMs + order.warmUpMs;
  const endMs = countFromMs + order.durationMs;
  const sockets: Socket[] = [];

  const runConnection = async (index: number): Promise<void> =>
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ host: order.host, port: order.port, noDelay: true });
      sockets.push(socket);
      let next = index;
      let sentMs = 0;
      let pending: Buffer | undefined;
      let dueMs = performance.now() + ((order.everyMs ?? 0) * index) / order.connections;
      const send = (): void => {
        const nowMs = performance.now();
        const waitMs = dueMs - nowMs;
        if (order.everyMs !== undefined && waitMs > 0 && dueMs < endMs) {
          setTimeout(() => begin(performance.now()), waitMs);
          return;
        }
        begin(order.everyMs === undefined ? nowMs : dueMs);
      };
      const begin = (fromMs: number): void => {
        dueMs += order.everyMs ?? 0;
        sentMs = fromMs;
        if (sentMs >= endMs) {
          socket.destroy();
          resolve();
          return;
        }
        next += 1;
        socket.write(requests[next % requests.length] ?? Buffer.alloc(0));
      };
      socket.once('connect', send);
      socket.on('data', (chunk) => {
        try {
          const bytes = pending === undefined ? chunk : Buffer.concat([pending, chunk]);
          const answer = wholeAnswer(bytes);
          pending = answer === undefined ? bytes : undefined;
          if (answer === undefined) return;
          if (answer.length !== bytes.length) throw new Error('more than one answer to one request');
          const nowMs = performance.now();
          if (sentMs >= countFromMs && nowMs < endMs) {
            counted += 1;
            statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
            histogram.add((nowMs - sentMs) * 1_000);
          }
          send();
        } catch (error) {
          socket.destroy();
          reject(error instanceof Error ? error : new Error(errorMessage(error)));
        }
      });
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('the server closed a connection')));
    });

  try {
    await Promise.all(Array.from({ length: order.connections }, (_, index) => runConnection(index)));
  } finally {
    for (const socket of sockets) socket.destroy();
  }
  return {
    requests: counted,
    durationMs: order.durationMs,
    statuses,
    p50Ms: histogram.quantileMs(0.5),
    p99Ms: histogram.quantileMs(0.99),
  };
};

/** What the generator process says: the counted part begins, it ended, or it failed. */
export type LoadMessage =
  | { readonly phase: 'counting' }
  | { readonly phase: 'done'; readonly result: LoadResult }
  | { readonly phase: 'failed'; readonly message: string };

// Run as a process of its own (`fork`), so that the generator's work is no part of what is measured.
if (process.send !== undefined && process.argv[2] === '--load-process') {
  process.on('message', (order: unknown) => {
    if (!isObject(order)) return;
    const { warmUpMs } = order as unknown as LoadOrder;
    setTimeout(() => process.send?.({ phase: 'counting' } satisfies LoadMessage), warmUpMs);
    sendLoad(order as unknown as LoadOrder).then(
      (result) => process.send?.({ phase: 'done', result } satisfies LoadMessage),
      (error: unknown) => process.send?.({ phase: 'failed', message: errorMessage(error) } satisfies LoadMessage),
    );
  });
}
