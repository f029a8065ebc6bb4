import { connect, type Socket } from 'node:net';
import { newApiKey } from '../../../services/shared/callers/api-keys.ts';
import { createFuelBudgets } from '../../../services/pdp/callers/fuel-budget.ts';
import { createKnownCallers } from '../../../services/pdp/callers/known-callers.ts';
import { createRateLimits } from '../../../services/pdp/callers/rate-limit.ts';
import { createDecide, type DecidingPolicy } from '../../../services/pdp/core/decide.ts';
import { NOTHING_PUSHED } from '../../../services/pdp/core/pushed-data.ts';
import type { Evaluate } from '../../../services/pdp/core/evaluate.ts';
import type { EventDraft, Recorded, RecordEvent, Refusal } from '../../../services/pdp/core/record.ts';
import { createPdpHttp, type PdpHttpOptions } from '../../../services/pdp/http/app.ts';
import type { PolicyOutput } from '../../../services/shared/contracts/policy-io.ts';
import { newUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import { listen } from '../../../services/shared/runtime/http-server.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import type { Caller, Settings } from '../../../services/shared/settings/schema.ts';
import { loadSettings } from '../../../services/shared/settings/settings.ts';

export const ALLOW: PolicyOutput = {
  version: 1,
  allow: true,
  reasons: [{ code: 'permitted' }],
  obligations: [],
  advice: [],
  legs: { subject: true },
};
export const DENY: PolicyOutput = { ...ALLOW, allow: false, reasons: [{ code: 'no' }], legs: { subject: false } };

export const REQUEST = {
  subject: { type: 'user', id: 'alice' },
  action: { name: 'read' },
  resource: { type: 'dataset', id: 'hr.salaries' },
};

export interface EdgeOptions {
  readonly callers?: readonly Partial<Caller>[];
  readonly evaluate?: Evaluate;
  readonly settings?: Partial<Settings>;
  readonly record?: (draft: EventDraft, sequence: number) => Recorded;
  readonly http?: Partial<PdpHttpOptions>;
  readonly monotonicMs?: () => number;
}

/** Answers with an allow for alice, a deny for others, and keeps what would go to the ledger. */
export const startEdge = async (options: EdgeOptions = {}) => {
  const keys: string[] = [];
  const base = loadSettings({ environment: { EDICT_HOME: '/nonexistent' } }).settings;
  const callers = (options.callers ?? []).map((caller, index): Caller => {
    const { key, stored } = newApiKey();
    keys.push(key);
    return {
      id: `gw-${index}`,
      tenant: 'default',
      roles: ['decide'],
      requires_agent: false,
      believe_unverified: true,
      properties: {},
      ...caller,
      api_keys: [stored],
    };
  });
  const monotonicMs = options.monotonicMs ?? (() => performance.now());
  const known = createKnownCallers({ ...base, callers });
  const limits = createRateLimits(monotonicMs);
  const fuel = createFuelBudgets({ ...base, ...options.settings }, monotonicMs);
  const drafts: EventDraft[] = [];
  const refusals: Refusal[] = [];
  const record: RecordEvent = (draft) => {
    const recorded = options.record?.(draft, drafts.length + 1) ?? {
      emitter: 'ab'.repeat(16),
      boot: '7',
      sequence: String(drafts.length + 1),
      durable: Promise.resolve('spool' as const),
    };
    drafts.push(draft);
    return recorded;
  };
  const policy: DecidingPolicy = {
    evaluate:
      options.evaluate ??
      ((input) => {
        const { subject } = JSON.parse(Buffer.from(input).toString()) as { subject: { id: string } };
        return {
          outcome: 'answer',
          value: subject.id === 'alice' ? ALLOW : DENY,
          fuelUsed: 1,
          fuelLimit: 1_000,
          drawn: undefined,
        };
      }),
    engine: 'fake/1',
    entrypoint: 'edict/decide',
    bundles: [{ name: 'mesh', digest: `sha256:${'0'.repeat(64)}`, serial: 1 }],
    setDigest: `sha256:${'1'.repeat(64)}`,
  };
  const registry = createRegistry({ service: 'test', processMetrics: false });
  const http = createPdpHttp({
    decide: createDecide({
      record,
      chargeFuel: fuel.charge,
      nowMs: () => Date.now(),
      monotonicMs,
      newId: newUuidV7,
      mask: undefined,
      maskKey: () => ({ key: Buffer.alloc(32), id: '00000000' }),
      durability: 'spool',
    }),
    policyFor: () => policy,
    inputLimits: () => ({ maxBytes: 256 * 1024, maxDepth: 64, maxMembers: 10_000 }),
    waitForData: () => Promise.resolve(),
    data: {
      push: () => Promise.reject(new Error('nothing is pushed here')),
      dataOf: () => NOTHING_PUSHED,
      isKnown: () => true,
    },
    bundleStatus: (caller) => ({ tenant: caller.tenant, sets: [] }),
    countRefusal: (refusal) => refusals.push(refusal),
    identify: known.identify,
    isOpen: known.isOpen,
    takeQuota: limits.take,
    charge: limits.charge,
    fuelWaitS: fuel.waitS,
    checks: { spool: () => ({ ok: true }) },
    registry,
    logger: createLogger({ service: 'test', level: 'silent' }),
    monotonicMs,
    listenHost: '127.0.0.1',
    allowedHosts: [],
    maxInFlight: 1024,
    maxConnections: 4096,
    bodyTimeoutMs: 5_000,
    ...options.http,
  });
  const server = await listen(http.server, { host: '127.0.0.1', port: 0 }, { drainMs: 200 });
  return {
    ...server,
    keys,
    drafts,
    refusals,
    registry,
    close: async () => {
      await server.close();
      http.close();
    },
  };
};
export type Edge = Awaited<ReturnType<typeof startEdge>>;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Readonly<Record<string, unknown>> & {
    readonly decision?: string;
    readonly allow?: boolean;
    readonly code?: string;
    readonly reasons?: readonly { readonly code: string; readonly message?: string }[];
    readonly errors?: readonly { readonly pointer: string; readonly code: string; readonly message: string }[];
  };
}

