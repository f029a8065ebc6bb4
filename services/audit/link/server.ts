import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { rmSync } from 'node:fs';
import { sha256 } from '../../shared/contracts/bytes.ts';
import { errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { listen } from '../../shared/runtime/http-server.ts';
import type { Handle } from '../../shared/runtime/lifecycle.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import { replaceFile } from '../../shared/spool/files.ts';
import type { SignerStore } from '../core/meta-log.ts';
import { decodeLink, encodeLink, LINK_CALLS, MAX_LINK_BYTES, type LinkFile } from './protocol.ts';

const bodyOf = async (request: IncomingMessage): Promise<Buffer | undefined> => {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_LINK_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};

/**
 * Embedded: the database has one session, so the signer, a process of its own, reads and stores through this listener
 * on loopback. Who may is who can read `file` (mode 0600): it holds the address and a token of this start.
 */
export const startSignerLink = async (options: {
  readonly store: SignerStore;
  readonly file: string;
  readonly logger: Logger;
}): Promise<Handle> => {
  const { store, file, logger } = options;
  const token = randomBytes(32).toString('hex');
  const expected = sha256(`Bearer ${token}`);
  const functions = store as unknown as Readonly<Record<string, (...parameters: readonly unknown[]) => unknown>>;

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const end = (status: number, value: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/octet-stream' }).end(encodeLink(value));
    };
    // Before the body: nobody else makes this process hold anything.
    if (!timingSafeEqual(sha256(request.headers.authorization ?? ''), expected)) return end(401, 'unauthenticated');
    const name = LINK_CALLS.find((call) => request.url === `/${call}`);
    if (request.method !== 'POST' || name === undefined) return end(404, 'no such call');
    const body = await bodyOf(request);
    if (body === undefined) return end(413, 'too large');
    try {
      end(200, await functions[name]?.(...(decodeLink(body) as readonly unknown[])));
    } catch (error) {
      logger.warn({ err: error, call: name }, 'the signer was not answered');
      end(500, { code: isAppError(error) ? error.code : 'internal', message: errorMessage(error) });
    }
  };
  const http = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  http.maxConnections = 8;
  const server = await listen(http, { host: '127.0.0.1', port: 0 });
  const content: LinkFile = { url: server.url, token };
  replaceFile(file, `${JSON.stringify(content)}\n`);
  return {
    async close() {
      rmSync(file, { force: true });
      await server.close();
    },
  };
};
