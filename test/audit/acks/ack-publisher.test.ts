import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs from 'kafkajs';
import { createAckPublisher, type AckPublisher } from '../../../services/audit/acks/ack-publisher.ts';
import { createKafkaSink } from '../../../services/audit/acks/kafka-sink.ts';
import type { Log } from '../../../services/audit/core/append.ts';
import type { AckedStream } from '../../../services/audit/core/ingest-stream.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { freePorts } from '../../support/free-ports.ts';
import { silent } from '../ingest/fixtures.ts';

const EMITTER = 'ab'.repeat(16);
const log: Log = { id: 1, tenant: 'acme', origin: 'ledger.test/acme/0/1' };
const stream: AckedStream = {
  tenant: 'acme',
  emitter: EMITTER,
  boot: 1n,
  highest: 9n,
  holes: [],
  state: 'active',
  coveredTo: 9n,
};

describe('the publisher of acknowledgements while no broker is there', () => {
  let publisher: AckPublisher;

  beforeEach(async () => {
    const [port] = await freePorts(1);
    const { key } = generateSigningKey();
    const verifier = parseVkey(formatVkey('acks', key.publicKey));
    // What the client tries once more nothing ends, so here it does so a moment only.
    const kafka = new kafkajs.Kafka({
      brokers: [`127.0.0.1:${port}`],
      retry: { initialRetryTime: 50, maxRetryTime: 100, retries: 2 },
      logLevel: kafkajs.logLevel.NOTHING,
    });
    publisher = createAckPublisher({
      key,
      logs: () => Promise.resolve(new Map([['acme', log]])),
      streams: () => Promise.resolve([stream]),
      flush: () => Promise.resolve(new Map([[1, 10n]])),
      sink: createKafkaSink({ kafka, verifier, groupId: 'acks', logger: silent }),
      logger: silent,
      intervalMs: 10,
      closeMs: 300,
    });
  });

  it('says so, although a publication is only late', async () => {
    publisher.changed([stream]);
    for (const deadline = Date.now() + 20_000; publisher.failure() === undefined; await sleep(20))
      if (Date.now() > deadline) throw new Error('no failure was named');
    expect(publisher.failure()).toMatch(/ECONNREFUSED|broker|Connection/i);
    await publisher.close();
  }, 30_000);

  it('closes in bounded time, with publications on their way', async () => {
    const refreshed = expect(publisher.refresh()).rejects.toThrow();
    publisher.changed([stream]);
    await sleep(100);
    const startedMs = performance.now();
    await publisher.close();
    expect(performance.now() - startedMs).toBeLessThan(5_000);
    await refreshed;
  }, 30_000);
});
