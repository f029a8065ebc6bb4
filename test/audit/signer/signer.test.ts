import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createTreeHasher } from '../../../services/shared/tlog/merkle.ts';
import { freshIds } from '../../../services/audit/core/own-entry.ts';
import { createSealer } from '../../../services/audit/ingest/seals.ts';
import { readNewestLogs } from '../../../services/audit/ingest/statements.ts';
import { memoryFile, openMemoryFolder } from '../../../services/audit/signer/memory-file.ts';
import { openPayloads } from '../../../services/audit/core/query-reader.ts';
import { realReplaceFs } from '../../../services/shared/spool/files.ts';
import { repositoryRoot } from '../../support/prepared-parts.ts';
import { masterKey, newDecision } from '../postgres/ledger-fixture.ts';
import { metaRootOf, openSigningFixture, signerIn, type SigningFixture } from './signing-fixture.ts';

let fixture: SigningFixture;
beforeEach(async () => {
  fixture = await openSigningFixture();
});
afterEach(() => fixture.ledger.close());

const add = async (count: number): Promise<void> => {
  await fixture.ledger.write(({ append }) =>
    append(
      fixture.ledger.log,
      Array.from({ length: count }, () => newDecision()),
    ),
  );
};

const rootInDatabase = async (logId: number, size: bigint): Promise<Buffer> => {
  const rows = await fixture.ledger
    .as('admin')
    .query<{ leaf: Buffer }>('select leaf from edict.entry where log_id = $1 and seq < $2 order by seq', [
      logId,
      String(size),
    ]);
  const tree = createTreeHasher();
  for (const { leaf } of rows) tree.add(leaf);
  return tree.root();
};

describe('seals and checkpoints', () => {
  it('a seal says what came since the one before it, and is signed with everything in front of it', async () => {
    const { sealer, newSigner, checkpoints, ledger } = fixture;
    await add(5);
    expect(await sealer.sealAll()).toBe(2);
    expect(await sealer.sealAll()).toBe(0);
    const signer = newSigner();
    await signer.signAll();
    expect(await checkpoints(ledger.log.id)).toEqual([
      { origin: ledger.log.origin, size: 7n, root: await rootInDatabase(ledger.log.id, 7n) },
    ]);
    // A seal alone makes no log dirty.
    expect(await sealer.sealAll()).toBe(0);
    await add(2);
    expect(await sealer.sealAll()).toBe(1);
    await signer.signAll();
    expect((await checkpoints(ledger.log.id)).map((checkpoint) => checkpoint?.size)).toEqual([7n, 10n]);
    const rows = await ledger.as('admin').query<{ seq: bigint; header: Buffer; ciphertext: Buffer }>(
      `select e.seq, e.header, p.ciphertext from edict.entry e join edict.payload p using (log_id, segment, seq)
         where e.log_id = $1 and get_byte(e.header, 1) = 10 order by e.seq`,
      [ledger.log.id],
    );
    const seals = (await openPayloads(ledger.keys, ledger.log, rows)).map((payload) =>
      payload.state === 'opened' ? (JSON.parse(Buffer.from(payload.payload).toString()) as unknown) : undefined,
    );
    const root = (await rootInDatabase(ledger.log.id, 7n)).toString('hex');
    expect(seals).toMatchObject([
      {
        from: '0',
        kinds: [
          ['decision', '5'],
          ['incarnation', '1'],
        ],
        checkpoint: null,
        emitters: [],
      },
      { from: '7', kinds: [['decision', '2']], checkpoint: { size: '7', root } },
    ]);
    const decisions = (seals as { decisions: [string, string][]; reasons: [string, string][] }[]).map(
      ({ decisions: counted }) => Object.fromEntries(counted),
    );
    expect(Number(decisions[0]!['allow']) + Number(decisions[0]!['deny'])).toBe(5);
    expect(decisions[1]).toEqual({ allow: '1', deny: '1' });
    expect((seals as { reasons: unknown }[])[1]).toMatchObject({ reasons: [['agent_not_entitled', '1']] });
  });

  it('seals do not pile up while nobody signs', async () => {
    await add(1);
    await fixture.sealer.sealAll();
    await add(1);
    expect(await fixture.sealer.sealAll()).toBe(0);
  });

  it('the hashes of tiles are stored with the checkpoint that completes them', async () => {
    const { sealer, newSigner, ledger } = fixture;
    await add(600);
    await sealer.sealAll();
    await newSigner().signAll();
    expect(
      await ledger.as('admin').query('select level, index, hash from edict.tree_node order by level, index', []),
    ).toMatchObject([
      { level: 1, index: 0n, hash: await rootInDatabase(ledger.log.id, 256n) },
      { level: 1, index: 1n },
    ]);
  });

  it('two signers with memories of their own agree', async () => {
    const { sealer, newSigner, ledger, checkpoints } = fixture;
    await add(3);
    await sealer.sealAll();
    await Promise.all([newSigner().signAll(), newSigner(undefined, path.join(ledger.folder, 'second')).signAll()]);
    expect(await checkpoints(ledger.log.id)).toHaveLength(1);
  });

  it('goes on when its memory was lost, from its own newest checkpoint', async () => {
    const { sealer, newSigner, ledger, checkpoints, memoryFolder, alarms } = fixture;
    await add(3);
    await sealer.sealAll();
    await newSigner().signAll();
    rmSync(memoryFolder, { recursive: true });
    await add(3);
    await sealer.sealAll();
    await newSigner().signAll();
    expect((await checkpoints(ledger.log.id)).map((checkpoint) => checkpoint?.size)).toEqual([5n, 9n]);
    expect(await alarms()).toEqual([]);
  });
});

