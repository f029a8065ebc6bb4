import { Kafka, logLevel } from 'kafkajs';
import { makeTopics } from '../../services/shared/kafka/topics.ts';
import { startKafka, type KafkaBroker } from './kafka.ts';

describe('a Kafka broker of one test', () => {
  let broker: KafkaBroker;
  beforeAll(async () => {
    broker = await startKafka();
  }, 60_000);
  afterAll(async () => {
    await broker.close();
  });

  it('keeps an acknowledged message and its port when it is killed, restarted and paused', async () => {
    const kafka = new Kafka({
      clientId: 'test',
      brokers: [...broker.brokers],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 100, maxRetryTime: 1_000 },
    });
    const admin = kafka.admin();
    const producer = kafka.producer();
    await Promise.all([admin.connect(), producer.connect()]);
    try {
      await makeTopics(admin, [{ topic: 'kept', numPartitions: 1 }]);
      await producer.send({ topic: 'kept', acks: -1, messages: [{ partition: 0, value: 'one' }] });
      await broker.kill();
      await broker.restart();
      expect(await admin.fetchTopicOffsets('kept')).toMatchObject([{ high: '1' }]);
      broker.pause();
      const sent = producer.send({ topic: 'kept', acks: -1, messages: [{ partition: 0, value: 'two' }] });
      broker.resume();
      await sent;
      expect(await admin.fetchTopicOffsets('kept')).toMatchObject([{ high: '2' }]);
    } finally {
      await Promise.all([admin.disconnect(), producer.disconnect()]);
    }
  }, 60_000);
});
