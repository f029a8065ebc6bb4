import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { NewEntry } from '../../../services/audit/core/append.ts';
import { commitPayload, decodeEntry, genesisHash, leafHash } from '../../../services/audit/core/entry.ts';
import { decryptPayload } from '../../../services/audit/core/payload.ts';
import { bytesToUuid } from '../../../services/shared/contracts/uuid.ts';
import { masterKey, nameForSearch, newDecision, openLedgerFixture, type LedgerFixture } from './ledger-fixture.ts';
import { createSearchNames } from '../../../services/audit/core/pseudonym.ts';

describe('the ledger writer', () => {
  let ledger: LedgerFixture;

  beforeEach(async () => {
    ledger = await openLedgerFixture();
  });
  afterEach(() => ledger.close());

  const readEntries = async (logId: number) =>
    ledger.as('reader_all').query<{ seq: bigint; header: Buffer; leaf: Buffer; ciphertext: Buffer | null }>(
      `select e.seq, e.header, e.leaf, p.ciphertext from edict.entry e
         left join edict.payload p on p.log_id = e.log_id and p.segment = e.segment and p.seq = e.seq
         where e.log_id = $1::int order by e.seq`,
      [logId],
    );

  it('links, commits and encrypts entries so that each opens to the bytes that were given', async () => {
    const given: NewEntry[] = [
      newDecision(),
      newDecision({ subject: { issuer: 'https://i.example', type: 'user', id: 'bob' } }),
      newDecision({
        kind: 'quarantine',
        contentType: 'application/json',
        emitterSeq: 2n ** 64n - 1n,
        boot: 2n ** 64n - 1n,
      }),
    ];
    expect(await ledger.write(({ append }) => append(ledger.log, given.slice(0, 1)))).toBe(1n);
    expect(await ledger.write(({ append }) => append(ledger.log, given.slice(1)))).toBe(2n);
    const rows = await readEntries(ledger.log.id);
    expect(rows.map(({ seq }) => seq)).toEqual([0n, 1n, 2n, 3n]);
    let prev: Uint8Array = genesisHash(ledger.log);
    let ingestUs = 0n;
    for (const [index, { seq, header, leaf, ciphertext }] of rows.entries()) {
      const entry = decodeEntry(header);
      expect(entry.seq).toBe(seq);
      expect(Buffer.from(entry.prev)).toEqual(Buffer.from(prev));
      expect(leaf).toEqual(leafHash(header));
      expect(entry.ingestUs).toBeGreaterThanOrEqual(ingestUs);
      ({ ingestUs } = entry);
      prev = leaf;
      const eventId = bytesToUuid(entry.eventId);
      const [[key]] = (await ledger.keys.find(ledger.log, [{ seq, eventId }])) as [[Buffer]];
      const place = { origin: ledger.log.origin, seq, eventId };
      const payload = decryptPayload(key, place, ciphertext!)!;
      expect(commitPayload(payload.salt, payload.contentType, payload.bytes)).toEqual(Buffer.from(entry.commitment));
      expect(decryptPayload(key, { ...place, seq: seq + 1n }, ciphertext!)).toBeUndefined();
      expect(decryptPayload(key, { ...place, origin: 'elsewhere' }, ciphertext!)).toBeUndefined();
      const source = given[index - 1];
      if (source === undefined) continue;
      expect(payload.bytes).toEqual(Buffer.from(source.payload));
      expect(payload.contentType).toBe(source.contentType);
      expect(entry).toMatchObject({ topic: source.topic, offset: source.offset, boot: source.boot });
    }
    const [head] = await ledger.as('reader_all').query('select size, leaf from edict.log_head', []);
    expect(head).toEqual({ size: 4n, leaf: prev });
  });

  it('writes search rows with pseudonyms, and takes any text that ingest lets through', async () => {
    const long = Array.from({ length: 512 }, (_, index) =>
      String.fromCodePoint(0x4e00 + ((index * 7919) % 20_000)),
    ).join('');
    const { search, ...decision } = newDecision();
    await ledger.write(({ append }) =>
      append(ledger.log, [
        { ...decision, search: { ...search!, agent: long, resource: long, session: long, requestId: long } },
      ]),
    );
    const [row] = await ledger
      .as('reader_all')
      .query<{ subject: Buffer; resource: string }>('select * from edict.decision', []);
    expect(row).toMatchObject({
      seq: 1n,
      event_id: decision.eventId,
      event_time_ms: 1_700_000_000_000n,
      resource: long,
      subject: nameForSearch('acme', search!.subject),
      purpose: null,
    });
    expect(createSearchNames(masterKey)('globex', search!.subject)).not.toEqual(row!.subject);
  });

  it('gives concurrent writers places one after the other, in several logs', async () => {
    const other = await ledger.createTenant('globex');
    const logs = [ledger.log, other];
    await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        ledger.write(async ({ append }) => {
          for (const log of index % 2 === 0 ? logs : logs.toReversed())
            await append(log, [newDecision(), newDecision()]);
        }, logs),
      ),
    );
    for (const log of logs) {
      const rows = await readEntries(log.id);
      expect(rows.map(({ seq }) => seq)).toEqual(Array.from({ length: 41 }, (_, index) => BigInt(index)));
      rows
        .slice(1)
        .forEach(({ header }, index) => expect(Buffer.from(decodeEntry(header).prev)).toEqual(rows[index]!.leaf));
    }
  });

  it('leaves nothing of a transaction that fails, and gives its places to the next', async () => {
    const [kept, dropped] = [newDecision(), newDecision()];
    await expect(
      ledger.write(async ({ append, sql }) => {
        await append(ledger.log, [dropped]);
        await sql.query('select 1 / 0', []);
      }),
    ).rejects.toMatchObject({ details: { sqlstate: '22012' } });
    expect(await ledger.write(({ append }) => append(ledger.log, [kept, dropped]))).toBe(1n);
    expect(await readEntries(ledger.log.id)).toHaveLength(3);
  });

  it('crosses into a new segment in the middle of a batch', async () => {
    // The head is set forward by hand, as the superuser and within a log of its own, instead of writing 65,534 entries.
    const log = await ledger.createTenant('large');
    const start = 65_533n;
    await ledger
      .as('admin')
      .query('update edict.log_head set size = $1::bigint where log_id = $2::int', [start, log.id]);
    expect(
      await ledger.write(({ append }) =>
        append(
          log,
          Array.from({ length: 6 }, () => newDecision()),
        ),
      ),
    ).toBe(start);
    const rows = await ledger
      .as('reader_all')
      .query('select segment, count(*)::int as n from edict.entry where log_id = $1::int group by 1 order by 1', [
        log.id,
      ]);
    expect(rows).toEqual([
      { segment: 0, n: 4 },
      { segment: 1, n: 3 },
    ]);
  });

  it('stores an event of an erased person without payload, and says so in the same transaction', async () => {
    const bob = { issuer: '', type: 'user', id: 'bob' };
    await ledger.write(({ append }) => append(ledger.log, [newDecision({ subject: bob })]));
    await ledger.keys.destroySubject('acme', ledger.keys.nameOf('acme', bob));
    await ledger.write(({ append }) =>
      append(ledger.log, [newDecision(), newDecision({ subject: bob }), newDecision({ subject: bob })]),
    );
    const rows = await readEntries(ledger.log.id);
    expect(rows.map(({ ciphertext }) => ciphertext !== null)).toEqual([true, true, true, false, false, true]);
    const last = decodeEntry(rows[5]!.header);
    expect(last.kind).toBe(5);
    const eventId = bytesToUuid(last.eventId);
    const [[key]] = (await ledger.keys.find(ledger.log, [{ seq: 5n, eventId }])) as [[Buffer]];
    const { bytes } = decryptPayload(key, { origin: ledger.log.origin, seq: 5n, eventId }, rows[5]!.ciphertext!)!;
    expect(JSON.parse(bytes.toString())).toMatchObject({ reason: 'subject_erased_before', ranges: [['3', '4']] });
  });

  it('continues a log in a new incarnation that names origin, size and root of the one before', async () => {
    await ledger.write(({ append }) => append(ledger.log, [newDecision(), newDecision()]));
    const leaves = (await readEntries(ledger.log.id)).map(({ leaf }) => leaf);
    const node = (a: Buffer, b: Buffer) => createHash('sha256').update('\u0001').update(a).update(b).digest();
    const root = node(node(leaves[0]!, leaves[1]!), leaves[2]!);
    expect(await ledger.createTenant('acme')).toMatchObject({ id: ledger.log.id });
    const next = await ledger.createTenant('acme', true);
    expect(next).toMatchObject({ incarnation: 2, origin: 'test.example/acme/0/2' });
    const [first] = await readEntries(next.id);
    expect(Buffer.from(decodeEntry(first!.header).prev)).toEqual(
      genesisHash({ ...next, previous: { origin: ledger.log.origin, size: 3n, root } }),
    );
    await expect(ledger.write(({ append }) => append(ledger.log, [newDecision()]))).rejects.toMatchObject({
      code: 'database_conflict',
      message: expect.stringContaining('a newer incarnation continues it'),
    });
    const key = path.join(ledger.folder, 'acme-2.pem');
    expect(statSync(key).mode & 0o777).toBe(0o600);
    expect(readFileSync(key.replace('.pem', '.vkey'), 'utf8')).toBe(`${next.vkey}\n`);
  });
});