export const ask = async (
  edge: Pick<Edge, 'url'>,
  body: unknown,
  options: {
    readonly path?: string;
    readonly method?: string;
    readonly headers?: Readonly<Record<string, string>>;
  } = {},
): Promise<Answer> => {
  const response = await fetch(`${edge.url}${options.path ?? '/decide'}`, {
    method: options.method ?? 'POST',
    headers: { 'content-type': 'application/json', ...options.headers },
    body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Answer['body'] };
};

/** A connection of one's own, with everything that came back on it. */
export const rawConnection = async (edge: Pick<Edge, 'port'>) => {
  const socket: Socket = connect(edge.port, '127.0.0.1');
  const chunks: Buffer[] = [];
  let wake: () => void = () => undefined;
  let closed = false;
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    wake();
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
    wake();
  });
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  const text = (): string => Buffer.concat(chunks).toString();
  const until = async (isDone: (received: string) => boolean): Promise<string> => {
    while (!closed && !isDone(text())) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    return text();
  };
  return {
    socket,
    write: (data: string | Uint8Array) => socket.write(data),
    until,
    /** Everything up to the end of the connection. */
    end: () => until(() => false),
    isClosed: () => closed,
  };
};

/** The head and body of the last answer in what a raw connection received. */
export const lastAnswer = (received: string): { readonly status: number; readonly body: Answer['body'] } => {
  const at = received.lastIndexOf('HTTP/1.1 ');
  const [head = '', body = ''] = received.slice(at).split('\r\n\r\n');
  return { status: Number(head.slice(9, 12)), body: JSON.parse(body) as Answer['body'] };
};

export const post = (body: string, headers: readonly string[] = [], path = '/decide'): string =>
  [
    `POST ${path} HTTP/1.1`,
    'Host: localhost',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...headers,
    '',
    body,
  ].join('\r\n');