describe('what the signer finds in the database', () => {
  const CASES: readonly (readonly [name: string, alarm: string, sql: string])[] = [
    ['a header edited', 'row_damaged', `update edict.entry set header = set_byte(header, 60, 255) where seq = 7`],
    [
      'a header edited and its leaf mended',
      'row_damaged',
      `update edict.entry set header = set_byte(header, 60, 255), leaf = sha256('\\x00'::bytea || set_byte(header, 60, 255))
       where seq = 7`,
    ],
    [
      'a payload edited',
      'row_damaged',
      `update edict.payload set ciphertext = set_byte(ciphertext, 40, 7) where seq = 7`,
    ],
    ['a payload removed', 'row_damaged', `delete from edict.payload where seq = 7`],
    ['an entry removed', 'row_damaged', `delete from edict.entry where seq = 7`],
    ['the end cut off', 'log_rewound', `delete from edict.entry where seq > 3; update edict.log_head set size = 4`],
    ['another key named', 'key_mismatch', `update edict.log set vkey = replace(vkey, '/acme/', '/evil/')`],
  ];

  it.each(CASES)(
    '%s: refuses, raises %s once, and the writer makes an alert entry of it',
    async (_name, alarm, sql) => {
      const { sealer, newSigner, ledger, alarms, tamper } = fixture;
      await add(3);
      await sealer.sealAll();
      const signer = newSigner();
      await signer.signAll();
      await add(3);
      await sealer.sealAll();
      // The checks of the table are there to stop a mistake, not this.
      await ledger.as('admin').query(`do $$ declare t text; begin
      for t in select conrelid::regclass::text || ' drop constraint ' || conname from pg_constraint
        where contype = 'c' and conname ~ '^entry_' and conislocal and conrelid = 'edict.entry'::regclass loop
        execute 'alter table ' || t;
      end loop; end $$`);
      await tamper(
        sql
          .replaceAll(/(where seq [=>] \d)/g, `$1 and log_id = ${ledger.log.id}`)
          .replace('size = 4', `size = 4 where log_id = ${ledger.log.id}`)
          .replace(`'/evil/')`, `'/evil/') where id = ${ledger.log.id}`),
      );
      await signer.signAll();
      await signer.signAll();
      expect(
        await ledger.as('signer').query('select size from edict.checkpoint where log_id = $1', [ledger.log.id]),
      ).toHaveLength(1);
      expect([...signer.refused().keys()]).toEqual([ledger.log.origin]);
      expect(await alarms()).toMatchObject([{ log_id: ledger.log.id, alarm, signed_size: 5n, seq: null }]);
      expect(await sealer.enterAlarms()).toBe(1);
      expect(await sealer.enterAlarms()).toBe(0);
      expect(await alarms()).toMatchObject([{ seq: expect.anything() as unknown }]);
      const alerts = await ledger
        .as('admin')
        .query(`select seq from edict.entry where log_id <> $1 and get_byte(header, 1) = 12`, [ledger.log.id]);
      expect(alerts).toHaveLength(1);
    },
  );

  it('the newest checkpoint taken away: puts it back, says so once, and goes on', async () => {
    const { sealer, newSigner, ledger, checkpoints, alarms, tamper } = fixture;
    await add(3);
    await sealer.sealAll();
    const signer = newSigner();
    await signer.signAll();
    const [before] = await checkpoints(ledger.log.id);
    await tamper(`delete from edict.checkpoint where log_id = ${ledger.log.id}`);
    await signer.signAll();
    await signer.signAll();
    expect(await checkpoints(ledger.log.id)).toEqual([before]);
    expect(await alarms()).toMatchObject([{ alarm: 'checkpoint_removed', signed_size: 5n }]);
    // Without it nothing would be sealed any more.
    await add(1);
    expect(await sealer.sealAll()).toBe(1);
    await signer.signAll();
    expect((await checkpoints(ledger.log.id)).map((checkpoint) => checkpoint?.size)).toEqual([5n, 7n]);
  });

  it('the newest checkpoint taken away, and entries after it: puts it back before it signs what is new', async () => {
    const { sealer, newSigner, ledger, checkpoints, alarms, tamper } = fixture;
    await add(3);
    await sealer.sealAll();
    await newSigner().signAll();
    const [before] = await checkpoints(ledger.log.id);
    await add(1);
    await sealer.sealAll();
    await tamper(`delete from edict.checkpoint where log_id = ${ledger.log.id}`);
    await newSigner().signAll();
    const [first, ...more] = await checkpoints(ledger.log.id);
    expect(first).toEqual(before);
    expect(more.map((checkpoint) => checkpoint?.size)).toEqual([7n]);
    expect(await alarms()).toMatchObject([{ alarm: 'checkpoint_removed', signed_size: 5n }]);
  });

  it('an end that was written anew to the same size', async () => {
    const { sealer, newSigner, ledger, alarms, tamper } = fixture;
    await add(3);
    await sealer.sealAll();
    await newSigner().signAll();
    await tamper(
      `delete from edict.entry where log_id = ${ledger.log.id} and seq >= 3;
       delete from edict.payload where log_id = ${ledger.log.id} and seq >= 3;
       delete from edict.decision where log_id = ${ledger.log.id} and seq >= 3;
       delete from edict.checkpoint where log_id = ${ledger.log.id};
       update edict.log_head set size = 3, leaf = (select leaf from edict.entry where log_id = ${ledger.log.id} and seq = 2)
       where log_id = ${ledger.log.id}`,
    );
    await ledger.as('admin').query(`delete from edict_keys.payload_key where seq >= 3`);
    await add(1);
    await sealer.sealAll();
    await newSigner().signAll();
    expect(await alarms()).toMatchObject([{ alarm: 'log_forked', signed_size: 5n }]);
  });
});

