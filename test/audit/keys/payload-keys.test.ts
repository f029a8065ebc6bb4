import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { PayloadKeys } from '../../../services/audit/core/payload-keys.ts';
import { createFilePayloadKeys } from '../../../services/audit/keys/file-payload-keys.ts';
import { createPostgresPayloadKeys } from '../../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { keyStoreMigrations, migrate } from '../../../services/audit/postgres/migrate.ts';
import { newUuidV7 } from '../../../services/shared/contracts/uuid.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const log = { tenant: 'acme', origin: 'test.example/acme/0/1' };
const masterKey = randomBytes(32);
const person = (id: string) => ({ issuer: 'https://issuer.example', type: 'user', id });

/** Two implementations of one promise; `open` opens the same store again, as another process or a later start would. */
describe.each(['files', 'postgres'])('the key store in %s', (kind) => {
  let folder: string;
  let test: TestDatabase | undefined;
  let stores: PayloadKeys[];

  const open = (key: Uint8Array = masterKey): PayloadKeys => {
    const store =
      test === undefined
        ? createFilePayloadKeys(folder, { masterKey: key, cachedSubjects: 2 })
        : createPostgresPayloadKeys(connectPostgres(test.adminUrl, { poolSize: 2 }), {
            masterKey: key,
            cachedSubjects: 2,
          });
    stores.push(store);
    return store;
  };

  beforeEach(async () => {
    stores = [];
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-keys-'));
    if (kind === 'postgres') {
      test = await createTestDatabase();
      const database = connectPostgres(test.adminUrl, { poolSize: 1 });
      await migrate(database, keyStoreMigrations());
      await database.close();
    }
  });
  afterEach(async () => {
    await Promise.all(stores.map((store) => store.close()));
    await test?.close();
    test = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  const requests = (count: number, first = 0n, name = (index: number) => `person-${index % 5}`) =>
    Array.from({ length: count }, (_, index) => ({
      seq: first + BigInt(index),
      eventId: newUuidV7(),
      subject: person(name(index)),
    }));

  it('finds after a restart the keys that it issued, each its own, also across segments', async () => {
    const asked = requests(20, 65_530n);
    const issued = await open().issue(log, asked);
    expect(new Set(issued.map((key) => key?.toString('hex'))).size).toBe(20);
    const later = open();
    expect(await later.find(log, asked)).toEqual(issued.map((key) => [key]));
    expect(await later.find({ ...log, origin: 'test.example/acme/0/2' }, asked)).toEqual(asked.map(() => []));
    expect(await later.find(log, requests(2))).toEqual([[], []]);
  });

  it('answers the first writer’s keys when asked again', async () => {
    const asked = requests(6);
    const issued = await open().issue(log, asked);
    expect(await open().issue(log, [...asked, ...requests(1, 6n)])).toEqual([...issued, expect.any(Buffer)]);
  });

  it('takes a place again for another event when the first one’s transaction did not commit', async () => {
    const [dropped, kept] = [requests(2), requests(2)];
    const store = open();
    await store.issue(log, dropped);
    const issued = await store.issue(log, kept);
    const found = await open().find(log, kept);
    expect(found.map((keys) => keys.map(String))).toEqual(issued.map((key) => [String(key)]));
  });

  it('destroys the key of one entry and leaves the others', async () => {
    const asked = requests(3);
    const store = open();
    const issued = await store.issue(log, asked);
    await store.destroyEntries(log, asked.slice(1, 2));
    for (const each of [store, open()]) expect(await each.find(log, asked)).toEqual([[issued[0]], [], [issued[2]]]);
  });

  it('erases a person for ever, in every store that is open, and nobody else', async () => {
    const asked = requests(4, 0n, (index) => ['alice', 'bob'][index % 2]!);
    const [store, other] = [open(), open()];
    const issued = await store.issue(log, asked);
    if (kind === 'postgres') await other.issue(log, asked);
    await store.destroySubject('acme', store.nameOf('acme', person('alice')));
    await store.destroySubject('acme', store.nameOf('acme', person('never seen')));
    for (const each of kind === 'postgres' ? [store, other, open()] : [store, open()]) {
      expect(await each.find(log, asked)).toEqual([[], [issued[1]], [], [issued[3]]]);
      const next = requests(3, 10n, (index) => ['alice', 'bob', 'never seen'][index]!);
      expect(await each.issue(log, next)).toEqual([undefined, expect.any(Buffer), undefined]);
    }
    // The same person in another tenant is another subject.
    expect(
      await store.issue(
        { tenant: 'globex', origin: 'test.example/globex/0/1' },
        requests(1, 0n, () => 'alice'),
      ),
    ).toEqual([expect.any(Buffer)]);
  });

  it('closes a person: what has a key is found, nothing new gets one', async () => {
    const asked = requests(2, 0n, () => 'alice');
    const [store, other] = [open(), open()];
    const issued = await store.issue(log, asked);
    if (kind === 'postgres')
      await other.issue(
        log,
        requests(1, 5n, () => 'alice'),
      );
    await store.closeSubject('acme', store.nameOf('acme', person('alice')));
    await store.closeSubject('acme', store.nameOf('acme', person('never seen')));
    for (const each of kind === 'postgres' ? [store, other, open()] : [store, open()]) {
      expect(await each.find(log, asked)).toEqual(issued.map((key) => [key]));
      // The transaction that has them already may come again.
      expect(await each.issue(log, asked)).toEqual(issued);
      const next = requests(3, 10n, (index) => ['alice', 'bob', 'never seen'][index]!);
      expect(await each.issue(log, next)).toEqual([undefined, expect.any(Buffer), undefined]);
    }
    await store.destroySubject('acme', store.nameOf('acme', person('alice')));
    expect(await open().find(log, asked)).toEqual([[], []]);
  });

  it('closes single events for ever, also in another log of the tenant', async () => {
    const asked = requests(2);
    const store = open();
    const issued = await store.issue(log, asked);
    await store.closeEvents('acme', [asked[0]!.eventId]);
    expect(await store.find(log, asked)).toEqual(issued.map((key) => [key]));
    await store.destroyEntries(log, asked.slice(0, 1));
    for (const each of [store, open()]) {
      const later = { ...log, origin: 'test.example/acme/0/2' };
      expect(await each.issue(later, asked)).toEqual([undefined, expect.any(Buffer)]);
      expect(await each.issue({ tenant: 'globex', origin: 'test.example/globex/0/1' }, asked)).toEqual([
        expect.any(Buffer),
        expect.any(Buffer),
      ]);
    }
  });

  it('says which entries stand under a person’s key, and destroys a segment’s keys', async () => {
    const asked = requests(20, 65_530n);
    const store = open();
    await store.issue(log, asked);
    const ofFirst = asked.filter((_request, index) => index % 5 === 0).map(({ seq, eventId }) => ({ seq, eventId }));
    const name = store.nameOf('acme', person('person-0'));
    expect(await store.entriesOf(log, name, 65_530n, 65_550n)).toEqual(ofFirst);
    expect(await store.entriesOf(log, name, 65_531n, 65_545n)).toEqual(ofFirst.slice(1, -1));
    await store.destroySegment(log, 0);
    await store.destroySegment(log, 7);
    expect(await open().entriesOf(log, name, 65_530n, 65_550n)).toEqual(ofFirst.filter(({ seq }) => seq >= 65_536n));
  });

  it('refuses another master key than the one that it was made with', async () => {
    const asked = requests(1);
    const issued = await open().issue(log, asked);
    const other = open(randomBytes(32));
    await expect(other.issue(log, requests(1, 1n))).rejects.toMatchObject({ code: 'keys_unavailable' });
    await expect(other.find(log, asked)).rejects.toMatchObject({ code: 'keys_unavailable' });
    await expect(other.destroySubject('acme', other.nameOf('acme', person('alice')))).rejects.toMatchObject({
      code: 'keys_unavailable',
    });
    expect(await open().find(log, asked)).toEqual([issued]);
  });

  /** Flips a bit of somebody's key. */
  const damage = async (name: Buffer): Promise<void> => {
    const hex = name.toString('hex');
    if (test === undefined) {
      const file = path.join(folder, 'subjects', hex.slice(0, 2), hex);
      const bytes = readFileSync(file);
      bytes.writeUInt8(bytes.readUInt8(20) ^ 1, 20);
      writeFileSync(file, bytes);
      return;
    }
    const database = connectPostgres(test.adminUrl, { poolSize: 1 });
    await database.query(
      `update edict_keys.subject_key set wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1)
       where name = $1::bytea`,
      [name],
    );
    await database.close();
  };

  it('finds no key where a person’s key is damaged, and everybody else’s; it issues that person none', async () => {
    const asked = requests(4, 0n, (index) => ['alice', 'bob'][index % 2]!);
    const issued = await open().issue(log, asked);
    await damage(open().nameOf('acme', person('alice')));
    const store = open();
    expect(await store.find(log, asked)).toEqual([[], [issued[1]], [], [issued[3]]]);
    await expect(
      store.issue(
        log,
        requests(1, 10n, () => 'alice'),
      ),
    ).rejects.toMatchObject({ code: 'keys_unavailable' });
    expect(
      await store.issue(
        log,
        requests(1, 11n, () => 'bob'),
      ),
    ).toEqual([expect.any(Buffer)]);
  });

  it('reveals no person by its names', async () => {
    await open().issue(
      log,
      requests(3, 0n, () => 'alice-the-visible'),
    );
    if (test === undefined) {
      const files = readdirSync(folder, { recursive: true, withFileTypes: true });
      for (const file of files) {
        expect(file.name).not.toContain('alice');
        if (file.isFile()) expect(readFileSync(path.join(file.parentPath, file.name)).includes('alice')).toBe(false);
      }
      return;
    }
    const database = connectPostgres(test.adminUrl, { poolSize: 1 });
    const rows = await database.query<{ row: string }>('select s::text as row from edict_keys.subject_key s', []);
    await database.close();
    expect(rows).toHaveLength(1);
    expect(rows[0]!.row).not.toContain('alice');
  });
});

describe('the key store in files', () => {
  it('overwrites destroyed keys where they lie, and takes a damaged slot for none', async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'edict-keys-'));
    try {
      const store = createFilePayloadKeys(folder, { masterKey });
      const asked = [0n, 1n].map((seq) => ({ seq, eventId: newUuidV7(), subject: person('alice') }));
      await store.issue(log, asked);
      const [name] = readdirSync(path.join(folder, 'logs'));
      const file = path.join(folder, 'logs', name!, '0.keys');
      const before = readFileSync(file);
      expect(before.length).toBe(2 * 112);
      await store.destroyEntries(log, asked.slice(0, 1));
      const after = readFileSync(file);
      expect(after.subarray(0, 112).equals(Buffer.alloc(112))).toBe(true);
      expect(after.subarray(112).equals(before.subarray(112))).toBe(true);
      after.writeUInt8(after.readUInt8(150) ^ 1, 150);
      writeFileSync(file, after);
      expect(await store.find(log, asked)).toEqual([[], []]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
