import type { Kafka } from 'kafkajs';
import { createSender, type ProducerPort } from '../../../services/shared/kafka/sender.ts';
import { createLogger } from '../../../services/shared/runtime/logger.ts';

const TOPIC = 'edict.decisions.v1';

/** Only what the sender asks a client for by itself: how many partitions there are. */
const kafka = {
  admin: () => ({
    connect: () => Promise.resolve(),
    fetchTopicMetadata: () => Promise.resolve({ topics: [{ name: TOPIC, partitions: [{}] }] }),
    disconnect: () => Promise.resolve(),
  }),
} as unknown as Kafka;

describe('sender', () => {
  it('gives up a request that the broker never answers when it is closed', async () => {
    let asked: () => void = () => undefined;
    const sending = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const silent: ProducerPort = {
      connect: () => Promise.resolve(),
      send: () => {
        asked();
        return new Promise(() => undefined);
      },
      disconnect: () => Promise.resolve(),
    };
    const sender = createSender({
      kafka,
      topic: TOPIC,
      logger: createLogger({ service: 'test', level: 'silent' }),
      createProducer: () => silent,
    });
    const sent = expect(sender.send(0, [{ key: 'acme', value: 'event' }])).rejects.toMatchObject({
      code: 'kafka_unavailable',
    });
    await sending;
    await sender.close();
    await sent;
  }, 5_000);
});