describe('alarms', () => {
  it('are raised once as long as they last, and again when that failed', async () => {
    const { sealer, newSigner, ledger, store, tamper } = fixture;
    await add(3);
    await sealer.sealAll();
    const raised: string[] = [];
    let isAway = true;
    const signer = newSigner({
      ...store,
      raise: (_logId, { alarm }) => {
        raised.push(alarm);
        return isAway ? Promise.reject(new Error('away')) : Promise.resolve();
      },
    });
    await tamper(`update edict.entry set leaf = sha256('x') where log_id = ${ledger.log.id} and seq = 2`).catch(() =>
      ledger.as('admin').query('alter table edict.entry drop constraint entry_leaf'),
    );
    await tamper(`update edict.entry set leaf = sha256('x') where log_id = ${ledger.log.id} and seq = 2`);
    await expect(signer.signAll()).rejects.toMatchObject({ code: 'signer_failed' });
    isAway = false;
    for (let n = 0; n < 3; n += 1) await signer.signAll();
    expect(raised).toEqual(['row_damaged', 'row_damaged']);
  });
});

describe('sealing', () => {
  it('goes on with the other logs when one fails', async () => {
    const { ledger } = fixture;
    const database = ledger.as('writer');
    const sealer = createSealer({
      database,
      writeLedger: (work, logs) =>
        logs?.some(({ tenant }) => tenant === 'acme') === true
          ? Promise.reject(new Error('acme cannot be written'))
          : ledger.write(work, logs),
      logs: () => readNewestLogs(database),
      ids: freshIds(),
    });
    await expect(sealer.sealAll()).rejects.toThrow('acme cannot be written');
    expect(
      await ledger
        .as('admin')
        .query<{ log_id: number }>('select log_id from edict.entry where get_byte(header, 1) = 10', []),
    ).toEqual([{ log_id: 2 }]);
  });
});

