import { newDecision, openLedgerFixture, type LedgerFixture, type TestRole } from './ledger-fixture.ts';

const PARTITIONED = ['entry', 'payload'] as const;
const ROLES: readonly TestRole[] = ['owner', 'writer', 'reader', 'reader_all', 'signer', 'maintainer'];

describe('what each role may do', () => {
  let ledger: LedgerFixture;

  beforeAll(async () => {
    ledger = await openLedgerFixture();
    await ledger.write(({ append }) => append(ledger.log, [newDecision(), newDecision()]));
  });
  afterAll(() => ledger.close());

  /** Parent, log and segment of a table. */
  const tables = PARTITIONED.flatMap((name) => [`edict.${name}`, `edict.${name}_l1`, `edict.${name}_l1_s0`]);
  const changes = tables.flatMap((table) => [
    `update ${table} set seq = seq`,
    `delete from ${table}`,
    `truncate ${table}`,
    `delete from ${table} where seq = 1`,
    `merge into ${table} t using (select 1 as seq) s on t.seq = s.seq when matched then delete`,
    `insert into ${table} select * from ${table} where seq = 1 on conflict (log_id, segment, seq) do update set seq = excluded.seq`,
  ]);

  it.each(ROLES)('%s cannot change, remove or replace an entry or payload, on parent or partition', async (role) => {
    const before = await ledger
      .as('admin')
      .query('select sum(hashtextextended(e::text, 0)) as sum from edict.entry e', []);
    for (const statement of changes)
      await expect(ledger.as(role).query(statement)).rejects.toMatchObject({ details: { sqlstate: '42501' } });
    expect(
      await ledger.as('admin').query('select sum(hashtextextended(e::text, 0)) as sum from edict.entry e', []),
    ).toEqual(before);
  });

  it('the writer cannot put another leaf at the end of a log', async () => {
    await expect(
      ledger.as('writer').query(`update edict.log_head set leaf = sha256('x') where log_id = ${ledger.log.id}`),
    ).rejects.toMatchObject({ details: { sqlstate: '42501' } });
  });

  it('a superuser is stopped by the triggers too, also as a replica', async () => {
    for (const statement of changes)
      for (const setting of ['origin', 'replica'])
        await expect(
          ledger.as('admin').transaction(async (sql) => {
            await sql.query(`set local session_replication_role = ${setting}`);
            await sql.query(statement);
          }),
        ).rejects.toMatchObject({ details: { sqlstate: '42501' } });
  });

  it('nobody moves a head back, removes it, or edits a log', async () => {
    for (const statement of [
      'update edict.log_head set size = 0',
      'update edict.log_head set last_ingest_us = 0',
      'delete from edict.log_head',
      'truncate edict.log_head',
      "update edict.log set vkey = 'other'",
      'delete from edict.log',
      'truncate edict.log cascade',
    ])
      for (const role of [...ROLES, 'admin' as const])
        await expect(ledger.as(role).query(statement)).rejects.toMatchObject({ details: { sqlstate: '42501' } });
  });

  it('a header that is not at its place, or has another leaf, is refused at the insert', async () => {
    const insert = (header: string, leaf: string, seq: number, segment = 0) =>
      ledger.as('writer').query(
        `insert into edict.entry (log_id, segment, seq, header, leaf)
           select log_id, ${segment}, ${seq}, ${header}, ${leaf} from edict.entry where seq = 1`,
      );
    const shifted = 'set_byte(header, 9, 9)';
    await expect(insert('header', 'leaf', 9)).rejects.toMatchObject({ details: { constraint: 'entry_position' } });
    await expect(insert(shifted, 'leaf', 9)).rejects.toMatchObject({ details: { constraint: 'entry_leaf' } });
    await expect(insert(shifted, `sha256('\\x00'::bytea || ${shifted})`, 9, 1)).rejects.toMatchObject({
      code: 'internal',
    });
  });

  it('only the writer adds entries, and only the owner logs', async () => {
    for (const role of ['reader', 'reader_all', 'signer', 'maintainer'] as const)
      for (const table of ['entry', 'payload', 'received', 'stream', 'source_cursor', 'decision', 'log_head'])
        await expect(ledger.as(role).query(`insert into edict.${table} default values`)).rejects.toMatchObject({
          details: { sqlstate: '42501' },
        });
    await expect(ledger.as('writer').query('insert into edict.log select * from edict.log')).rejects.toMatchObject({
      details: { sqlstate: '42501' },
    });
  });

  it('the writer makes the next segment with its guards, and no other', async () => {
    await expect(ledger.as('writer').query('select edict.create_segment(1, 5)')).rejects.toMatchObject({
      details: { sqlstate: '22023' },
    });
    await expect(ledger.as('reader').query('select edict.create_segment(1, 1)')).rejects.toMatchObject({
      details: { sqlstate: '42501' },
    });
    expect(await ledger.as('writer').query('select edict.create_segment(1, 1) as made')).toEqual([{ made: true }]);
    expect(await ledger.as('writer').query('select edict.create_segment(1, 1) as made')).toEqual([{ made: false }]);
    const triggers = await ledger.as('admin').query<{ table: string; enabled: string; n: number }>(
      `select tgrelid::regclass::text as table, string_agg(distinct tgenabled::text, '') as enabled, count(*)::int as n
       from pg_trigger where tgrelid::regclass::text ~ '^edict\\.(entry|payload)' group by 1 order by 1`,
      [],
    );
    expect(triggers).toEqual(
      ['entry', 'payload'].flatMap((name) =>
        [name, `${name}_l1`, `${name}_l1_s0`, `${name}_l1_s1`].map((table) => ({
          table: `edict.${table}`,
          enabled: 'A',
          n: 2,
        })),
      ),
    );
  });

  it('a reader sees the tenants that its roles have, whatever it sets', async () => {
    const other = await ledger.createTenant('globex');
    const seen = (role: TestRole) =>
      ledger.as(role).query<{ tenant: string }>('select tenant::text as tenant from edict.log order by tenant', []);
    const entries = (role: TestRole) =>
      ledger.as(role).query('select distinct log_id from edict.entry order by log_id', []);
    expect(await seen('reader_all')).toEqual([{ tenant: 'acme' }, { tenant: 'globex' }]);
    expect(await seen('reader')).toEqual([]);
    expect(await entries('reader')).toEqual([]);
    await ledger.as('admin').query("insert into edict.reader_tenant values ('edict_test_reader', 'globex')");
    expect(await seen('reader')).toEqual([{ tenant: 'globex' }]);
    expect(await entries('reader')).toEqual([{ log_id: other.id }]);
    expect(await ledger.as('reader').query('select seq from edict.decision', [])).toEqual([]);
    for (const trick of [
      "set edict.tenant = 'acme'; select tenant from edict.log where tenant = 'acme'",
      "set row_security = on; select tenant from edict.readable_log where tenant = 'acme'",
      'select seq from edict.received where log_id = 1',
    ])
      expect(await ledger.as('reader').query(trick)).toEqual([]);
    for (const statement of [
      'set row_security = off; select tenant from edict.log',
      'set role edict_reader_all',
      'select * from edict.entry_l1_s0',
      "insert into edict.reader_tenant values ('edict_test_reader', '*')",
    ])
      await expect(ledger.as('reader').query(statement)).rejects.toMatchObject({ details: { sqlstate: '42501' } });
  });

  it('only the maintainer drops payloads, only the writer cleans search rows, each behind an entry that says so', async () => {
    const drop = (role: TestRole, seq: number) =>
      ledger.as(role).query('select edict.drop_payload_segment(1, 0, 1, $1::bigint)', [seq]);
    const clean = (role: TestRole) => ledger.as(role).query(`select edict.clean_search(1, '[["1","1"]]', 1, 2)`);
    for (const role of ['writer', 'reader', 'reader_all', 'signer'] as const)
      await expect(drop(role, 65_536)).rejects.toMatchObject({ details: { sqlstate: '42501' } });
    for (const role of ['maintainer', 'reader', 'reader_all', 'signer'] as const)
      await expect(clean(role)).rejects.toMatchObject({ details: { sqlstate: '42501' } });
    for (const seq of [2, 65_536])
      await expect(drop('maintainer', seq)).rejects.toMatchObject({ details: { sqlstate: '22023' } });
    await expect(clean('writer')).rejects.toMatchObject({ details: { sqlstate: '22023' } });
  });

  it('only the writer sees requests for erasure, and nobody lowers the floor of retention', async () => {
    for (const role of ['reader', 'reader_all', 'signer', 'maintainer'] as const)
      await expect(ledger.as(role).query('select * from edict.erasure')).rejects.toMatchObject({
        details: { sqlstate: '42501' },
      });
    for (const role of ['writer', 'reader', 'reader_all', 'signer', 'maintainer'] as const)
      await expect(ledger.as(role).query('update edict.retention_floor set days = 0')).rejects.toMatchObject({
        details: { sqlstate: '42501' },
      });
    await expect(ledger.as('writer').query('delete from edict.retention')).rejects.toMatchObject({
      details: { sqlstate: '42501' },
    });
  });

  it('only the signer adds checkpoints and hashes of tiles, and nobody changes them', async () => {
    const insert = [
      `insert into edict.checkpoint (log_id, size, root, note, signed_us) values (1, 2, sha256(''), 'x', 0)`,
      `insert into edict.tree_node (log_id, level, index, hash) values (1, 1, 0, sha256(''))`,
      `insert into edict.signer_alarm (log_id, alarm, signed_size, what, expected, actual, raised_us)
       values (1, 'log_rewound', 2, '', '', '', 0)`,
      `insert into edict.meta_leaf (incarnation, index, log_id, size, entry) values (1, 0, 1, 2, sha256(''))`,
      `insert into edict.meta_node (incarnation, level, index, hash) values (1, 1, 0, sha256(''))`,
      `insert into edict.meta_checkpoint (incarnation, size, root, note, signed_us) values (1, 1, sha256(''), 'x', 0)`,
      `insert into edict.meta_attestation (incarnation, size, kind, source, time_ms, bytes, stored_us)
       values (1, 1, 'cosignature', 'w', 0, 'x', 0)`,
    ];
    const meta = ['meta_log', 'meta_leaf', 'meta_node', 'meta_checkpoint', 'meta_attestation'];
    await ledger.as('owner').query(`insert into edict.meta_log values (1, 'o', 'v', 0)`);
    await expect(ledger.as('signer').query(`insert into edict.meta_log values (2, 'p', 'v', 0)`)).rejects.toMatchObject(
      {
        details: { sqlstate: '42501' },
      },
    );
    for (const statement of insert) {
      for (const role of ['writer', 'reader', 'reader_all', 'maintainer'] as const)
        await expect(ledger.as(role).query(statement)).rejects.toMatchObject({ details: { sqlstate: '42501' } });
      await ledger.as('signer').query(statement);
    }
    for (const role of [...ROLES, 'admin' as const])
      for (const table of ['checkpoint', 'tree_node', ...meta])
        for (const statement of [
          `update edict.${table} set ${table.startsWith('meta') ? 'incarnation' : 'log_id'} = 1`,
          `delete from edict.${table}`,
          `truncate edict.${table} cascade`,
        ])
          await expect(ledger.as(role).query(statement)).rejects.toMatchObject({ details: { sqlstate: '42501' } });
    await expect(ledger.as('writer').query('delete from edict.signer_alarm')).rejects.toMatchObject({
      details: { sqlstate: '42501' },
    });
    await expect(ledger.as('signer').query('update edict.signer_alarm set seq = 1')).rejects.toMatchObject({
      details: { sqlstate: '42501' },
    });
    expect(await ledger.as('reader_all').query('select log_id from edict.checkpoint', [])).toEqual([{ log_id: 1 }]);
  });

  it('no service removes a search row by hand', async () => {
    for (const role of ['writer', 'reader', 'reader_all', 'signer', 'maintainer'] as const)
      await expect(ledger.as(role).query('delete from edict.decision where seq = 1')).rejects.toMatchObject({
        details: { sqlstate: '42501' },
      });
  });
});
