import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Log, NewEntry, Sql, WriteLedger } from '../../../services/audit/core/append.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import type { SourceMessage } from '../../../services/audit/core/ingest-source.ts';
import type { Journal } from '../../../services/audit/core/journal.ts';
import { freshIds } from '../../../services/audit/core/own-entry.ts';
import { decryptPayload } from '../../../services/audit/core/payload.ts';
import type { PayloadKeys } from '../../../services/audit/core/payload-keys.ts';
import { createSearchNames } from '../../../services/audit/core/pseudonym.ts';
import { startEmbeddedPostgres } from '../../../services/audit/embedded/embedded-postgres.ts';
import { openJournal } from '../../../services/audit/embedded/journal-file.ts';
import { createSealer } from '../../../services/audit/ingest/seals.ts';
import { readNewestLogs } from '../../../services/audit/ingest/statements.ts';
import { createFilePayloadKeys } from '../../../services/audit/keys/file-payload-keys.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createLedger } from '../../../services/audit/postgres/create-ledger.ts';
import { createLedgerWriter } from '../../../services/audit/postgres/ledger-writer.ts';
import { ledgerMigrations, migrate } from '../../../services/audit/postgres/migrate.ts';
import { recoverFromJournal, type Recovered } from '../../../services/audit/postgres/recover.ts';
import { createSignerStore } from '../../../services/audit/postgres/meta-store.ts';
import { AppError } from '../../../services/shared/contracts/errors.ts';
import { newUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { signerIn } from '../signer/signing-fixture.ts';

const EMITTER = 'ab'.repeat(16);
const TOPIC = `spool/${EMITTER}`;
const masterKey = randomBytes(32);
const nameForSearch = createSearchNames(masterKey);

/** A database, a journal and a key store that lie in folders of one home. */
interface Part {
  readonly database: Database;
  readonly journal: Journal;
  readonly keys: PayloadKeys;
  readonly write: WriteLedger;
  readonly recovered: Recovered;
  readonly close: () => Promise<void>;
}

describe('recovery from the journal', () => {
  let root: string;
  let home: string;
  let template: string;
  let part: Part | undefined;
  let server: TestDatabase | undefined;
  let openDatabase: () => Promise<Database>;
  /** What the spool has. */
  let spool: Map<bigint, SourceMessage>;
  let next: bigint;
  /** The next commit fails, after its frame is in the journal. */
  let isCutOff = false;

  const open = async (isThorough = false): Promise<Part> => {
    const real = await openDatabase();
    const database: Database = {
      ...real,
      transaction: (work) =>
        real.transaction(async (sql) => {
          const result = await work(sql);
          if (!isCutOff) return result;
          isCutOff = false;
          throw new AppError('database_unavailable', 'cut off before the commit');
        }),
    };
    const keys = createFilePayloadKeys(path.join(home, 'subject-keys'), { masterKey });
    let journal: Journal | undefined;
    try {
      await migrate(real, ledgerMigrations());
      const opened = await openJournal(path.join(home, 'journal'), { fileBytes: 20_000 });
      journal = opened;
      const options = {
        database: real,
        journal: opened,
        keys,
        nameForSearch,
        fetchMessage: ({ offset }: { readonly offset: bigint }) => Promise.resolve(spool.get(offset)),
      };
      const recovered = await recoverFromJournal({ ...options, isThorough });
      const write = createLedgerWriter({
        database,
        keys,
        nameForSearch,
        nowUs: () => BigInt(Date.now()) * 1000n,
        journal: opened,
        recover: async () => {
          await recoverFromJournal(options);
        },
      });
      const close = async () => {
        await real.close();
        await opened.close();
      };
      part = { database: real, journal: opened, keys, write, recovered, close };
      return part;
    } catch (error) {
      await journal?.close();
      await real.close();
      throw error;
    }
  };

  /** Recovery is the same on every database; a real server's is the quicker one to test most of it with. */
  const onRealServer = async (): Promise<void> => {
    const test = await createTestDatabase();
    server = test;
    openDatabase = () => Promise.resolve(connectPostgres(test.adminUrl, { poolSize: 2 }));
  };
  const loseDatabase = async (): Promise<void> => {
    await server?.close();
    await onRealServer();
  };

  const close = async () => {
    await part?.close();
    part = undefined;
  };

  const event = (): NewEntry => {
    const value = Buffer.from(JSON.stringify({ secret: randomBytes(20).toString('hex') }));
    const offset = next;
    next += 1n;
    spool.set(offset, { topic: TOPIC, partition: 0, offset, headers: [], value });
    return {
      kind: 'decision',
      eventId: newUuidV7(),
      topic: TOPIC,
      partition: 0,
      offset,
      emitter: EMITTER,
      boot: 1n,
      emitterSeq: offset + 1n,
      policySetDigest: randomBytes(32),
      contentType: 'application/cloudevents+json',
      payload: value,
      subject: { issuer: '', type: 'user', id: `user-${offset % 3n}` },
    };
  };
  const own = (): NewEntry => ({
    ...event(),
    kind: 'gap',
    topic: '',
    contentType: 'application/json',
    payload: Buffer.from(`{"nonce":"${randomBytes(8).toString('hex')}"}`),
  });

  /** What ingest does: entries and cursor in one transaction. */
  const ingest = (write: WriteLedger, log: Log, entries: readonly NewEntry[]) =>
    write(async ({ sql, append }) => {
      await sql.query(
        `insert into edict.source_cursor (topic, partition, next_offset) values ($1, 0, $2::bigint)
         on conflict (topic, partition) do update set next_offset = excluded.next_offset`,
        [TOPIC, next],
      );
      return append(log, entries);
    });

  const createTenant = async (write: WriteLedger, tenant: string) =>
    (
      await createLedger({
        write,
        tenant,
        authority: 'test.example',
        keyFile: (name, incarnation) => path.join(home, 'keys', `${name}-${incarnation}.pem`),
        nowUs: () => 1n,
      })
    ).log;

  const leaves = async ({ database }: Part) =>
    database.query<{ log_id: number; seq: bigint; leaf: string }>(
      "select log_id, seq, encode(leaf, 'hex') as leaf from edict.entry order by log_id, seq",
      [],
    );

  /** Every payload opens and is the event's bytes. */
  const openPayloads = async ({ database, keys }: Part, log: Log) => {
    const rows = await database.query<{ seq: bigint; ciphertext: Buffer; header: Buffer }>(
      `select e.seq, p.ciphertext, e.header from edict.entry e
       left join edict.payload p on p.log_id = e.log_id and p.segment = e.segment and p.seq = e.seq
       where e.log_id = $1::int order by e.seq`,
      [log.id],
    );
    const ids = rows.map(({ header }) =>
      header
        .subarray(18, 34)
        .toString('hex')
        .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
    );
    const found = await keys.find(
      log,
      rows.map(({ seq }, index) => ({ seq, eventId: ids[index]! })),
    );
    return rows.map(({ seq, ciphertext }, index) =>
      decryptPayload(
        found[index]![0]!,
        { origin: log.origin, seq, eventId: ids[index]! },
        ciphertext,
      )!.bytes.toString(),
    );
  };

  beforeAll(async () => {
    root = mkdtempSync(path.join(os.tmpdir(), 'edict-recover-'));
    template = path.join(root, 'template');
    const database = await startEmbeddedPostgres(template);
    await migrate(database, ledgerMigrations());
    await database.close();
  }, 180_000);
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  beforeEach(() => {
    home = mkdtempSync(path.join(root, 'home-'));
    openDatabase = () => startEmbeddedPostgres(path.join(home, 'database'));
    spool = new Map();
    next = 0n;
    isCutOff = false;
  });
  afterEach(async () => {
    await close();
    await server?.close();
    server = undefined;
  });

  it('gives checkpoints and hashes of tiles back too, and the signer goes on from its memory', async () => {
    await onRealServer();
    const sign = async ({ database, keys, write }: Part): Promise<void> => {
      const logs = () => readNewestLogs(database);
      await createSealer({ database, writeLedger: write, logs, ids: freshIds() }).sealAll();
      const transaction = (work: (sql: Sql) => Promise<void>): Promise<void> => write(({ sql }) => work(sql));
      const store = createSignerStore({ database, keys, transaction });
      await signerIn(path.join(home, 'keys'), path.join(home, 'signer'), store).signAll();
    };
    const signed = ({ database }: Part): Promise<readonly unknown[]> =>
      database.query(
        `select size, root, note, null as hash from edict.checkpoint
         union all select index, null, null, hash from edict.tree_node
         union all select size, root, note, null from edict.meta_checkpoint
         union all select index, null, null, entry from edict.meta_leaf order by 1, 2, 3, 4`,
        [],
      );
    const first = await open();
    await createTenant(first.write, 'edict');
    const log = await createTenant(first.write, 'acme');
    await ingest(first.write, log, Array.from({ length: 300 }, event));
    await sign(first);
    const expected = await signed(first);
    // Two checkpoints, one hash of a tile, two leaves of the meta log, and its checkpoint.
    expect(expected).toHaveLength(6);
    await close();
    await loseDatabase();
    const restored = await open();
    expect(await signed(restored)).toEqual(expected);
    await ingest(restored.write, log, [event()]);
    await sign(restored);
    expect(await signed(restored)).toHaveLength(9);
    expect(await restored.database.query('select alarm from edict.signer_alarm', [])).toEqual([]);
  });

  it('gives an older copy of the database, and an empty one, the same entries byte for byte', async () => {
    cpSync(template, path.join(home, 'database'), { recursive: true });
    const first = await open();
    const log = await createTenant(first.write, 'acme');
    await ingest(first.write, log, [event(), own(), event()]);
    await close();
    cpSync(path.join(home, 'database'), path.join(home, 'older'), { recursive: true });

    const second = await open();
    const other = await createTenant(second.write, 'globex');
    for (let batch = 0; batch < 5; batch += 1) {
      await ingest(second.write, log, Array.from({ length: 40 }, event));
      await ingest(second.write, other, [event(), own()]);
    }
    const expected = await leaves(second);
    const payloads = [await openPayloads(second, log), await openPayloads(second, other)];
    await close();
    expect(readdirSync(path.join(home, 'journal')).length).toBeGreaterThan(1);

    for (const copy of ['older', undefined]) {
      rmSync(path.join(home, 'database'), { recursive: true });
      cpSync(copy === undefined ? template : path.join(home, copy), path.join(home, 'database'), { recursive: true });
      const restored = await open();
      expect(restored.recovered.frames).toBe(copy === undefined ? 13 : 11);
      expect(await leaves(restored)).toEqual(expected);
      expect([await openPayloads(restored, log), await openPayloads(restored, other)]).toEqual(payloads);
      expect(await restored.database.query('select next_offset from edict.source_cursor', [])).toEqual([
        { next_offset: next },
      ]);
      await close();
    }
    const whole = await open(true);
    expect(whole.recovered).toEqual({ frames: 0, entries: 0 });
  }, 300_000);

  it('lets what is in the journal happen when the commit failed', async () => {
    await onRealServer();
    const { write, database } = await open();
    const log = await createTenant(write, 'acme');
    isCutOff = true;
    const entry = event();
    await expect(ingest(write, log, [entry])).rejects.toMatchObject({ code: 'database_unavailable' });
    expect(await ingest(write, log, [event()])).toBe(2n);
    const rows = await database.query<{ id: string }>(
      "select encode(substr(header, 19, 16), 'hex') as id from edict.entry where seq = 1",
      [],
    );
    expect(rows).toEqual([{ id: entry.eventId.replaceAll('-', '') }]);
  });

  it('lets nobody write before what is in the journal has happened', async () => {
    cpSync(template, path.join(home, 'database'), { recursive: true });
    const first = await open();
    const log = await createTenant(first.write, 'acme');
    isCutOff = true;
    const [cut, ...waiting] = await Promise.allSettled([
      ingest(first.write, log, [event(), own()]),
      ingest(first.write, log, [event()]),
      ingest(first.write, log, [own()]),
    ]);
    expect(cut).toMatchObject({ reason: { code: 'database_unavailable' } });
    for (const each of waiting) expect(each).toMatchObject({ reason: { code: 'database_conflict' } });
    const again = await Promise.all([ingest(first.write, log, [event()]), ingest(first.write, log, [event()])]);
    expect(again).toEqual([3n, 4n]);
    const expected = await leaves(first);
    expect(await openPayloads(first, log)).toHaveLength(5);
    await close();

    rmSync(path.join(home, 'database'), { recursive: true });
    cpSync(template, path.join(home, 'database'), { recursive: true });
    expect(await leaves(await open())).toEqual(expected);
  }, 120_000);

  it('refuses when an event that the database lost is no longer in the spool, or is another one', async () => {
    await onRealServer();
    const first = await open();
    const log = await createTenant(first.write, 'acme');
    const entry = event();
    await ingest(first.write, log, [entry]);
    await close();
    for (const damage of [undefined, { ...spool.get(entry.offset)!, value: Buffer.from('{}') }]) {
      if (damage === undefined) spool.delete(entry.offset);
      else spool.set(entry.offset, damage);
      await loseDatabase();
      await expect(open()).rejects.toMatchObject({
        code: 'ledger_corrupt',
        message: expect.stringContaining('--new-incarnation'),
      });
    }
  });

  it('refuses a journal that is shorter than the database, and an entry that is not the journal’s', async () => {
    await onRealServer();
    const first = await open();
    const log = await createTenant(first.write, 'acme');
    await ingest(first.write, log, [event()]);
    const [file] = readdirSync(path.join(home, 'journal'));
    const journalFile = path.join(home, 'journal', file!);
    const { length } = readFileSync(journalFile);
    await ingest(first.write, log, [event()]);
    await close();
    const whole = readFileSync(journalFile);
    truncateSync(journalFile, length);
    await expect(open()).rejects.toMatchObject({ code: 'ledger_corrupt' });

    writeFileSync(journalFile, whole);
    const tampered = await open();
    await tampered.database.query(
      `alter table edict.entry disable trigger user;
       update edict.entry e set header = x.header, leaf = sha256('\\x00'::bytea || x.header)
       from (select set_byte(header, 20, 7) as header from edict.entry where seq = 1) x where e.seq = 1`,
    );
    await close();
    await expect(open(true)).rejects.toMatchObject({
      code: 'ledger_corrupt',
      message: expect.stringContaining('entry 1'),
    });
  });

  it('cuts off a torn last frame, but nothing that others follow', async () => {
    await onRealServer();
    const first = await open();
    const log = await createTenant(first.write, 'acme');
    await ingest(first.write, log, [event()]);
    await close();
    const [file] = readdirSync(path.join(home, 'journal'));
    const journalFile = path.join(home, 'journal', file!);
    const whole = readFileSync(journalFile);
    appendFileSync(journalFile, Buffer.concat([Buffer.from([0, 0, 4, 0]), randomBytes(300)]));
    expect((await open()).journal.last()).toBe(2n);
    await close();
    expect(readFileSync(journalFile).equals(whole)).toBe(true);

    const damaged = Buffer.from(whole);
    damaged.writeUInt8(damaged.readUInt8(60) ^ 1, 60);
    writeFileSync(journalFile, damaged);
    await expect(open()).rejects.toMatchObject({ code: 'journal_corrupt' });
    expect(readFileSync(journalFile).equals(damaged)).toBe(true);
  });
});
