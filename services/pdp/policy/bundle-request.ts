import { readFile } from 'node:fs/promises';
import { request as requestHttp, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as requestHttps } from 'node:https';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { joinInTurns } from './bytes-in-turns.ts';

/** Where a bundle is served, and how this client shows who it is. */
export interface BundleServer {
  /** Without credentials, query and fragment. */
  readonly url: string;
  /** Read at each request, so that a token can be replaced while the program runs. */
  readonly bearerTokenFile: string | undefined;
  /** PEM files, read at each request too. */
  readonly tls: { readonly caFile?: string; readonly certFile?: string; readonly keyFile?: string };
  /** Whether a redirect within the same origin is followed. To another origin none ever is. */
  readonly followRedirects: boolean;
  /** For the answer's head, and again for its body. */
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

export interface BundleRequest {
  /** The version that is here already. */
  readonly etag: string | undefined;
  /** Whether a change of that version will do (OPA's delta bundles). */
  readonly takesDelta: boolean;
  /** How long the server may wait for a new version; 0: it should answer at once. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

export type BundleAnswer =
  | { readonly status: 'unchanged' }
  | {
      readonly status: 'bundle';
      readonly bytes: Uint8Array;
      readonly etag: string | undefined;
      /** The server knows OPA's long polling. */
      readonly waits: boolean;
    };

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MAX_REDIRECTS = 3;
const BUNDLE_TYPE = 'application/vnd.openpolicyagent.bundles';

const failed = (url: string, why: string, cause?: unknown, retryAfterMs?: number): AppError =>
  new AppError('upstream_unavailable', `${url}: ${why}`, {
    cause,
    ...(retryAfterMs === undefined ? {} : { details: { retry_after_ms: retryAfterMs } }),
  });

const readSecretFile = async (file: string): Promise<Buffer> => {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new AppError('settings_invalid', `${file}: cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
};

const bearerOf = async (file: string | undefined): Promise<Readonly<Record<string, string>>> => {
  if (file === undefined) return {};
  const token = (await readSecretFile(file)).toString('utf8').trim();
  // RFC 6750, 2.1; anything else could add a header of its own.
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(token)) throw new AppError('settings_invalid', `${file}: holds no bearer token`);
  return { authorization: `Bearer ${token}` };
};

/** Of an answer that says that the server does not know us, or not enough: what it was shown. */
const tokenHint = ({ statusCode }: IncomingMessage, { bearerTokenFile: file }: BundleServer): string => {
  if (statusCode !== 401 && statusCode !== 403) return '';
  return file === undefined ? '; no bearer_token_file is set' : `; sent was the token in bearer_token_file ${file}`;
};

const tlsOf = async ({ caFile, certFile, keyFile }: BundleServer['tls']): Promise<RequestOptions & object> => {
  const [ca, cert, key] = await Promise.all(
    [caFile, certFile, keyFile].map(async (file) => (file === undefined ? undefined : await readSecretFile(file))),
  );
  return {
    minVersion: 'TLSv1.2',
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  } as RequestOptions;
};

/** RFC 8288-like lists are not needed here: OPA's `Prefer` is `modes=…;wait=…`. */
const prefer = ({ waitMs, takesDelta }: BundleRequest): string => {
  const modes = takesDelta ? 'modes=snapshot,delta' : 'modes=snapshot';
  return waitMs > 0 ? `${modes};wait=${Math.max(1, Math.floor(waitMs / 1_000))}` : modes;
};

const retryAfterOf = (response: IncomingMessage): number | undefined => {
  const text = response.headers['retry-after'];
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) * 1_000 : undefined;
};

/** Sends one request and resolves with the head of its answer. */
const send = (url: URL, options: RequestOptions, timeoutMs: number): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const start = url.protocol === 'https:' ? requestHttps : requestHttp;
    const request = start(url, options, (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    const timer = setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    request.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    request.end();
  });

const readBody = async (response: IncomingMessage, { timeoutMs, maxBytes }: BundleServer): Promise<Uint8Array> => {
  const encoding = response.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity')
    throw new Error(`the body has the content encoding ${JSON.stringify(encoding)}, which was not asked for`);
  const tooLarge = new Error(`the bundle has more than ${maxBytes} bytes`);
  if (Number(response.headers['content-length'] ?? 0) > maxBytes) throw tooLarge;
  const timer = setTimeout(() => response.destroy(new Error(`no whole body within ${timeoutMs} ms`)), timeoutMs);
  try {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response) {
      const part = chunk as Buffer;
      bytes += part.length;
      if (bytes > maxBytes) throw tooLarge;
      chunks.push(part);
    }
    if (!response.complete) throw new Error('the body was cut off');
    return await joinInTurns(chunks);
  } finally {
    clearTimeout(timer);
  }
};

const redirectTarget = (response: IncomingMessage, from: URL, server: BundleServer): URL => {
  const { statusCode = 0, headers } = response;
  if (!server.followRedirects) throw new Error(`redirects are not followed (status ${statusCode})`);
  if (headers.location === undefined) throw new Error(`status ${statusCode} without a location`);
  const target = new URL(headers.location, from);
  if (target.origin !== from.origin || target.username !== '' || target.password !== '')
    throw new Error('a redirect to another origin is not followed');
  return target;
};

const answerOf = async (response: IncomingMessage, server: BundleServer, etag: string | undefined) => {
  if (response.statusCode === 304) {
    if (etag === undefined) throw new Error('status 304 without a version to compare with');
    return { status: 'unchanged' } as const;
  }
  const bytes = await readBody(response, server);
  const type = response.headers['content-type']?.split(';')[0]?.trim().toLowerCase();
  return { status: 'bundle', bytes, etag: response.headers.etag, waits: type === BUNDLE_TYPE } as const;
};

/**
 * One request of OPA's bundle API. Rejects with `upstream_unavailable` (`details.retry_after_ms` when the server named
 * a time) for anything but a whole bundle or "not modified", with `settings_invalid` when a file of ours is missing.
 */
export const requestBundle = async (server: BundleServer, asked: BundleRequest): Promise<BundleAnswer> => {
  const { etag, waitMs, signal } = asked;
  const options: RequestOptions = {
    ...(await tlsOf(server.tls)),
    headers: {
      accept: `${BUNDLE_TYPE}, application/gzip;q=0.9, application/octet-stream;q=0.9`,
      'accept-encoding': 'identity',
      'user-agent': 'edict',
      prefer: prefer(asked),
      ...(etag === undefined ? {} : { 'if-none-match': etag }),
      ...(await bearerOf(server.bearerTokenFile)),
    },
    // A connection of its own: what is long between two requests is not worth keeping open.
    agent: false,
    signal,
  };
  let response: IncomingMessage | undefined;
  try {
    let url = new URL(server.url);
    for (let hop = 0; ; hop += 1) {
      response = await send(url, options, server.timeoutMs + waitMs);
      if (!REDIRECTS.has(response.statusCode ?? 0)) break;
      if (hop === MAX_REDIRECTS) throw new Error(`more than ${MAX_REDIRECTS} redirects`);
      url = redirectTarget(response, url, server);
      response.destroy();
    }
    if (response.statusCode === 200 || response.statusCode === 304) return await answerOf(response, server, etag);
  } catch (cause) {
    throw failed(server.url, errorMessage(cause) || (errorCode(cause) ?? 'no connection'), cause);
  } finally {
    response?.destroy();
  }
  throw failed(
    server.url,
    `status ${response.statusCode}${tokenHint(response, server)}`,
    undefined,
    retryAfterOf(response),
  );
};
