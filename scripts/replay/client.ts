import { Agent, request } from 'node:http';
import { AppError, errorCode, errorMessage } from '../../services/shared/contracts/errors.ts';

const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 30_000;

export interface Answer {
  readonly status: number;
  /** Parsed JSON; the text when it is none. */
  readonly body: unknown;
  readonly tookMs: number;
}

/** JSON over kept-alive connections to one service. */
export interface JsonClient {
  /** Rejects with `upstream_unavailable` when no whole answer came. */
  get(path: string): Promise<Answer>;
  post(path: string, body: unknown): Promise<Answer>;
  close(): void;
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

/** At most `connections` requests at once; more wait for a free connection. */
export const createJsonClient = (
  url: string,
  options: { readonly apiKey?: string | undefined; readonly connections?: number; readonly timeoutMs?: number } = {},
): JsonClient => {
  const { hostname, port } = new URL(url);
  const agent = new Agent({ keepAlive: true, maxSockets: options.connections ?? 16 });
  const timeout = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const authorization = options.apiKey === undefined ? {} : { authorization: `Bearer ${options.apiKey}` };

  const send = async (method: string, path: string, body?: Buffer): Promise<Answer> =>
    await new Promise((resolve, reject) => {
      const startedMs = performance.now();
      const fail = (cause: unknown): void =>
        reject(
          new AppError('upstream_unavailable', `${method} ${path}: ${errorCode(cause) ?? errorMessage(cause)}`, {
            cause,
          }),
        );
      const headers = {
        ...authorization,
        ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': body.length }),
      };
      const sent = request({ hostname, port, path, method, headers, agent, timeout }, (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > ANSWER_BYTES_MAX) sent.destroy(new Error('the answer is too large'));
          else chunks.push(chunk);
        });
        response.once('error', fail);
        response.once('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            body: parsed(Buffer.concat(chunks).toString('utf8')),
            tookMs: performance.now() - startedMs,
          }),
        );
      });
      sent.once('timeout', () => sent.destroy(new Error(`no answer within ${timeout} ms`)));
      sent.once('error', fail);
      sent.end(body);
    });

  return {
    get: (path) => send('GET', path),
    post: (path, body) => send('POST', path, Buffer.from(JSON.stringify(body), 'utf8')),
    close: () => agent.destroy(),
  };
};
