import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { formatVkey, generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { partitionOf } from '../../../services/shared/kafka/client.ts';
import { kafkaProducer, type ProducerPort } from '../../../services/shared/kafka/sender.ts';
import type { AuditTrail } from '../../../services/pdp/audit-trail/audit-trail.ts';
import { HEARTBEATS } from '../../../services/pdp/audit-trail/heartbeats.ts';
import { listSpools } from '../../../services/shared/spool/slots.ts';
import { startKafka, type KafkaBroker } from '../../support/kafka.ts';
import { createFolders } from '../../shared/spool/spool-fixture.ts';
import { draft, openEmitter, spooled } from './emitter-fixture.ts';
import {
  createTopics,
  kafkaClient,
  openTrail,
  readTopic,
  startAcknowledging,
  until,
  type Received,
} from './trail-fixture.ts';

const folders = createFolders();
const { key: ackSigningKey } = generateSigningKey();
let broker: KafkaBroker;
let environment: Readonly<Record<string, string>>;

beforeAll(async () => {
  broker = await startKafka();
  const vkey = path.join(folders.create(), 'ack.vkey');
  writeFileSync(vkey, `${formatVkey('test-acks', ackSigningKey.publicKey)}\n`);
  environment = { EDICT_KAFKA_BROKERS: broker.brokers.join(','), EDICT_AUDIT_ACK_VKEY_FILES: vkey };
  await createTopics(kafkaClient(broker.brokers));
}, 60_000);
afterAll(async () => {
  await broker.close();
  folders.removeAll();
}, 60_000);

const nameOf = (event: { emitter: string; boot: string | bigint; tenant: string; sequence: bigint }): string =>
  `${event.emitter}/${event.boot}/${event.tenant}/${event.sequence}`;

/** One broker serves all tests: what came from the emitters of this one. */
const ofHome = (home: string, all: readonly Received[]): readonly Received[] => {
  const emitters = new Set(listSpools(home).spools.map(({ emitter }) => emitter));
  return all.filter(({ emitter }) => emitters.has(emitter));
};

/** Every record of the spools under `home` is on the topic, whole, and in the order of the spool. */
const expectAllReceived = async (home: string, all: readonly Received[]): Promise<void> => {
  const received = ofHome(home, all);
  const events = await spooled(home);
  const values = new Map(received.map((message) => [nameOf(message), message]));
  for (const event of events) {
    const message = values.get(nameOf({ ...event, emitter: event.source }));
    expect(message?.value.equals(event.bytes)).toBe(true);
    expect(message?.key).toBe(event.tenant);
    expect(message?.partition).toBe(partitionOf(event.tenant, 3));
  }
  expect(values.size).toBe(events.length);
  const numbers = new Map(events.map((event) => [nameOf({ ...event, emitter: event.source }), event.number]));
  // Duplicates may come late; the first of each must stand in the spool's order.
  const seen = new Set<string>();
  const last = new Map<string, bigint>();
  for (const message of received) {
    const name = nameOf(message);
    if (seen.has(name)) continue;
    seen.add(name);
    const lane = `${message.partition}/${message.emitter}`;
    const number = numbers.get(name) ?? -1n;
    expect(number).toBeGreaterThan(last.get(lane) ?? -1n);
    last.set(lane, number);
  }
};

const recordMany = async (trail: AuditTrail, count: number, everyTurn = 10): Promise<void> => {
  for (let i = 0; i < count; i += 1) {
    trail.record(draft(`tenant-${i % 5}`, `"answer":{"n":${i},"pad":"${'x'.repeat(300)}"}`));
    if (i % everyTurn === 0) await nextTurn();
  }
};

const distinct = (received: readonly Received[]): number => new Set(received.map(nameOf)).size;

describe('the relay', () => {
  it('brings every record to the topic, in order, and a slot without a worker too', async () => {
    const home = folders.create();
    const gone = await openEmitter(home);
    const other = await openEmitter(home);
    other.record(draft('tenant-of-the-other'));
    await other.close();
    await gone.close();
    const trail = await openTrail(home, { ...environment, EDICT_PDP_DURABILITY: 'broker' });
    const { durable } = trail.record(draft('acme'));
    expect(await durable).toBe('broker');
    await recordMany(trail, 1000);
    await trail.close();
    const reader = await readTopic(kafkaClient(broker.brokers));
    const events = await spooled(home);
    await until('all records', () => distinct(ofHome(home, reader.received)) >= events.length);
    await expectAllReceived(home, reader.received);
    await reader.close();
  }, 90_000);

  it('loses nothing and keeps the order when the broker is killed in the middle', async () => {
    const home = folders.create();
    const trail = await openTrail(home, environment);
    const reader = await readTopic(kafkaClient(broker.brokers));
    await recordMany(trail, 2000);
    await until('the first records', () => ofHome(home, reader.received).length > 500);
    const load = recordMany(trail, 4000);
    await broker.kill();
    await load;
    expect((await trail.checks.spool()).ok).toBe(true);
    await broker.restart();
    await recordMany(trail, 500);
    await until('the backlog to go', () => trail.status().lagRecords === 0);
    await trail.close();
    const events = await spooled(home);
    await until('all records', () => distinct(ofHome(home, reader.received)) >= events.length);
    await expectAllReceived(home, reader.received);
    await reader.close();
  }, 120_000);

  it.each(['in the middle', 'at the end'])(
    'sends a batch again that was acknowledged but lost, %s',
    async (where) => {
      const home = folders.create();
      let swallow = false;
      let swallowed = 0;
      const createProducer = (): ProducerPort => {
        const real = kafkaProducer(kafkaClient(broker.brokers));
        return {
          ...real,
          send: async (topic, partition, messages) => {
            if (!swallow || messages.every((message) => message.key !== 'victim'))
              return await real.send(topic, partition, messages);
            swallow = false;
            swallowed = messages.length;
            return [{ partition, errorCode: 0 }];
          },
        };
      };
      const trail = await openTrail(home, environment, {
        createProducer,
        resend: { holeMs: 300, silenceMs: 1000, maxPauseMs: 5000 },
        heartbeats: { ...HEARTBEATS, emitterMs: 500 },
      });
      const audit = await startAcknowledging(kafkaClient(broker.brokers), ackSigningKey);
      const victims = (count: number): void => {
        for (let i = 0; i < count; i += 1) trail.record(draft('victim'));
      };
      victims(20);
      await until('the first batch', () => trail.status().lagRecords === 0);
      swallow = true;
      victims(30);
      await until('the loss', () => !swallow && trail.status().lagRecords === 0);
      expect(swallowed).toBeGreaterThan(0);
      if (where === 'in the middle') victims(10);
      const total = where === 'in the middle' ? 60 : 50;
      const got = (): number =>
        new Set(
          ofHome(home, audit.received)
            .filter(({ tenant }) => tenant === 'victim')
            .map(({ sequence }) => sequence),
        ).size;
      await until('what was lost', () => got() === total);
      await trail.close();
      await audit.close();
    },
    90_000,
  );

  it('is not ready while nothing reaches Kafka, keeps what is recorded, and a later relay brings it', async () => {
    const home = folders.create();
    let nowMs = Date.now();
    await broker.kill();
    const trail = await openTrail(home, environment, { nowMs: () => nowMs });
    await recordMany(trail, 100);
    await until('a failure', () => trail.status().relay?.kafka.failure !== undefined);
    expect((await trail.checks.relay?.())?.ok).toBe(true);
    await until('the backlog', () => trail.status().relay?.slots[0]?.behindSinceMs !== undefined);
    nowMs += 120_000;
    expect((await trail.checks.relay?.())?.ok).toBe(false);
    await trail.close();
    await broker.restart();
    const again = await openTrail(home, environment);
    const reader = await readTopic(kafkaClient(broker.brokers));
    await until('the backlog', () => again.status().lagRecords === 0);
    await again.close();
    const events = await spooled(home);
    await until('all records', () => distinct(ofHome(home, reader.received)) >= events.length);
    await expectAllReceived(home, reader.received);
    await reader.close();
  }, 120_000);
});