describe('the signer’s own files', () => {
  it('a memory that is not what it wrote is not believed', async () => {
    const { sealer, newSigner, ledger, memoryFolder, alarms, checkpoints } = fixture;
    await add(1);
    await sealer.sealAll();
    await newSigner().signAll();
    writeFileSync(memoryFile(memoryFolder, ledger.log.origin), '{}');
    await add(1);
    await sealer.sealAll();
    await newSigner().signAll();
    expect(await alarms()).toMatchObject([{ alarm: 'memory_unreadable' }]);
    expect(await checkpoints(ledger.log.id)).toHaveLength(1);
  });

  it('what it cannot write down it does not sign', async () => {
    const { sealer, newSigner, ledger, memoryFolder, checkpoints } = fixture;
    await add(1);
    await sealer.sealAll();
    const file = memoryFile(memoryFolder, ledger.log.origin);
    const signer = newSigner();
    mkdirSync(path.join(memoryFolder, 'aside'), { recursive: true });
    // A folder in the file's place: the last step of replacing it fails, as on a disk that is full the first does.
    mkdirSync(path.join(file, 'x'), { recursive: true });
    await expect(signer.signAll()).rejects.toMatchObject({ code: 'signer_failed' });
    expect(await checkpoints(ledger.log.id)).toEqual([]);
    rmSync(file, { recursive: true });
    await signer.signAll();
    expect(await checkpoints(ledger.log.id)).toHaveLength(1);
    expect(openMemoryFolder(memoryFolder).read(ledger.log.origin)).toMatchObject({ signed: { size: 3n } });
  });

  it.each(
    (['create', 'write', 'sync', 'rename', 'syncFolder'] as const).flatMap((step) =>
      ([1, 2] as const).map((time) => ({ step, time })),
    ),
  )(
    '$step fails for the $time. time: nothing is signed that is not written down, and the next start goes on',
    async ({ step, time }) => {
      const { sealer, newSigner, ledger, store, memoryFolder, checkpoints, alarms } = fixture;
      await add(2);
      await sealer.sealAll();
      await newSigner().signAll();
      await add(300);
      await sealer.sealAll();
      let calls = 0;
      const fault = <Parameters extends readonly unknown[], Result>(
        real: (...parameters: Parameters) => Result,
      ): ((...parameters: Parameters) => Result) => {
        return (...parameters) => {
          calls += 1;
          if (calls === time) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
          return real(...parameters);
        };
      };
      const broken = { ...realReplaceFs, [step]: fault(realReplaceFs[step] as (...parameters: unknown[]) => unknown) };
      await expect(signerIn(ledger.folder, memoryFolder, store, broken).signAll()).rejects.toMatchObject({
        code: 'signer_failed',
      });
      // The first file is written before signing, the second after storing.
      expect((await checkpoints(ledger.log.id)).length).toBe(time === 1 ? 1 : 2);
      await newSigner().signAll();
      const [, second] = await checkpoints(ledger.log.id);
      expect(second).toEqual({
        origin: ledger.log.origin,
        size: 305n,
        root: await rootInDatabase(ledger.log.id, 305n),
      });
      await add(1);
      await sealer.sealAll();
      await newSigner().signAll();
      expect(await checkpoints(ledger.log.id)).toHaveLength(3);
      expect(await alarms()).toEqual([]);
      expect(readdirSync(memoryFolder).filter((name) => !name.endsWith('.json'))).toEqual([]);
    },
  );

  it('a folder that cannot be made is said at once', () => {
    const file = path.join(fixture.ledger.folder, 'file');
    writeFileSync(file, '');
    expect(() => openMemoryFolder(path.join(file, 'below'))).toThrow(
      expect.objectContaining({ code: 'signer_memory_failed' }) as Error,
    );
  });
});

