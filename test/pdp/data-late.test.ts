import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKafkaClient } from '../../services/shared/kafka/client.ts';
import { createTopics } from '../../services/shared/kafka/topics.ts';
import { createLogger } from '../../services/shared/runtime/logger.ts';
import { loadSettings } from '../../services/shared/settings/settings.ts';
import { startKafka, type KafkaBroker } from '../support/kafka.ts';
import { makeBundle } from './policy/make-bundles.ts';
import { createPushing, type Pushing, type RecordedEvent } from './pushing.ts';

const REGO = `package edict

# METADATA
# entrypoint: true
decide := {"version": 1, "allow": allow, "reasons": [{"code": "told"}], "obligations": [], "advice": [], "legs": {"subject": allow}}

default allow := false

allow if data.users[input.subject.id]
`;

describe('a decision point that starts before its broker answers', () => {
  let broker: KafkaBroker;
  const open: Pushing[] = [];
  beforeAll(async () => {
    broker = await startKafka();
    const { settings } = loadSettings({ environment: {} });
    const logger = createLogger({ service: 'test', level: 'silent' });
    const kafka = createKafkaClient({ ...settings.kafka, brokers: [...broker.brokers] }, 'test', logger);
    await createTopics(kafka, { partitions: 2, replication: 1 });
  }, 60_000);
  afterAll(async () => {
    for (const each of open) await each.remove();
    await broker.close();
  }, 60_000);

  it('denies until it knows what was pushed, and records what decides before it decides', async () => {
    const bundle = await makeBundle({ rego: REGO });
    const [one, two] = [createPushing(broker.brokers), createPushing(broker.brokers)];
    open.push(one, two);
    for (const { bundleFile } of open) writeFileSync(bundleFile, bundle);
    const first = await one.start(', durability: spool');
    await one.send(first, 'PUT', '/v1/data/users/bob', true);
    const pushed = await one.send(first, 'PUT', '/v1/data/users/carol', true);
    expect(pushed).toMatchObject({ status: 200 });
    await one.stop();
    broker.pause();
    const url = await two.start(', durability: spool');
    expect(await two.decide(url, 'bob')).toMatchObject({ status: 503, body: { allow: false } });
    const red = await fetch(`${url}/health/ready`);
    expect([red.status, await red.text()]).toEqual([503, expect.stringContaining('what was pushed is not known')]);
    broker.resume();
    while ((await two.decide(url, 'bob')).status === 503) await sleep(50);
    expect((await two.decide(url, 'bob')).body).toMatchObject({ allow: true, policy: { data: pushed.body.data } });
    await two.decide(url, 'bob', {}, two.keys.other.key);
    await two.stop();
    const named = ({ data: { tenant, policy } }: RecordedEvent): string =>
      JSON.stringify([tenant, policy?.set, policy?.data]);
    const active: string[] = [];
    for (const event of two.events())
      if (event.type === 'edict.activation.v1') active.push(named(event));
      else if (event.type === 'edict.decision.v1') expect(active).toContain(named(event));
    // Nothing that never decided, and nothing twice.
    expect(active.filter((text) => text.includes('"acme"'))).toHaveLength(1);
    expect(new Set(active).size).toBe(active.length);
  }, 90_000);
});
