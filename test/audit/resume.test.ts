/** A real Postgres that is set back to an older copy of itself, with the signer's memory, the key store and the emitters as they were. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { decodeEntry, leafHash } from '../../services/audit/core/entry.ts';
import { freshIds } from '../../services/audit/core/own-entry.ts';
import { openPayloads } from '../../services/audit/core/query-reader.ts';
import type { VerificationReport } from '../../services/audit/core/verify-report.ts';
import { createIngest, type Ingest } from '../../services/audit/ingest/ingest.ts';
import { createIngestMetrics } from '../../services/audit/ingest/metrics.ts';
import { createSealer } from '../../services/audit/ingest/seals.ts';
import { connectPostgres } from '../../services/audit/postgres/connect.ts';
import { keyStoreMigrations, ledgerMigrations, migrate } from '../../services/audit/postgres/migrate.ts';
import { createLedgerReader } from '../../services/audit/postgres/read-ledger.ts';
import { readSigningState } from '../../services/audit/postgres/read-checkpoints.ts';
import { createTileReader } from '../../services/audit/postgres/read-tiles.ts';
import { createVerifier } from '../../services/audit/postgres/read-verification.ts';
import { createSignerStore } from '../../services/audit/postgres/meta-store.ts';
import { resumeLedger, tenantsToResume } from '../../services/audit/resume.ts';
import { createTenantLedger, openLedgerStore, type LedgerStore } from '../../services/audit/store.ts';
import { parseVkey } from '../../services/shared/contracts/signatures.ts';
import { homePaths } from '../../services/shared/settings/home.ts';
import { loadSettings, type Settings } from '../../services/shared/settings/settings.ts';
import { openCheckpoint } from '../../services/shared/tlog/checkpoint.ts';
import { inclusionProof, rootOfInclusion } from '../../services/shared/tlog/proofs.ts';
import { createRegistry } from '../../services/shared/runtime/metrics.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { createEmitter, messageOf, type MadeEvent } from './core/ingest-fixtures.ts';
import { silent } from './ingest/fixtures.ts';
import { signerIn } from './signer/signing-fixture.ts';

const HOUR_MS = 3_600_000;
const nowUs = (): bigint => BigInt(Date.now()) * 1_000n;

let partition = 0;

/** The services of one database, in this process. */
const openServices = async (settings: Settings, memoryFolder: string) => {
  const store = await openLedgerStore(settings, { role: 'owner' });
  const ingest: Ingest = createIngest({
    database: store.database,
    writeLedger: store.write,
    nowUs,
    batch: 50,
    gapGraceMs: 60_000,
    pinned: [],
    isCommitDurable: true,
    onCommitted: () => undefined,
    logger: silent,
    metrics: createIngestMetrics(createRegistry({ service: 'audit', processMetrics: false })),
  });
  const sealer = createSealer({
    database: store.database,
    writeLedger: store.write,
    logs: ingest.logs,
    ids: freshIds(),
  });
  const signing = createSignerStore({
    database: store.database,
    keys: store.keys,
    transaction: (work) => store.write(({ sql }) => work(sql)),
  });
  const signer = signerIn(homePaths(settings.home).ledgerKeys, memoryFolder, signing);
  return {
    store,
    ingest,
    signer,
    /** Each time from a partition of its own: what a source lost is another matter. */
    take: async (events: readonly MadeEvent[]) => {
      partition += 1;
      const messages = events.map((event, index) => messageOf(event, BigInt(index), { topic: 'again', partition }));
      await ingest.positions('again');
      await ingest.take(messages, () => Promise.resolve(true));
    },
    sign: async () => {
      await sealer.sealAll();
      await signer.signAll();
      await sealer.enterAlarms();
    },
    verify: (tenant: string) =>
      createVerifier({
        database: store.database,
        reports: store.database,
        keys: store.keys,
        nameForSearch: store.nameForSearch,
        graceMs: 60_000,
        placeKey: Buffer.alloc(32, 1),
        now: () => Date.now() + HOUR_MS,
      })(tenant, {}),
    close: async () => {
      ingest.close();
      await store.close();
    },
  };
};
type Services = Awaited<ReturnType<typeof openServices>>;

const redOf = ({ verdicts }: VerificationReport): readonly string[] =>
  Object.entries(verdicts)
    .filter(([, { status }]) => status === 'failed')
    .map(([name]) => name);

