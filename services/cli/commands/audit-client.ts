import { readFileSync } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { serviceAddress, type Address } from './service-address.ts';

export interface AuditConnection extends Address {
  readonly keyFile?: string;
}

/** By name, or in order where a name may stand several times. */
export type Parameters = Readonly<Record<string, string>> | readonly (readonly [name: string, value: string])[];

export interface AuditClient {
  /** The answer's body at status 2xx; throws `upstream_unavailable`, `not_found` or `usage` otherwise. */
  readonly get: (path: string, parameters: Parameters) => Promise<Readonly<Record<string, unknown>>>;
  readonly post: (path: string, parameters: Parameters, body: unknown) => Promise<Readonly<Record<string, unknown>>>;
  /** The same as `get` for an answer that is no JSON. */
  readonly download: (
    path: string,
    parameters: Parameters,
  ) => Promise<{ readonly mediaType: string; readonly bytes: Buffer }>;
}

const TIMEOUT_MS = 60_000;
const MAX_BODY_BYTES = 256 * 1024 * 1024;
const API_KEY = /^edict_[a-z0-9]{12}_[A-Za-z0-9_-]{43}$/;

const readKey = (file: string): string => {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new AppError('usage', `--key-file: ${file} cannot be read (${errorCode(cause) ?? errorMessage(cause)})`, {
      cause,
    });
  }
  if (!API_KEY.test(text)) throw new AppError('usage', `--key-file: ${file} holds no API key`);
  return text;
};

/** Why nothing answers: Node's fetch hides it in the cause. */
const reasonOf = (error: unknown): string => {
  const cause: unknown = isObject(error) || error instanceof Error ? Reflect.get(error, 'cause') : undefined;
  return errorCode(cause) ?? errorCode(error) ?? errorMessage(error);
};

const readBody = async (response: Response): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    const part = chunk as Uint8Array;
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES) throw new AppError('upstream_unavailable', 'the answer is too large');
    chunks.push(part);
  }
  return Buffer.concat(chunks);
};

const parsed = (bytes: Buffer): unknown => {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
};

const pairsOf = (parameters: Parameters): readonly (readonly [string, string])[] =>
  Array.isArray(parameters) ? parameters : Object.entries(parameters);

/** Where requests go, and with which credential; the key is read once. Throws `usage` and `settings_invalid`. */
export const createAuditTarget = (connection: AuditConnection) => {
  const base = serviceAddress(connection, 'audit');
  const key = connection.keyFile === undefined ? undefined : readKey(connection.keyFile);
  const headers: Readonly<Record<string, string>> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  return {
    base,
    headers,
    url: (path: string, parameters: Parameters): URL => {
      const url = new URL(path, base);
      for (const [name, value] of pairsOf(parameters)) url.searchParams.append(name, value);
      return url;
    },
  };
};

/** The error for an answer that is none. */
export const refusal = (status: number, body: Buffer): AppError => {
  const answer = parsed(body);
  const detail = isObject(answer) && typeof answer['detail'] === 'string' ? `: ${answer['detail']}` : '';
  const message = `the audit service answered ${status}${detail}`;
  if (status === 404) return new AppError('not_found', message);
  // What was asked, or who asks, is wrong; anything else is the service's.
  return new AppError([400, 401, 403, 409].includes(status) ? 'usage' : 'upstream_unavailable', message);
};

/** Asks a running audit service. */
export const createAuditClient = (connection: AuditConnection): AuditClient => {
  const { base, headers, url } = createAuditTarget(connection);
  const fetchFrom = async (
    method: string,
    path: string,
    parameters: Parameters,
    body?: unknown,
  ): Promise<{ readonly mediaType: string; readonly bytes: Buffer }> => {
    let response: Response;
    let bytes: Buffer;
    try {
      response = await fetch(url(path, parameters), {
        method,
        redirect: 'error',
        headers: {
          ...headers,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      bytes = await readBody(response);
    } catch (cause) {
      throw new AppError('upstream_unavailable', `no audit service answers at ${base} (${reasonOf(cause)})`, { cause });
    }
    if (response.ok) return { mediaType: response.headers.get('content-type') ?? '', bytes };
    throw refusal(response.status, bytes);
  };
  const ask = async (method: string, path: string, parameters: Parameters, body?: unknown) => {
    const answer = parsed((await fetchFrom(method, path, parameters, body)).bytes);
    if (isObject(answer)) return answer;
    throw new AppError('upstream_unavailable', `what answers at ${base} is no audit service`);
  };
  return {
    download: (path, parameters) => fetchFrom('GET', path, parameters),
    get: (path, parameters) => ask('GET', path, parameters),
    post: (path, parameters, body) => ask('POST', path, parameters, body),
  };
};
