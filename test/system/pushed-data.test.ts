import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { newApiKey } from '../../services/shared/callers/api-keys.ts';
import { createKafkaClient } from '../../services/shared/kafka/client.ts';
import { createTopics } from '../../services/shared/kafka/topics.ts';
import { createLogger } from '../../services/shared/runtime/logger.ts';
import { loadSettings } from '../../services/shared/settings/settings.ts';
import { makeBundle } from '../pdp/policy/make-bundles.ts';
import { edictProcess, type EdictProcess } from '../support/edict-process.ts';
import { freePorts } from '../support/free-ports.ts';
import { startKafka, type KafkaBroker } from '../support/kafka.ts';

const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": allow, "reasons": [{"code": "told"}], "obligations": [], "advice": [], "legs": {"subject": allow}}

default allow := false

allow if input.subject.id in data.users
`;

interface Answered {
  readonly status: number;
  readonly allow?: boolean;
  readonly policy?: { readonly data?: unknown };
  readonly data?: { readonly revision: number; readonly digest: string };
}

describe('two decision points and a broker', () => {
  let folder: string;
  let broker: KafkaBroker;
  const key = newApiKey();
  const processes: EdictProcess[] = [];

  const send = async (url: string, method: string, at: string, body: unknown): Promise<Answered> => {
    const response = await fetch(`${url}${at}`, {
      method,
      headers: { authorization: `Bearer ${key.key}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    return { ...((await response.json()) as object), status: response.status };
  };
  const decide = (url: string, id: string, revision?: number): Promise<Answered> =>
    send(url, 'POST', '/decide', {
      subject: { type: 'user', id },
      action: { name: 'read' },
      resource: { type: 'x', id: 'y' },
      ...(revision === undefined ? {} : { at_least: { data_revision: revision } }),
    });

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'edict-two-'));
    broker = await startKafka();
    const { settings } = loadSettings({ environment: {} });
    const logger = createLogger({ service: 'test', level: 'silent' });
    await createTopics(createKafkaClient({ ...settings.kafka, brokers: [...broker.brokers] }, 'test', logger), {
      partitions: 3,
      replication: 1,
    });
    writeFileSync(path.join(folder, 'policy.tar.gz'), await makeBundle({ rego: REGO }));
    for (const port of await freePorts(2)) {
      const own = path.join(folder, String(port));
      const configFile = path.join(folder, `${port}.yaml`);
      const mask = path.join(folder, 'mask.key');
      writeFileSync(mask, Buffer.alloc(32, 7));
      const caller = {
        id: 'gw',
        tenant: 'acme',
        roles: ['decide', 'data'],
        requires_agent: false,
        api_keys: [key.stored],
      };
      writeFileSync(
        configFile,
        JSON.stringify({
          home: own,
          pdp: { listen: `127.0.0.1:${port}`, bundles: ['policy.tar.gz'], data_wait: '5s' },
          kafka: { brokers: broker.brokers },
          tenants: { acme: { mask_key_file: mask } },
          callers: [caller],
        }),
      );
      processes.push(edictProcess({ service: 'pdp', url: `http://127.0.0.1:${port}`, configFile, folder: own }));
    }
  }, 90_000);
  afterAll(async () => {
    for (const each of processes) await each.kill9();
    await broker.close();
    rmSync(folder, { recursive: true, force: true });
  }, 60_000);

  it('decide alike under one revision, through a kill and a start', async () => {
    const [one, two] = processes as [EdictProcess, EdictProcess];
    await one.start();
    await two.start();
    const pushed = await send(one.url, 'PUT', '/v1/data/users', ['bob']);
    expect(pushed).toMatchObject({ status: 200, data: { revision: expect.any(Number) as number } });
    const revision = pushed.data?.revision ?? -1;
    expect(await decide(one.url, 'bob')).toMatchObject({ status: 200, allow: true, policy: { data: pushed.data } });
    expect(await decide(two.url, 'bob', revision)).toMatchObject({ allow: true, policy: { data: pushed.data } });
    await one.kill9();
    const removed = await send(two.url, 'PATCH', '/v1/data', [{ op: 'replace', path: '/users/0', value: 'carol' }]);
    expect(removed).toMatchObject({ status: 200, data: { revision: revision + 1 } });
    await one.start();
    // It is ready only when it read the stream to its end.
    expect(await decide(one.url, 'bob')).toMatchObject({ allow: false, policy: { data: removed.data } });
    expect(await decide(one.url, 'carol')).toMatchObject({ allow: true, policy: { data: removed.data } });
  }, 90_000);
});
