import type { Kafka } from 'kafkajs';
import { createKafkaSource } from '../../../services/audit/kafka/kafka-source.ts';
import type { SourceHandler } from '../../../services/audit/core/ingest-source.ts';
import { silent } from '../ingest/fixtures.ts';

const handler: SourceHandler = {
  positions: () => Promise.resolve(new Map()),
  take: () => Promise.resolve({ nextOffset: 0n, fenced: false }),
  reconcile: () => Promise.resolve(0n),
};

/** A client whose sessions begin at once and end when told to; counts how often each asked for the topic's ends. */
const createClient = () => {
  const asked: number[] = [];
  let crash: (event: { readonly payload: { readonly error: Error } }) => void = () => undefined;
  let noticed: () => void = () => undefined;
  const done = (): Promise<void> => Promise.resolve();
  const kafka = {
    admin: () => {
      const session = asked.push(0) - 1;
      return {
        connect: done,
        disconnect: done,
        fetchTopicOffsets: () => {
          asked[session] = (asked[session] ?? 0) + 1;
          noticed();
          return Promise.resolve([{ partition: 0, low: '0', high: '0' }]);
        },
      };
    },
    consumer: () => ({
      events: { CRASH: 'crash', GROUP_JOIN: 'join' },
      on: (name: string, listener: typeof crash) => {
        if (name === 'crash') crash = listener;
      },
      connect: done,
      subscribe: done,
      run: done,
      disconnect: done,
    }),
  } as unknown as Kafka;
  const untilAsked = async (session: number, times: number): Promise<void> => {
    while ((asked[session] ?? 0) < times)
      await new Promise<void>((resolve) => {
        noticed = resolve;
      });
  };
  return { kafka, asked, untilAsked, crash: () => crash({ payload: { error: new Error('left the group') } }) };
};

describe('a session of the Kafka source', () => {
  it('asks the broker nothing more once it is over', async () => {
    const client = createClient();
    const source = createKafkaSource({ kafka: client.kafka, topic: 'events', groupId: 'g', logger: silent, pollMs: 1 });
    await source.run(handler);
    try {
      await client.untilAsked(0, 5);
      client.crash();
      const before = client.asked[0] ?? 0;
      await client.untilAsked(1, 20);
      // One question may have been on its way.
      expect(client.asked[0]).toBeLessThanOrEqual(before + 1);
    } finally {
      await source.close();
    }
  });
});