describe('a signer that is killed', () => {
  it('at any statement leaves a log that the next one signs, and never two trees of one size', async () => {
    const { sealer, newSigner, ledger, checkpoints, memoryFolder, alarms, metaLeaves, metaCheckpoints } = fixture;
    const { url, folder, log } = ledger;
    const notes = new Map<string, string>();
    let killed = 0;
    for (let step = 1; ; step += 1) {
      await add(270);
      await sealer.sealAll();
      const child = spawnSync(
        process.execPath,
        [
          'dist/test/audit/signer/signer-child.js',
          url('signer'),
          url('admin'),
          folder,
          memoryFolder,
          masterKey.toString('hex'),
          String(step),
        ],
        { cwd: repositoryRoot, encoding: 'utf8' },
      );
      if (child.signal === 'SIGKILL') killed += 1;
      else if (child.status === 0) break;
      else throw new Error(child.stderr);
      // What was written down before is what is stored in the end.
      const before = openMemoryFolder(memoryFolder).read(log.origin);
      await newSigner().signAll();
      for (const checkpoint of await checkpoints(log.id)) {
        const size = String(checkpoint?.size);
        const root = Buffer.from(checkpoint!.root).toString('hex');
        expect(notes.get(size) ?? root).toBe(root);
        notes.set(size, root);
      }
      if (before !== undefined && before !== 'unreadable')
        expect(notes.get(String(before.signed.size))).toBe(Buffer.from(before.signed.root).toString('hex'));
      await newSigner().signAll();
    }
    // Reading logs and rows; both inserts, so also right after the memory was written; before and after the commit. Then
    // the meta log: read, checkpoints to be listed, lock, insert, before and after the commit, none to be listed, read,
    // leaves, insert, before and after the commit.
    expect(killed).toBe(18);
    const leaves = await metaLeaves();
    expect(leaves.map(({ index, fits }) => [index, fits])).toEqual(leaves.map((_, n) => [BigInt(n), true]));
    const notesOf = leaves.map(({ note }) => note);
    const metas = await metaCheckpoints();
    expect(metas.at(-1)).toMatchObject({ size: BigInt(leaves.length) });
    expect(metas.map((meta) => meta?.root)).toEqual(
      metas.map((meta) => metaRootOf(notesOf.slice(0, Number(meta?.size)))),
    );
    expect(await alarms()).toEqual([]);
    const last = (await checkpoints(log.id)).at(-1);
    expect(last?.root).toEqual(await rootInDatabase(log.id, last!.size));
    expect(readFileSync(memoryFile(memoryFolder, log.origin), 'utf8')).toContain(String(last!.size));
  }, 300_000);
});
