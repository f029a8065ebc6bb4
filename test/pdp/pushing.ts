import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startPdp, type Pdp } from '../../services/pdp/main.ts';
import { loadBundle } from '../../services/pdp/policy/load-bundle.ts';
import { newApiKey } from '../../services/shared/callers/api-keys.ts';
import { createLogger } from '../../services/shared/runtime/logger.ts';
import { createRegistry } from '../../services/shared/runtime/metrics.ts';
import { loadSettings } from '../../services/shared/settings/settings.ts';
import { decodeFrame, SEGMENT_HEADER_BYTES, segmentFileName } from '../../services/shared/spool/format.ts';
import { listSpools } from '../../services/shared/spool/slots.ts';

export interface Answer {
  readonly status: number;
  readonly body: {
    readonly allow?: boolean;
    readonly code?: string;
    readonly detail?: string;
    readonly reasons?: readonly { readonly code: string; readonly message?: string }[];
    readonly errors?: readonly { readonly pointer: string }[];
    readonly policy?: PolicyNamed;
    readonly data?: { readonly revision: number; readonly digest: string };
    readonly result?: unknown;
    readonly responses?: readonly Answer['body'][];
  };
}

export interface PolicyNamed {
  readonly set?: string;
  readonly bundles?: readonly { readonly serial: number }[];
  readonly data?: { readonly revision: number; readonly digest: string };
}

export interface RecordedEvent {
  readonly type: string;
  readonly data: {
    readonly tenant: string;
    readonly policy?: PolicyNamed;
    readonly evaluation?: { readonly fuel_limit: number };
    readonly answer?: { readonly reasons: readonly { readonly code: string }[] };
  };
}

export interface SendOptions {
  readonly key?: string;
  readonly type?: string;
}

/** A decision point with a bundle file, a gateway and a feed of `acme`, a gateway of `globex`, and operators. */
export interface Pushing {
  readonly directory: string;
  readonly home: string;
  readonly bundleFile: string;
  readonly keys: Readonly<
    Record<'gateway' | 'pusher' | 'other' | 'operator' | 'operatorOfAcme', { readonly key: string }>
  >;
  /** Starts it, once again too; `more` are settings below `pdp`, `tenants` those of the tenants. Gives its URL. */
  readonly start: (more?: string, tenants?: string) => Promise<string>;
  readonly stop: () => Promise<void>;
  /** Stops it and removes all it has. */
  readonly remove: () => Promise<void>;
  readonly send: (url: string, method: string, path: string, body: unknown, options?: SendOptions) => Promise<Answer>;
  readonly decide: (url: string, id: string, more?: object, key?: string) => Promise<Answer>;
  /** What is in the spool, in order. */
  readonly events: () => readonly RecordedEvent[];
}

/** `brokers`: with Kafka. */
export const createPushing = (brokers: readonly string[] = []): Pushing => {
  const directory = mkdtempSync(join(tmpdir(), 'edict-pdp-data-'));
  const home = join(directory, 'home');
  const keys = {
    gateway: newApiKey(),
    pusher: newApiKey(),
    other: newApiKey(),
    operator: newApiKey(),
    operatorOfAcme: newApiKey(),
  };
  let pdp: Pdp | undefined;
  const stop = async (): Promise<void> => {
    await pdp?.close();
    pdp = undefined;
  };
  const send: Pushing['send'] = async (url, method, path, body, options = {}) => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${options.key ?? keys.pusher.key}`,
        ...(body === undefined ? {} : { 'content-type': options.type ?? 'application/json' }),
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as Answer['body'] };
  };
  return {
    directory,
    home,
    bundleFile: join(directory, 'policy.tar.gz'),
    keys,
    async start(more = '', tenants = '{acme: {}, globex: {}}') {
      const file = join(directory, 'edict.yaml');
      writeFileSync(join(directory, 'mask.key'), Buffer.alloc(32, 7));
      const caller = (id: string, tenant: string, role: string, stored: string): string =>
        `  - {id: ${id}, tenant: ${tenant}, roles: [${role}], requires_agent: false, api_keys: ["${stored}"]}\n`;
      writeFileSync(
        file,
        `home: home\npdp: {listen: "127.0.0.1:0", bundles: [policy.tar.gz], bundle_poll: 50ms, data_wait: 300ms${more}}\n` +
          (brokers.length === 0
            ? `tenants: ${tenants}\n`
            : `kafka: {brokers: ${JSON.stringify(brokers)}}\n` +
              `tenants: {acme: {mask_key_file: mask.key}, globex: {mask_key_file: mask.key}}\n`) +
          `callers:\n` +
          caller('gw', 'acme', 'decide', keys.gateway.stored) +
          caller('hr-feed', 'acme', 'data', keys.pusher.stored) +
          caller('gw-globex', 'globex', 'decide', keys.other.stored) +
          caller('operator', 'edict', 'operate', keys.operator.stored) +
          caller('op-acme', 'acme', 'operate', keys.operatorOfAcme.stored),
      );
      pdp = await startPdp(loadSettings({ file, environment: {} }).settings, {
        logger: createLogger({ service: 'pdp', level: 'silent' }),
        registry: createRegistry({ service: 'pdp', processMetrics: false }),
        loadBundle,
      });
      return pdp.url;
    },
    stop,
    async remove() {
      await stop();
      rmSync(directory, { recursive: true, force: true });
    },
    send,
    decide: (url, id, more = {}, key = keys.gateway.key) =>
      send(
        url,
        'POST',
        '/decide',
        { subject: { type: 'user', id }, action: { name: 'read' }, resource: { type: 'x', id: 'y' }, ...more },
        { key },
      ),
    events() {
      const [spool] = listSpools(home).spools;
      const bytes = readFileSync(join(spool?.directory ?? '', segmentFileName(0n)));
      const events: RecordedEvent[] = [];
      let at = SEGMENT_HEADER_BYTES;
      for (let frame = decodeFrame(bytes, at); frame.kind === 'frame'; frame = decodeFrame(bytes, at)) {
        events.push(JSON.parse(frame.event.toString()) as RecordedEvent);
        at += frame.frameBytes;
      }
      return events;
    },
  };
};
