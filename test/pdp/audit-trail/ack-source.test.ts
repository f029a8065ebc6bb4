import { mkdirSync, renameSync } from 'node:fs';
import path from 'node:path';
import { createAckBook } from '../../../services/pdp/audit-trail/ack-book.ts';
import { createKafkaAckSource } from '../../../services/pdp/audit-trail/ack-source.ts';
import { ackKey, signAck, type Ack } from '../../../services/shared/contracts/ack.ts';
import { ACKS_TOPIC } from '../../../services/shared/contracts/events.ts';
import {
  formatVkey,
  generateSigningKey,
  parseVkey,
  type VerifierKey,
} from '../../../services/shared/contracts/signatures.ts';
import { createSender } from '../../../services/shared/kafka/sender.ts';
import { homePaths } from '../../../services/shared/settings/home.ts';
import { listSpools } from '../../../services/shared/spool/slots.ts';
import { startKafka, type KafkaBroker } from '../../support/kafka.ts';
import { createFolders } from '../../shared/spool/spool-fixture.ts';
import { logger } from './emitter-fixture.ts';
import { createTopics, kafkaClient, openTrail, until } from './trail-fixture.ts';

const folders = createFolders();
const { key } = generateSigningKey();
const verifier = parseVkey(formatVkey('acks', key.publicKey));
let broker: KafkaBroker;

beforeAll(async () => {
  broker = await startKafka();
  await createTopics(kafkaClient(broker.brokers));
}, 60_000);
afterAll(async () => {
  await broker.close();
  folders.removeAll();
}, 60_000);

const ackOf = (emitter: string): Ack =>
  signAck(key, {
    emitter,
    boot: '1',
    tenant: 'acme',
    complete_to: '7',
    holes: [],
    covered_to: '7',
    origin: 'o',
    tree_size: '9',
  });

/** A home with one spool, and its emitter. */
const madeHome = async (): Promise<{ readonly home: string; readonly emitter: string }> => {
  const home = folders.create();
  await (await openTrail(home)).close();
  return { home, emitter: listSpools(home).spools[0]?.emitter ?? '' };
};

describe('acks from Kafka', () => {
  it('count for the spools under home only, also for one that is put there later, and by the keys that are trusted now', async () => {
    const own = await madeHome();
    const moved = await madeHome();
    const foreign = Array.from({ length: 50 }, (_, n) => n.toString(16).padStart(32, '0'));
    const kafka = kafkaClient(broker.brokers);
    const sender = createSender({ kafka, topic: ACKS_TOPIC, logger });
    const published = [...foreign, moved.emitter, own.emitter].map(ackOf);
    await sender.send(
      0,
      published.map((ack) => ({ key: ackKey(ack), value: JSON.stringify(ack) })),
    );
    const other = parseVkey(formatVkey('other', generateSigningKey().key.publicKey));
    let trusted: readonly VerifierKey[] = [verifier];
    const acks = createAckBook();
    const source = createKafkaAckSource({
      home: own.home,
      kafka,
      acks,
      keys: () => trusted,
      nowMs: Date.now,
      logger,
    });
    try {
      // The own one is the last of the topic's only partition.
      await until('the own ack', () => acks.of(own.emitter, 1n, 'acme')?.coveredTo === 7n);
      expect([...foreign, moved.emitter].flatMap((emitter) => [...acks.streams(emitter)])).toEqual([]);
      mkdirSync(homePaths(own.home).emitters, { recursive: true });
      renameSync(path.join(homePaths(moved.home).emitters, '0'), path.join(homePaths(own.home).emitters, '1'));
      source.poll();
      await until('the ack of the spool that came', () => acks.of(moved.emitter, 1n, 'acme')?.coveredTo === 7n);
      expect(foreign.flatMap((emitter) => [...acks.streams(emitter)])).toEqual([]);
      trusted = [other];
      source.poll();
      expect([...acks.streams(own.emitter)]).toEqual([]);
      trusted = [other, verifier];
      source.poll();
      await until('the own ack again', () => acks.of(own.emitter, 1n, 'acme')?.coveredTo === 7n);
    } finally {
      await source.close();
      await sender.close();
    }
  }, 60_000);
});
