import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { memoryFile } from '../../../services/audit/signer/memory-file.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { newDecision } from '../postgres/ledger-fixture.ts';
import { metaRootOf, openSigningFixture, type SigningFixture } from './signing-fixture.ts';

const META = 'test.example/-/meta/1';

describe('the meta log', () => {
  let fixture: SigningFixture;
  beforeEach(async () => {
    fixture = await openSigningFixture();
  });
  afterEach(() => fixture.ledger.close());

  /** A decision of acme, sealed and signed: one checkpoint more. */
  const grow = async (signer = fixture.newSigner()): Promise<void> => {
    const { ledger, sealer } = fixture;
    await ledger.write(({ append }) => append(ledger.log, [newDecision()]));
    await sealer.sealAll();
    await signer.signAll();
  };

  /** Every checkpoint is one leaf, and each meta checkpoint has the root of the leaves below it. */
  const expectWhole = async (leaves: number): Promise<void> => {
    const found = await fixture.metaLeaves();
    expect(found.map(({ index, fits }) => [index, fits])).toEqual(
      Array.from({ length: leaves }, (_, n) => [BigInt(n), true]),
    );
    const metas = await fixture.metaCheckpoints();
    expect(metas.at(-1)?.size).toBe(BigInt(leaves));
    for (const meta of metas) {
      expect(meta?.origin).toBe(META);
      expect(meta?.root).toEqual(metaRootOf(found.slice(0, Number(meta?.size)).map(({ note }) => note)));
    }
  };

  it('has every checkpoint of every tenant as one leaf, and is signed in the same round', async () => {
    await grow();
    await expectWhole(2);
    await fixture.newSigner().signAll();
    await grow();
    await grow();
    await expectWhole(4);
    expect((await fixture.metaCheckpoints()).map((meta) => meta?.size)).toEqual([2n, 3n, 4n]);
    expect(readFileSync(path.join(fixture.ledger.folder, '@meta-1.vkey'), 'utf8')).toMatch(
      /^test\.example\/-\/meta\/1\+/,
    );
  });

  it('is made of what was signed before there was one, by the signer that starts then', async () => {
    const { ledger, store, newSigner } = fixture;
    const without = newSigner({ ...store, metaLog: () => Promise.resolve(undefined) });
    await expect(grow(without)).rejects.toMatchObject({
      code: 'signer_failed',
      message: expect.stringContaining('edict ledger create edict') as string,
    });
    await grow(without).catch(() => undefined);
    expect(await ledger.as('signer').query('select index from edict.meta_leaf', [])).toEqual([]);
    await newSigner().signAll();
    await expectWhole(3);
  });

  it('takes what another signer stored late, at the next start', async () => {
    const { ledger, newSigner, tamper } = fixture;
    const signer = newSigner();
    await grow(signer);
    await grow(signer);
    await expectWhole(3);
    const [held] = await ledger
      .as('admin')
      .query<{ note: Buffer }>('select note from edict.checkpoint where log_id = $1 order by size limit 1', [
        ledger.log.id,
      ]);
    // As if the smaller checkpoint had come after the larger one was listed.
    await tamper('delete from edict.meta_leaf; delete from edict.meta_checkpoint');
    await ledger.as('admin').query(
      `insert into edict.meta_leaf select 1, 0, log_id, size, sha256(note) from edict.checkpoint
       where log_id = $1 order by size desc limit 1`,
      [ledger.log.id],
    );
    await newSigner(undefined, path.join(ledger.folder, 'other')).signAll();
    const leaves = await fixture.metaLeaves();
    expect(leaves).toHaveLength(3);
    expect(leaves.map(({ note }) => note)).toContainEqual(held!.note);
    expect(leaves.every(({ fits }) => fits)).toBe(true);
  });

  it('two signers that list and sign at once agree', async () => {
    const { ledger, newSigner, sealer } = fixture;
    await ledger.write(({ append }) => append(ledger.log, [newDecision()]));
    await sealer.sealAll();
    await Promise.all([newSigner().signAll(), newSigner(undefined, path.join(ledger.folder, 'second')).signAll()]);
    await newSigner().signAll();
    await expectWhole(2);
  });

  it('does not list a checkpoint that its log’s key did not sign', async () => {
    const { ledger, newSigner } = fixture;
    await grow();
    await ledger
      .as('signer')
      .query(
        `insert into edict.checkpoint select log_id, 2, root, note, signed_us from edict.checkpoint where log_id = $1`,
        [ledger.log.id],
      );
    await newSigner().signAll();
    await grow();
    expect(
      await ledger
        .as('signer')
        .query('select size from edict.meta_leaf where size = 2 and log_id = $1', [ledger.log.id]),
    ).toEqual([]);
    expect((await fixture.metaCheckpoints()).map((meta) => meta?.size)).toEqual([2n, 3n]);
  });

  it('believes no key that the database names: a stranger’s note gets no leaf, and no signature with one', async () => {
    const { alarms, ledger, newSigner, tamper } = fixture;
    const { id, origin } = ledger.log;
    await grow();
    const stranger = generateSigningKey().key;
    const vkey = formatVkey(origin, stranger.publicKey);
    const note = signCheckpoint({ origin, size: 9n, root: Buffer.alloc(32, 9) }, stranger, parseVkey(vkey));
    const hex = `decode('${note.toString('hex')}', 'hex')`;
    // Once as the newest incarnation, which is refused, and once as one that has ended, which nobody signs any more.
    for (const isEnded of [false, true]) {
      if (isEnded) await ledger.createTenant('acme', true);
      await tamper(
        `update edict.log set vkey = '${vkey}' where id = ${id};
         delete from edict.checkpoint where log_id = ${id} and size = 9;
         insert into edict.checkpoint select ${id}, 9, sha256('x'), ${hex}, signed_us + 1
         from edict.checkpoint where log_id = ${id}`,
      );
      await newSigner().signAll();
      expect(
        await ledger.as('signer').query(`select size from edict.meta_leaf where log_id = ${id} and size = 9`, []),
      ).toEqual([]);
    }
    const before = (await fixture.metaCheckpoints()).length;
    await tamper(`insert into edict.meta_leaf select 1, max(index) + 1, ${id}, 9, sha256(${hex}) from edict.meta_leaf`);
    await newSigner().signAll();
    expect(await fixture.metaCheckpoints()).toHaveLength(before);
    expect(await alarms()).toContainEqual(expect.objectContaining({ alarm: 'meta_row_damaged' }));
  });

  it.each([
    ['a leaf altered', 'row_damaged', `update edict.meta_leaf set entry = sha256('x') where index = 3`],
    [
      'a tenant’s checkpoint altered',
      'row_damaged',
      'update edict.checkpoint set note = note || note where size = (select size from edict.meta_leaf where index = 3) and log_id = (select log_id from edict.meta_leaf where index = 3)',
    ],
    [
      'a tenant’s checkpoint that is a leaf removed',
      'row_damaged',
      'delete from edict.checkpoint c using edict.meta_leaf m where m.index = 3 and c.log_id = m.log_id and c.size = m.size',
    ],
    ['a leaf removed', 'row_damaged', 'delete from edict.meta_leaf where index = 3'],
    ['a leaf that was signed removed', 'log_rewound', 'delete from edict.meta_leaf where index > 1'],
    [
      'the last signed leaf altered',
      'log_forked',
      `delete from edict.meta_leaf where index > 2; update edict.meta_leaf set entry = sha256('x') where index = 2`,
    ],
    ['another key named', 'key_mismatch', `update edict.meta_log set vkey = replace(vkey, '/meta/', '/evil/')`],
    [
      'a larger checkpoint forged',
      'checkpoint_forged',
      `insert into edict.meta_checkpoint select 1, 99, root, note, signed_us from edict.meta_checkpoint limit 1`,
    ],
  ])('%s: it is not signed, the tenants’ logs are; meta_%s becomes an alert entry', async (_name, alarm, sql) => {
    const { ledger, sealer, store, newSigner, alarms, tamper, checkpoints } = fixture;
    await grow();
    await grow();
    // Two leaves that are listed and not signed yet: the meta log is read back with them.
    const unlisted = { ...store, metaLog: () => Promise.resolve(undefined) };
    const unsigned = { ...store, leaves: () => Promise.reject(new Error('away')) };
    for (const given of [unlisted, unsigned])
      await expect(grow(newSigner(given))).rejects.toMatchObject({ code: 'signer_failed' });
    await tamper(sql);
    const signer = newSigner();
    await grow(signer);
    await signer.signAll();
    expect(
      await ledger.as('signer').query('select size from edict.meta_checkpoint where size between 4 and 98', []),
    ).toEqual([]);
    expect((await checkpoints(ledger.log.id)).length).toBeGreaterThanOrEqual(4);
    expect([...signer.refused()]).toEqual([[META, expect.stringContaining(alarm)]]);
    expect(await alarms()).toMatchObject([{ log_id: 2, alarm: `meta_${alarm}`, signed_size: 3n }]);
    expect(await sealer.enterAlarms()).toBe(1);
  });

  it('the newest checkpoint taken away is put back', async () => {
    const { alarms, newSigner, tamper } = fixture;
    await grow();
    await tamper('delete from edict.meta_checkpoint');
    await newSigner().signAll();
    await expectWhole(2);
    expect(await alarms()).toMatchObject([{ alarm: 'meta_checkpoint_removed', signed_size: 2n }]);
  });

  it('a memory of it that is not what was written is not believed', async () => {
    const { alarms, memoryFolder } = fixture;
    await grow();
    writeFileSync(memoryFile(memoryFolder, META), '{}');
    await grow();
    expect(await alarms()).toMatchObject([{ alarm: 'meta_memory_unreadable' }]);
    expect(await fixture.metaCheckpoints()).toHaveLength(1);
  });

  it('a new incarnation of the system ledger brings a new one, which begins with what no other has', async () => {
    const { ledger } = fixture;
    await grow();
    await ledger.createTenant('edict', true);
    await grow();
    const rows = await ledger
      .as('reader_all')
      .query('select incarnation, index from edict.meta_leaf order by incarnation, index', []);
    expect(rows).toEqual([
      { incarnation: 1, index: 0n },
      { incarnation: 1, index: 1n },
      { incarnation: 2, index: 0n },
      { incarnation: 2, index: 1n },
    ]);
    const metas = await fixture.metaCheckpoints();
    expect(metas.map((meta) => [meta?.origin, meta?.size])).toEqual([
      [META, 2n],
      ['test.example/-/meta/2', 2n],
    ]);
    const notes = (await fixture.metaLeaves()).map(({ note }) => note);
    expect(metas[1]?.root).toEqual(metaRootOf(notes.slice(2)));
  });
});
