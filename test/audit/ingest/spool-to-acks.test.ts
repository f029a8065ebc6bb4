import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openAckKey } from '../../../services/audit/acks/ack-key.ts';
import { createAckPublisher, type AckPublisher } from '../../../services/audit/acks/ack-publisher.ts';
import { createFileSink } from '../../../services/audit/acks/file-sink.ts';
import type { EventSource } from '../../../services/audit/core/ingest-source.ts';
import { createIngest, type Ingest } from '../../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../../services/audit/ingest/metrics.ts';
import { readStreamsOf } from '../../../services/audit/ingest/statements.ts';
import { createFlush } from '../../../services/audit/postgres/ledger-writer.ts';
import { createSpoolSource } from '../../../services/audit/spool/spool-source.ts';
import { homePaths } from '../../../services/shared/settings/home.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { readAckFile } from '../../../services/shared/spool/ack-file.ts';
import { generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { releaseCovered } from '../../../services/shared/spool/release.ts';
import { listSpools } from '../../../services/shared/spool/slots.ts';
import { openSpoolWriter, type SpoolWriter } from '../../../services/shared/spool/writer.ts';
import { createEmitter, type MadeEvent } from '../core/ingest-fixtures.ts';
import { openTestLedger, silent, type LedgerHarness } from './fixtures.ts';

const until = async <T>(what: () => Promise<T> | T, isDone: (value: T) => boolean): Promise<T> => {
  for (const deadline = Date.now() + 20_000; ;) {
    const value = await what();
    if (isDone(value)) return value;
    if (Date.now() > deadline) throw new Error(`did not happen: ${JSON.stringify(value)}`);
    await sleep(20);
  }
};

interface Service {
  readonly ingest: Ingest;
  readonly acks: AckPublisher;
  readonly source: EventSource;
  readonly close: () => Promise<void>;
}

describe('from spools to acknowledgements', () => {
  let opened: Awaited<ReturnType<typeof openTestLedger>>;
  let harness: LedgerHarness;
  const services: Service[] = [];
  const writers: SpoolWriter[] = [];

  const startService = async ({ keepMs = 3_600_000 } = {}): Promise<Service> => {
    const { home, database, writeLedger } = harness;
    const paths = homePaths(home);
    const { key, verifier } = openAckKey(paths.ackKey, paths.ackVkey);
    const sink = createFileSink(home, verifier);
    const acks: AckPublisher = createAckPublisher({
      key,
      logs: () => ingest.logs(),
      streams: async (emitter, recent) =>
        readStreamsOf(
          database,
          await ingest.logs(),
          emitter,
          recent === undefined ? undefined : { ...recent, sinceUs: BigInt(Date.now() - keepMs) * 1_000n },
        ),
      flush: createFlush(database),
      sink,
      logger: silent,
      intervalMs: 20,
    });
    const ingest: Ingest = createIngest({
      database,
      writeLedger,
      nowUs: () => BigInt(Date.now()) * 1_000n,
      batch: 100,
      gapGraceMs: 60_000,
      pinned: [],
      isCommitDurable: true,
      onCommitted: (streams) => acks.changed(streams),
      logger: silent,
      metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
    });
    await ingest.reclaim(await sink.published());
    await acks.refresh();
    const source = createSpoolSource({ home, batch: 100, logger: silent, scanMs: 30 });
    await source.run(ingest);
    const service = {
      ingest,
      acks,
      source,
      close: async () => {
        ingest.close();
        await source.close();
        await acks.close();
      },
    };
    services.push(service);
    return service;
  };

  const openWriter = (emitter: string, slot: string): SpoolWriter => {
    const directory = path.join(homePaths(harness.home).emitters, slot, 'spool');
    mkdirSync(directory, { recursive: true });
    const writer = openSpoolWriter({
      directory,
      emitter,
      limits: {
        segmentBytes: 64 * 1024,
        maxBytes: 16 * 1024 * 1024,
        reserveBytes: 1024 * 1024,
        quotaBytes: () => 8 * 1024 * 1024,
        syncMs: 1,
      },
      nowMs: Date.now,
      onFailure: () => undefined,
    });
    writers.push(writer);
    return writer;
  };

  const append = (writer: SpoolWriter, event: MadeEvent): void => {
    writer.append({
      tenant: event.tenant,
      boot: BigInt(event.boot),
      sequence: BigInt(event.sequence),
      reserve: false,
      event: event.bytes.toString(),
      eventBytes: event.bytes.length,
      digest: '0'.repeat(64),
    });
  };

  const acksOf = (emitter: string) => {
    const { verifier } = openAckKey(homePaths(harness.home).ackKey, homePaths(harness.home).ackVkey);
    return readAckFile(harness.home, emitter, [verifier])?.acks ?? [];
  };

  beforeEach(async () => {
    opened = await openTestLedger(['edict', 'acme']);
    ({ harness } = opened);
  });
  afterEach(async () => {
    for (const service of services.splice(0)) await service.close();
    for (const writer of writers.splice(0)) await writer.close();
    await opened.close();
  });

  it('reads every slot, also one that comes later, and says what it has', async () => {
    await startService();
    const emitters = [createEmitter(), createEmitter(4n)];
    for (const [slot, emitter] of emitters.entries()) {
      const writer = openWriter(emitter.id, String(slot));
      for (let n = 0; n < 250; n += 1) append(writer, emitter.event(n % 2 === 0 ? 'acme' : 'edict'));
    }
    for (const emitter of emitters) {
      const acks = await until(
        () => acksOf(emitter.id),
        (found) => found.length === 2 && found.every(({ covered_to: to }) => to === '125'),
      );
      expect(acks.map(({ complete_to, holes }) => ({ complete_to, holes }))).toEqual([
        { complete_to: '125', holes: [] },
        { complete_to: '125', holes: [] },
      ]);
    }
    expect((await harness.kinds('acme')).filter((kind) => kind === 'decision')).toHaveLength(250);
  });

  it('shows a hole in the acknowledgement and closes it when the event is written again', async () => {
    await startService();
    const emitter = createEmitter();
    const writer = openWriter(emitter.id, '0');
    const events = [emitter.event('acme'), emitter.event('acme'), emitter.event('acme')];
    append(writer, events[0] as MadeEvent);
    append(writer, events[2] as MadeEvent);
    await until(
      () => acksOf(emitter.id),
      ([ack]) => ack?.complete_to === '1' && ack.holes.length === 1,
    );
    append(writer, events[1] as MadeEvent);
    await until(
      () => acksOf(emitter.id),
      ([ack]) => ack?.complete_to === '3' && ack.holes.length === 0,
    );
  });

  it('reads what lies behind damage in a spool that was moved aside, and says what it could not read', async () => {
    const emitter = createEmitter();
    const writer = openWriter(emitter.id, '0');
    for (let n = 0; n < 40; n += 1) {
      append(writer, emitter.event('acme'));
      await writer.whenSynced(BigInt(n));
    }
    await writers.splice(0)[0]?.close();
    const { emitters } = homePaths(harness.home);
    const file = path.join(emitters, '0', 'spool', readdirSync(path.join(emitters, '0', 'spool'))[0] ?? '');
    const bytes = readFileSync(file);
    const place = Math.floor(bytes.length / 2);
    bytes[place] = (bytes[place] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    renameSync(path.join(emitters, '0'), path.join(emitters, '0.damaged-now'));
    const { source } = await startService();
    await until(
      () => acksOf(emitter.id),
      ([ack]) => ack?.holes.length === 1 && ack.holes[0]?.[0] === ack.holes[0]?.[1],
    );
    await until(
      () => harness.streams(),
      ([stream]) => stream?.['highest'] === '40',
    );
    expect((await harness.kinds('acme')).filter((kind) => kind === 'decision')).toHaveLength(39);
    expect((await harness.kinds('edict')).filter((kind) => kind === 'gap')).toHaveLength(1);
    expect(source.health()).toMatchObject({ ok: false, note: expect.stringContaining('0.damaged-now: 1 damaged') });
    rmSync(path.join(emitters, '0.damaged-now'), { recursive: true });
    await until(
      () => source.health().ok,
      (ok) => ok,
    );
  });

  it('goes back with a restored database and reads again what the spool still has', async () => {
    const emitter = createEmitter();
    const writer = openWriter(emitter.id, '0');
    const first = await startService();
    for (let n = 0; n < 10; n += 1) append(writer, emitter.event('acme'));
    await until(
      () => acksOf(emitter.id),
      ([ack]) => ack?.covered_to === '10',
    );
    await services.splice(0)[0]?.close();
    expect(first.acks.failure()).toBeUndefined();
    // The older copy: a ledger that never heard of the emitter.
    const restored = await openTestLedger(['edict', 'acme']);
    const before = { opened, harness };
    const { home } = harness;
    harness = { ...restored.harness, home };
    await startService();
    await until(
      () => acksOf(emitter.id),
      ([ack]) => ack?.covered_to === '10',
    );
    expect((await harness.kinds('acme')).filter((kind) => kind === 'decision')).toHaveLength(10);
    for (const service of services.splice(0)) await service.close();
    await restored.close();
    ({ opened, harness } = before);
  });

  it('names a stream as long as the spool holds any of it, then leaves it out once nothing is expected of it', async () => {
    const { key } = generateSigningKey();
    const emitters = [createEmitter(1n, key), createEmitter(2n, key), createEmitter(3n, key)] as const;
    const writer = openWriter(emitters[0].id, '0');
    const boots = () => acksOf(emitters[0].id).map(({ boot, covered_to: to }) => `${boot}/${to}`);
    const { directory } = listSpools(harness.home).spools[0] ?? { directory: '' };
    await startService({ keepMs: -1_000 });
    for (const emitter of emitters) for (let n = 0; n < 100; n += 1) append(writer, emitter.event('acme'));
    // A hole keeps its stream, whatever the spool holds.
    append(writer, emitters[1].event('acme', { sequence: 102n }));
    await until(boots, (found) => String(found) === '1/100,2/100,3/100');
    expect(releaseCovered(directory, 0, Date.now() + 1_000, (boot) => boot === 1n)).toBeGreaterThan(0);
    append(writer, emitters[2].event('acme'));
    // The segment in which boot 1 ends and boot 2 begins is still there.
    await until(boots, (found) => String(found) === '1/100,2/100,3/101');
    expect(releaseCovered(directory, 0, Date.now() + 1_000, () => true)).toBeGreaterThan(0);
    append(writer, emitters[2].event('acme'));
    await until(boots, (found) => String(found) === '2/100,3/102');
    // A start with nothing new says the same.
    await services.splice(0)[0]?.close();
    await startService({ keepMs: -1_000 });
    expect(boots()).toEqual(['2/100', '3/102']);
    await services.splice(0)[0]?.close();
    // What changed lately stays too.
    await startService();
    expect(boots()).toEqual(['1/100', '2/100', '3/102']);
  });

  it('asks for what it acknowledged once and neither database nor spool have', async () => {
    const emitter = createEmitter();
    const writer = openWriter(emitter.id, '0');
    await startService();
    for (let n = 0; n < 5; n += 1) append(writer, emitter.event('acme'));
    await until(
      () => acksOf(emitter.id),
      ([ack]) => ack?.covered_to === '5',
    );
    await services.splice(0)[0]?.close();
    await writers.splice(0)[0]?.close();
    rmSync(homePaths(harness.home).emitters, { recursive: true });
    const restored = await openTestLedger(['edict', 'acme']);
    const before = { opened, harness };
    harness = { ...restored.harness, home: harness.home };
    await startService();
    await until(
      () => acksOf(emitter.id),
      ([ack]) => ack?.complete_to === '0' && String(ack.holes) === '1,5',
    );
    for (const service of services.splice(0)) await service.close();
    await restored.close();
    ({ opened, harness } = before);
  });
});
