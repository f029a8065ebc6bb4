import { setTimeout as sleep } from 'node:timers/promises';
import { openAckKey } from '../../../services/audit/acks/ack-key.ts';
import { createAckPublisher, type AckPublisher } from '../../../services/audit/acks/ack-publisher.ts';
import { createFileSink } from '../../../services/audit/acks/file-sink.ts';
import { followCheckpoints, markFlushed } from '../../../services/audit/ingest/coverage.ts';
import { createIngest, type Ingest } from '../../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../../services/audit/ingest/metrics.ts';
import { readNewestLogs, readStreamsOf } from '../../../services/audit/ingest/statements.ts';
import { createFlush } from '../../../services/audit/postgres/ledger-writer.ts';
import { createLedgerReader } from '../../../services/audit/postgres/read-ledger.ts';
import { generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { createRegistry } from '../../../services/shared/runtime/metrics.ts';
import { homePaths } from '../../../services/shared/settings/home.ts';
import { readAckFile } from '../../../services/shared/spool/ack-file.ts';
import { createEmitter, messageOf, type EventOptions } from '../core/ingest-fixtures.ts';
import { silent } from '../ingest/fixtures.ts';
import { openSigningFixture, type SigningFixture } from '../signer/signing-fixture.ts';

describe('what is covered', () => {
  let fixture: SigningFixture;
  let ingest: Ingest;
  let emitter: ReturnType<typeof createEmitter>;
  let offset = 0n;

  const ingestOf = (onCommitted: Parameters<typeof createIngest>[0]['onCommitted'] = () => undefined): Ingest =>
    createIngest({
      database: fixture.ledger.as('writer'),
      writeLedger: fixture.ledger.write,
      nowUs: () => BigInt(Date.now()) * 1_000n,
      batch: 100,
      gapGraceMs: 60_000,
      pinned: [],
      isCommitDurable: true,
      onCommitted,
      logger: silent,
      metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
    });

  const take = async (count: number, options?: EventOptions): Promise<void> => {
    const messages = Array.from({ length: count }, (_, n) =>
      messageOf(emitter.event('acme', options), offset + BigInt(n)),
    );
    offset += BigInt(count);
    await ingest.take(messages, () => Promise.resolve(true));
  };

  const streamsOf = async () => {
    const writer = fixture.ledger.as('writer');
    return await readStreamsOf(writer, await readNewestLogs(writer));
  };
  const covered = async (): Promise<unknown> => (await streamsOf()).map(({ coveredTo }) => Number(coveredTo));
  const follow = () => followCheckpoints(fixture.ledger.as('writer'));

  beforeEach(async () => {
    fixture = await openSigningFixture();
    ingest = ingestOf();
    emitter = createEmitter();
    offset = 0n;
  });
  afterEach(async () => {
    ingest.close();
    await fixture.ledger.close();
  });

  it('is what is committed as long as the log has no checkpoint, also when nobody signs its seals', async () => {
    await take(5);
    expect(await covered()).toEqual([5]);
    await fixture.sealer.sealAll();
    expect(await follow()).toEqual([]);
    await take(2);
    expect(await covered()).toEqual([7]);
  });

  it('is what a checkpoint covers once there is one, and stays there while nobody signs', async () => {
    const { sealer, newSigner, ledger } = fixture;
    await take(5);
    await sealer.sealAll();
    await newSigner().signAll();
    expect(await follow()).toEqual([]);
    await take(3);
    expect(await covered()).toEqual([5]);
    await sealer.sealAll();
    await take(1);
    expect(await follow()).toEqual([]);
    expect(await covered()).toEqual([5]);
    await newSigner().signAll();
    expect(await follow()).toEqual([{ emitter: emitter.id, boot: 1n }]);
    // The ninth came behind the seal.
    expect(await covered()).toEqual([8]);
    expect(await follow()).toEqual([]);
    // A stream that begins now has nothing in any checkpoint.
    emitter = createEmitter(2n);
    await take(4);
    expect(await covered()).toEqual(expect.arrayContaining([8, 0]));
    await sealer.sealAll();
    await newSigner().signAll();
    expect(await follow()).toHaveLength(2);
    expect(await covered()).toEqual(expect.arrayContaining([9, 4]));
    // What `edict audit emitter` shows.
    const reader = createLedgerReader({ database: ledger.as('reader_all'), keys: ledger.keys });
    const shown = (await reader.emitters('acme')).flatMap(({ boots }) => boots);
    expect(shown.map(({ completeTo, coveredTo }) => `${completeTo}/${coveredTo}`).sort()).toEqual(['4/4', '9/9']);
  });

  it('waits for the first checkpoint of a new incarnation where the log before it was signed', async () => {
    const { sealer, newSigner, ledger } = fixture;
    await take(5);
    await sealer.sealAll();
    await newSigner().signAll();
    const { id } = await ledger.createTenant('acme', true);
    ingest.close();
    ingest = ingestOf();
    await take(3);
    expect(await covered()).toEqual([5]);
    const writer = ledger.as('writer');
    const claimed = (await streamsOf()).map((stream) => ({ ...stream, coveredTo: 8n }));
    await markFlushed(writer, await readNewestLogs(writer), claimed);
    expect(
      await writer.query('select covered_to::text as covered from edict.stream where log_id = $1::int', [id]),
    ).toEqual([{ covered: '5' }]);
    emitter = createEmitter(2n);
    await take(2);
    expect(await covered()).toEqual(expect.arrayContaining([5, 0]));
    await sealer.sealAll();
    await newSigner().signAll();
    expect(await follow()).toHaveLength(2);
    expect(await covered()).toEqual(expect.arrayContaining([8, 2]));
  });

  it('does not pass a hole', async () => {
    const { sealer, newSigner } = fixture;
    await take(2);
    await sealer.sealAll();
    await newSigner().signAll();
    await take(1, { sequence: 5n, previous: 'ab'.repeat(32) });
    await sealer.sealAll();
    await newSigner().signAll();
    await follow();
    expect(await covered()).toEqual([2]);
  });

  it('is caught up with where a mark was missed, and never runs ahead of the signer', async () => {
    const { sealer, newSigner } = fixture;
    for (const isSigned of [true, true, false]) {
      await take(2);
      await sealer.sealAll();
      if (isSigned) await newSigner().signAll();
    }
    // Nobody followed: the mark is that of the first commit, and the newest seal is not signed.
    expect(await follow()).toEqual([]);
    expect(await covered()).toEqual([2]);
    await newSigner().signAll();
    await follow();
    expect(await covered()).toEqual([6]);
  });

  it('is not what a checkpoint says that the log’s key did not sign', async () => {
    const { sealer, newSigner, ledger } = fixture;
    await take(2);
    await sealer.sealAll();
    await newSigner().signAll();
    await take(2);
    await sealer.sealAll();
    await ledger.as('admin').query(
      `insert into edict.checkpoint (log_id, size, root, note, signed_us)
       select c.log_id, h.size, c.root, c.note, c.signed_us from edict.checkpoint c
       join edict.log_head h using (log_id) where c.log_id = $1`,
      [ledger.log.id],
    );
    expect(await follow()).toEqual([]);
    expect(await covered()).toEqual([2]);
  });

  it('goes out in an acknowledgement when it moves, also for a stream of which nothing is expected', async () => {
    const { sealer, newSigner, ledger } = fixture;
    const writer = ledger.as('writer');
    const paths = homePaths(ledger.folder);
    const { verifier } = openAckKey(paths.ackKey, paths.ackVkey);
    const acks: AckPublisher = createAckPublisher({
      key: openAckKey(paths.ackKey, paths.ackVkey).key,
      logs: () => readNewestLogs(writer),
      // Nothing is recent.
      streams: async (id, recent) =>
        readStreamsOf(
          writer,
          await readNewestLogs(writer),
          id,
          recent === undefined ? undefined : { ...recent, sinceUs: BigInt(Date.now() + 60_000) * 1_000n },
        ),
      flush: createFlush(writer),
      sink: createFileSink(ledger.folder, verifier),
      logger: silent,
      intervalMs: 10,
    });
    const { key } = generateSigningKey();
    try {
      ingest = ingestOf((streams) => acks.changed(streams));
      const said = async (wanted: string): Promise<void> => {
        const now = (): string =>
          (readAckFile(ledger.folder, emitter.id, [verifier])?.acks ?? [])
            .map((ack) => `${ack.boot}:${ack.complete_to}/${ack.covered_to}`)
            .join(' ');
        for (const deadline = Date.now() + 20_000; now() !== wanted; await sleep(10))
          if (Date.now() > deadline) throw new Error(`says ${now()}, not ${wanted}`);
      };
      emitter = createEmitter(1n, key);
      await take(1);
      await said('1:1/1');
      await sealer.sealAll();
      await newSigner().signAll();
      await take(1);
      await take(1, { type: 'edict.heartbeat.v1', data: { state: 'final', recovered: [] } });
      await said('1:3/1');
      await sealer.sealAll();
      await newSigner().signAll();
      acks.changed(await follow());
      await said('1:3/3');
      emitter = createEmitter(2n, key);
      await take(1);
      await said('2:1/0');
    } finally {
      await acks.close();
    }
  });
});