const decisionsOf = async ({ database, keys }: LedgerStore, tenant: string): Promise<readonly string[]> => {
  const reader = createLedgerReader({ database, keys });
  const [log] = await reader.logs(tenant);
  const found: string[] = [];
  for await (const { log: of, eventId } of reader.decisions(
    tenant,
    {},
    { order: 'oldest', asOf: { logId: log!.id, size: log!.size } },
  ))
    found.push(`${of.origin.at(-1)} ${eventId}`);
  return found;
};

/** The note of the newest checkpoint, and what an auditor keeps of one entry: header, path. */
const heldProof = async ({ database }: LedgerStore, logId: number, seq: bigint) => {
  const tiles = createTileReader(database);
  const newest = (await tiles.newest(logId))!;
  const proof = await inclusionProof(seq, newest.size, (level, from, count) => tiles.hashes(logId, level, from, count));
  const [header] = await tiles.entries(logId, seq, 1);
  return { note: newest.note, size: newest.size, proof, header: header!, seq };
};

describe('a database that is restored from an older copy', () => {
  let folder: string;
  let live: TestDatabase;
  let backup: TestDatabase;
  let keyStore: TestDatabase;
  let services: Services;
  const emitter = createEmitter();
  const events = Array.from({ length: 10 }, () => emitter.event('acme'));
  const memoryFolder = () => path.join(folder, 'signer-memory');

  const settingsOn = ({ adminUrl }: TestDatabase): Settings => {
    const secret = (name: string, content: string | Uint8Array): string => {
      const file = path.join(folder, name);
      writeFileSync(file, content);
      return file;
    };
    const ledger = secret('ledger.url', adminUrl);
    const file = secret(
      'edict.json',
      JSON.stringify({
        home: path.join(folder, 'home'),
        database: {
          owner_url_file: ledger,
          writer_url_file: ledger,
          reader_url_file: ledger,
          signer_url_file: ledger,
          keys_url_file: secret('keys.url', keyStore.adminUrl),
        },
        audit: { master_key_file: path.join(folder, 'master.key') },
        ledger: { authority: 'ledger.test' },
        signer: { memory_dir: path.join(folder, 'elsewhere') },
      }),
    );
    return loadSettings({ file, environment: {} }).settings;
  };

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-resume-'));
    mkdirSync(memoryFolder());
    writeFileSync(path.join(folder, 'master.key'), randomBytes(32));
    [live, keyStore] = await Promise.all([createTestDatabase(), createTestDatabase()]);
    for (const [url, set] of [
      [live.adminUrl, ledgerMigrations()],
      [keyStore.adminUrl, keyStoreMigrations()],
    ] as const) {
      const database = connectPostgres(url, { poolSize: 1 });
      await migrate(database, set);
      await database.close();
    }
  });
  afterAll(async () => {
    await services.close();
    await Promise.all([live.close(), backup.close(), keyStore.close()]);
    rmSync(folder, { recursive: true, force: true });
  });

  let held: Awaited<ReturnType<typeof heldProof>>;
  let kept: Awaited<ReturnType<typeof heldProof>>;
  let vkey: string;
  let logId: number;

  it('goes on as if nothing were, until the signer is asked to sign', async () => {
    services = await openServices(settingsOn(live), memoryFolder());
    for (const tenant of ['edict', 'acme', 'globex'])
      await createTenantLedger(settingsOn(live), services.store, tenant);
    const log = (await createTenantLedger(settingsOn(live), services.store, 'acme')).log;
    ({ vkey, id: logId } = log);
    await services.take([createEmitter().event('edict', { type: 'edict.start.v1' }), ...events.slice(0, 5)]);
    await services.sign();
    kept = await heldProof(services.store, logId, 2n);
    // Not signed yet when the copy is made: it is in the copy, and nothing proves that it is. Of number 7 there is only
    // a quarantine entry.
    await services.take([...events.slice(5, 6), { ...events[6]!, bytes: Buffer.from('no JSON') }]);
    await services.close();

    backup = await createTestDatabase({ copyOf: live.name });
    services = await openServices(settingsOn(live), memoryFolder());
    await services.take(events.slice(6, 9));
    await services.sign();
    held = await heldProof(services.store, logId, 7n);
    expect([kept.size, held.size]).toEqual([7n, 13n]);
    await services.close();

    services = await openServices(settingsOn(backup), memoryFolder());
    await services.take(events.slice(9));
    await services.sign();
    expect([...services.signer.refused()]).toEqual([
      ['ledger.test/acme/0/1', expect.stringMatching(/^log_(rewound|forked): .*`edict ledger resume acme --reason/)],
      ['ledger.test/-/meta/1', expect.stringMatching(/^log_(rewound|forked): .*`edict ledger resume edict --reason/)],
    ]);
    expect(await tenantsToResume(services.store)).toEqual(['edict', 'acme']);
    const { alarms } = await readSigningState(services.store.database, nowUs());
    expect(alarms).toHaveLength(2);
  });

  it('refuses to resume what the signer does not refuse, and a note of another key', async () => {
    const { store } = services;
    const operator = { reason: 'restore drill', by: 'ops' };
    await expect(resumeLedger(settingsOn(backup), store, 'globex', operator)).rejects.toMatchObject({ code: 'usage' });
    await expect(
      resumeLedger(settingsOn(backup), store, 'acme', {
        ...operator,
        checkpoint: Buffer.from(Buffer.from(held.note).toString('utf8').replace('\n13\n', '\n14\n')),
      }),
    ).rejects.toMatchObject({ code: 'usage' });
  });

  it('goes on in a new incarnation that names what was signed, and closes the old log for ever', async () => {
    const { store, verify } = services;
    const { created, source } = await resumeLedger(settingsOn(backup), store, 'acme', {
      reason: 'disk of db-1 died; copy of 02:00',
      by: 'ops',
    });
    // Of the system tenant nothing was lost but the leaves of the meta log, which goes with its log.
    const system = await resumeLedger(settingsOn(backup), store, 'edict', { reason: 'copy of 02:00', by: 'ops' });
    expect(system.created).toMatchObject({ log: { incarnation: 2 }, meta: { isNew: true } });
    const signed = openCheckpoint(held.note, parseVkey(vkey))!;
    expect(source).toBe('the signer’s alarm');
    expect(created).toMatchObject({
      isNew: true,
      log: { origin: 'ledger.test/acme/0/2', incarnation: 2 },
      continued: { previous: { origin: 'ledger.test/acme/0/1', size: signed.size }, kept: 7n },
    });
    expect(Buffer.from(created.continued!.previous.root)).toEqual(Buffer.from(signed.root));

    const rows = await store.database.query<{ seq: bigint; header: Buffer; ciphertext: Buffer }>(
      `select e.seq, e.header, p.ciphertext from edict.entry e join edict.payload p using (log_id, segment, seq)
       where log_id = $1::int`,
      [created.log.id],
    );
    const [payload] = await openPayloads(store.keys, created.log, rows);
    expect(JSON.parse(Buffer.from(payload?.state === 'opened' ? payload.payload : []).toString())).toMatchObject({
      previous: { origin: 'ledger.test/acme/0/1', size: '13', root: Buffer.from(signed.root).toString('hex') },
      resumed: { reason: 'disk of db-1 died; copy of 02:00', by: 'ops', kept: '7' },
      streams: [{ emitter: emitter.id, boot: '1', highest: '10', holes: [['6', '10']] }],
    });

    const copy = `insert into edict.entry select log_id, segment, seq + 1, header, leaf from edict.entry`;
    for (const sql of [
      `update edict.log_head set size = size + 1 where log_id = ${logId}`,
      `${copy} where log_id = ${logId} order by seq desc limit 1`,
      `insert into edict.payload select log_id, segment, 900, ciphertext from edict.payload where log_id = ${logId} limit 1`,
      `set session_replication_role = replica; update edict.log_head set size = size + 1 where log_id = ${logId}`,
    ])
      await expect(store.database.query(sql)).rejects.toMatchObject({ message: expect.stringContaining('is closed') });
    const [old] = (await verify('acme')).filter(({ origin }) => origin.endsWith('/1'));
    expect(redOf(old!)).toEqual(['append_only']);
  });

  it('has everything again once the emitters sent it again, each event once', async () => {
    const { store, take, sign, signer } = services;
    // The ones before the place of the restore too, as after a reset of offsets.
    await take(events);
    await take(events.slice(0, 3));
    expect(await decisionsOf(store, 'acme')).toEqual(events.map(({ id }, index) => `${index < 5 ? 1 : 2} ${id}`));
    expect(
      await store.database.query(
        `select highest::text as highest, complete_to::text as complete_to, holes from edict.stream
         where log_id <> $1::int and emitter = $2::text`,
        [logId, emitter.id],
      ),
    ).toEqual([{ highest: '10', complete_to: '10', holes: [] }]);
    await sign();
    expect([...signer.refused()]).toEqual([]);
    expect(await tenantsToResume(store)).toEqual([]);
    expect(await readSigningState(store.database, nowUs())).toMatchObject({ logs: 3, signed: 3, alarms: [] });
  });

  it('verifies both incarnations and their link, and says for ever what was lost', async () => {
    for (let time = 0; time < 2; time += 1) {
      const [next, old] = await services.verify('acme');
      expect([next!.origin, redOf(next!), next!.findings]).toEqual(['ledger.test/acme/0/2', [], []]);
      expect(next!.checkpoint).not.toBeNull();
      expect([old!.origin, redOf(old!)]).toEqual(['ledger.test/acme/0/1', ['append_only']]);
      expect(old!.verdicts.append_only.firstBad).toMatchObject({ seq: '7', attack: 'log_rewound' });
      expect(old!.verdicts.completeness.checked).toMatchObject({ carried: 1 });
    }
    expect((await services.verify('edict')).map(redOf)).toEqual([[], []]);
  });

  it('leaves the proofs that an auditor holds as good as they were', async () => {
    const key = parseVkey(vkey);
    for (const { note, size, proof, header, seq } of [kept, held]) {
      const checkpoint = openCheckpoint(note, key)!;
      expect(rootOfInclusion(leafHash(header), seq, size, proof)).toEqual(Buffer.from(checkpoint.root));
    }
    // What is still in the database has the very proof of then; what was lost is an entry of the next incarnation.
    expect(await heldProof(services.store, logId, 2n)).toEqual(kept);
    const lost = decodeEntry(held.header);
    const reader = createLedgerReader({ database: services.store.database, keys: services.store.keys });
    const again = await reader.event('acme', events[5]!.id);
    expect(decodeEntry(again!.header!).emitterSeq).toBe(lost.emitterSeq);
    expect(again!.log.origin).toBe('ledger.test/acme/0/2');
  });

  it('is refused by the signer when the next copy does not know the new incarnation either, and resumes from that', async () => {
    await services.close();
    const older = await createTestDatabase({ copyOf: live.name });
    try {
      services = await openServices(settingsOn(older), memoryFolder());
      // The copy of the database as it was: incarnation 1, signed as far as the signer remembers.
      await services.sign();
      expect([...services.signer.refused()]).toEqual([
        ['ledger.test/edict/0/1', expect.stringMatching(/^log_rewound: newest incarnation/)],
        [
          'ledger.test/acme/0/1',
          expect.stringMatching(/^log_rewound: newest incarnation: expected ledger\.test\/acme\/0\/2/),
        ],
        ['ledger.test/-/meta/1', expect.stringMatching(/^log_rewound: newest incarnation/)],
      ]);
      expect(await tenantsToResume(services.store)).toEqual(['edict', 'acme']);
      await resumeLedger(settingsOn(older), services.store, 'edict', { reason: 'again', by: 'ops' });
      const { created } = await resumeLedger(settingsOn(older), services.store, 'acme', { reason: 'again', by: 'ops' });
      expect(created).toMatchObject({
        log: { origin: 'ledger.test/acme/0/3' },
        continued: { previous: { origin: 'ledger.test/acme/0/2' }, kept: 13n },
      });
      await services.take(events);
      expect(await decisionsOf(services.store, 'acme')).toEqual(
        events.map(({ id }, index) => `${index < 9 ? 1 : 3} ${id}`),
      );
      await services.sign();
      expect([...services.signer.refused()]).toEqual([]);
      for (const tenant of ['edict', 'acme']) {
        const [next] = await services.verify(tenant);
        expect([redOf(next!), next!.findings]).toEqual([[], []]);
      }
    } finally {
      await services.close();
      await older.close();
      services = await openServices(settingsOn(backup), memoryFolder());
    }
  });
});
