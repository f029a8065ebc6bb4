import pg from 'pg';
import { newDecision, openLedgerFixture, type LedgerFixture, type TestRole } from './ledger-fixture.ts';

/** Every role but the owner: what a service's login may be. */
const SERVICES = ['writer', 'reader', 'reader_all', 'signer', 'maintainer', 'tripwire'] as const;

/**
 * Every right beyond SELECT that a role has on a table or view of the ledger, columns in brackets. A new line here is a
 * decision: whatever is not named is refused, and tried below.
 */
const GRANTED: Readonly<Record<string, readonly string[]>> = {
  edict_writer: [
    'INSERT artifact_part',
    'INSERT decision',
    'INSERT emitter',
    'INSERT entry',
    'INSERT erasure',
    'INSERT ingest_count',
    'INSERT payload',
    'INSERT received',
    'INSERT retention',
    'INSERT set_aside',
    'INSERT source_cursor',
    'INSERT stream',
    'INSERT unknown_tenant_event',
    'INSERT verification',
    'UPDATE emitter',
    'UPDATE erasure (approvals)',
    'UPDATE erasure (authenticated)',
    'UPDATE erasure (ended_us)',
    'UPDATE erasure (erased)',
    'UPDATE erasure (first_seq)',
    'UPDATE erasure (last_seq)',
    'UPDATE erasure (log_id)',
    'UPDATE erasure (state)',
    'UPDATE erasure (subject)',
    'UPDATE ingest_count',
    'UPDATE log_head (last_ingest_us)',
    'UPDATE log_head (leaf)',
    'UPDATE log_head (size)',
    'UPDATE signer_alarm (seq)',
    'UPDATE source_cursor (next_offset)',
    'UPDATE stream',
    'UPDATE tripwire_alarm (seq)',
    'UPDATE verification (finished_us)',
    'UPDATE verification (report)',
    'UPDATE verification (state)',
  ],
  edict_signer: [
    'INSERT checkpoint',
    'INSERT meta_attestation',
    'INSERT meta_checkpoint',
    'INSERT meta_leaf',
    'INSERT meta_node',
    'INSERT signer_alarm',
    'INSERT tree_node',
  ],
  edict_tripwire: ['INSERT tripwire_alarm'],
};

/**
 * What a reader may see beside the rows of its tenants: names of readable logs, which migrations were applied, and of the
 * meta log what names no tenant.
 */
const READABLE_WITHOUT_POLICY = [
  'meta_attestation',
  'meta_checkpoint',
  'meta_log',
  'meta_node',
  'migration',
  'readable_log',
];

interface Refused {
  readonly roles: readonly TestRole[];
  readonly statement: string;
  /** Default: insufficient privilege. */
  readonly sqlstate?: string;
}

/** What no service may do to any table, whatever rights it has on it otherwise. */
const onAnyTable = (table: string): readonly string[] => [
  `truncate ${table}`,
  `alter table ${table} disable trigger all`,
  `alter table ${table} disable row level security`,
  `alter table ${table} replica identity nothing`,
  `alter table ${table} owner to current_user`,
  `drop table ${table} cascade`,
  `create trigger mine before insert on ${table} for each row execute function edict.refuse_change()`,
  `create policy mine on ${table} using (true)`,
  `create rule mine as on insert to ${table} do instead nothing`,
  `lock table ${table} in access exclusive mode`,
];

const ANYWHERE: readonly string[] = [
  'set role edict_owner',
  'set session authorization postgres',
  'set session_replication_role = replica',
  'set local session_replication_role = replica',
  "select set_config('session_replication_role', 'replica', false)",
  'create table edict.mine (a int)',
  'create function edict.mine() returns int language sql as $$ select 1 $$',
  'create schema mine',
  'alter schema edict rename to mine',
  'drop schema edict cascade',
  'drop function edict.refuse_change() cascade',
  'create or replace function edict.refuse_change() returns trigger language plpgsql as $$ begin return new; end $$',
  "select edict.attach_guarded('edict.entry', 'mine', 9, true)",
  'create publication mine for all tables',
  'drop publication edict_append_only',
  'alter publication edict_append_only drop table edict.entry',
  "create subscription mine connection 'host=127.0.0.1' publication mine with (connect = false)",
  'create event trigger mine on ddl_command_start execute function edict.refuse_change()',
  'create extension pageinspect',
  'create role mine',
  'alter role edict_owner login',
  'grant edict_owner to current_user',
  "copy edict.entry to program 'cat'",
  "copy edict.entry to '/tmp/edict-entry'",
  "select pg_read_file('PG_VERSION')",
  "select lo_import('/etc/passwd')",
  "insert into edict.reader_tenant values (current_user, '*')",
  'select * from edict.reader_tenant',
  'select pg_switch_wal()',
  "do $$ begin perform pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres' and pid <> pg_backend_pid(); end $$",
];

describe('what every role is refused', () => {
  let ledger: LedgerFixture;
  let tables: readonly string[];
  const connections = new Map<TestRole | 'admin', pg.Client>();

  /** A plain session of the role: the ledger's own client would set things of its own. */
  const session = async (role: TestRole | 'admin'): Promise<pg.Client> => {
    const known = connections.get(role);
    if (known !== undefined) return known;
    const client = new pg.Client({ connectionString: ledger.url(role) });
    await client.connect();
    connections.set(role, client);
    return client;
  };

  const rows = async (role: TestRole | 'admin', text: string): Promise<unknown[]> =>
    (await (await session(role)).query({ text, rowMode: 'array' })).rows;

  /** The SQLSTATE that a statement ends with, `done` when it is carried out; nothing of it stays. */
  const outcome = async (role: TestRole, statement: string): Promise<string> => {
    const client = await session(role);
    await client.query('begin');
    try {
      await client.query(statement);
      return 'done';
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    } finally {
      await client.query('rollback');
    }
  };

  /** The statements that did not end as they must. */
  const exceptions = async (refused: readonly Refused[]): Promise<readonly string[]> => {
    const wrong: string[] = [];
    for (const { roles, statement, sqlstate = '42501' } of refused)
      for (const role of roles) {
        const found = await outcome(role, statement);
        if (found !== sqlstate) wrong.push(`${role}: ${statement}: ${found}`);
      }
    return wrong;
  };

  const may = (role: TestRole, right: string, table: string): boolean =>
    (GRANTED[`edict_${role}`] ?? []).some(
      (granted) => granted === `${right} ${table}` || granted.startsWith(`${right} ${table} (`),
    );

  beforeAll(async () => {
    ledger = await openLedgerFixture();
    const other = await ledger.createTenant('globex');
    await ledger.write(({ append }) => append(ledger.log, [newDecision(), newDecision()]));
    await ledger.write(({ append }) => append(other, [newDecision(), newDecision()]));
    await ledger.as('admin').query("insert into edict.reader_tenant values ('edict_test_reader', 'globex')");
    tables = (
      await rows(
        'admin',
        `select relname::text from pg_class where relnamespace = 'edict'::regnamespace and relkind in ('r', 'p')
         order by relname`,
      )
    ).map((row) => (row as [string])[0]);
  }, 60_000);
  afterAll(async () => {
    for (const client of connections.values()) await client.end();
    await ledger.close();
  });

  it('no right is granted but those that are named, and none on a partition', async () => {
    const found = (await rows(
      'admin',
      `select a.grantee::regrole::text,
              array_agg(a.right || ' ' || a.relname || coalesce(' (' || a.attname || ')', '') order by 1)
       from (
         select g.grantee, g.privilege_type as right, c.relname, null as attname, c.relowner
         from pg_class c cross join aclexplode(c.relacl) g where c.relnamespace = 'edict'::regnamespace
         union all
         select g.grantee, g.privilege_type, c.relname, t.attname, c.relowner
         from pg_class c join pg_attribute t on t.attrelid = c.oid cross join aclexplode(t.attacl) g
         where c.relnamespace = 'edict'::regnamespace) a
       where a.grantee <> a.relowner and a.right <> 'SELECT' group by 1 order by 1`,
    )) as readonly [string, string[]][];
    expect(Object.fromEntries(found.map(([role, granted]) => [role, granted.toSorted()]))).toEqual(GRANTED);
    expect(
      await rows(
        'admin',
        `select c.relname from pg_class c cross join aclexplode(c.relacl) g
         where c.relnamespace = 'edict'::regnamespace and c.relispartition and g.grantee <> c.relowner`,
      ),
    ).toEqual([]);
  });

  it('whatever a reader may select shows rows by policy only', async () => {
    const open = await rows(
      'admin',
      `select distinct c.relname from pg_class c cross join aclexplode(c.relacl) g
       where c.relnamespace = 'edict'::regnamespace and not c.relrowsecurity and g.privilege_type = 'SELECT'
         and (g.grantee = 0 or g.grantee in ('edict_reader'::regrole, 'edict_reader_all'::regrole)) order by 1`,
    );
    expect(open.flat()).toEqual(READABLE_WITHOUT_POLICY);
  });

  it('functions belong to who needs them, and those that act as the owner trust no search path', async () => {
    const found = await rows(
      'admin',
      `select p.proname::text, p.prosecdef, array(select g.grantee::regrole::text from aclexplode(p.proacl) g
                                                  where g.grantee <> p.proowner order by 1), p.proconfig
       from pg_proc p where p.pronamespace = 'edict'::regnamespace
         and (p.prosecdef or p.proacl is null or exists (select from aclexplode(p.proacl) g where g.grantee <> p.proowner))
       order by 1`,
    );
    const path = ['search_path=pg_catalog, pg_temp'];
    expect(found).toEqual([
      ['clean_search', true, ['edict_writer'], path],
      ['close_earlier', true, [], path],
      ['create_segment', true, ['edict_writer'], path],
      ['drop_payload_segment', true, ['edict_maintainer'], path],
      ['require_covered', true, [], path],
    ]);
    // Also a function that a later migration makes and says nothing about.
    await ledger.as('owner').transaction(async (sql) => {
      await sql.query('set local role edict_owner');
      await sql.query('create function edict.later() returns int language sql as $$ select 1 $$');
    });
    expect(await exceptions([{ roles: SERVICES, statement: 'select edict.later()' }])).toEqual([]);
    await ledger.as('admin').query('drop function edict.later()');
  });

  it('no service truncates, locks, alters or drops any table, parent or partition', async () => {
    const refused = tables.flatMap((table) =>
      onAnyTable(`edict.${table}`).map((statement) => ({ roles: SERVICES, statement })),
    );
    expect(refused.length).toBeGreaterThan(100);
    // Who may change some rows may also lock the table against others; never of entries and payloads.
    const mayLock = (role: TestRole, statement: string): boolean =>
      statement.startsWith('lock') &&
      tables.some(
        (table) =>
          statement.includes(`edict.${table} `) &&
          (GRANTED[`edict_${role}`] ?? []).some((granted) => /^(UPDATE|DELETE) (\S+)$/.exec(granted)?.[2] === table),
      );
    const wrong = await exceptions(
      refused.map(({ roles, statement }) => ({ statement, roles: roles.filter((role) => !mayLock(role, statement)) })),
    );
    expect(wrong).toEqual([]);
  }, 60_000);

  it('no service inserts, changes or removes a row of any table without the right to it', async () => {
    const refused = tables.flatMap((table) => {
      const name = `edict.${table}`;
      const without = (right: string) => SERVICES.filter((role) => !may(role, right, table));
      return [
        { roles: without('INSERT'), statement: `insert into ${name} default values` },
        { roles: without('INSERT'), statement: `copy ${name} from stdin` },
        { roles: without('DELETE'), statement: `delete from ${name}` },
        {
          roles: without('UPDATE'),
          statement: `do $$ declare c name; begin
            select attname into strict c from pg_catalog.pg_attribute
            where attrelid = '${name}'::pg_catalog.regclass and attnum = 1;
            execute pg_catalog.format('update ${name} set %I = %I', c, c); end $$`,
        },
      ];
    });
    expect(await exceptions(refused)).toEqual([]);
  }, 60_000);

  it('no service leaves its role, writes into the schema, or reaches the server behind it', async () => {
    expect(await exceptions(ANYWHERE.map((statement) => ({ roles: SERVICES, statement })))).toEqual([]);
    // It runs in no transaction.
    for (const role of SERVICES)
      await expect((await session(role)).query("alter system set wal_level = 'minimal'")).rejects.toMatchObject({
        code: '42501',
      });
  });

  it('each service is kept to its own part', async () => {
    const others = (...roles: readonly TestRole[]) => SERVICES.filter((role) => !roles.includes(role));
    const conflict = 'on conflict (log_id, segment, seq) do update set seq = excluded.seq';
    expect(
      await exceptions([
        { roles: others('writer'), statement: 'select edict.create_segment(1, 1)' },
        { roles: others('maintainer'), statement: 'select edict.drop_payload_segment(1, 0, 1, 70000)' },
        { roles: ['maintainer'], statement: 'select edict.drop_payload_segment(1, 0, 1, 1)', sqlstate: '22023' },
        { roles: ['writer'], statement: `insert into edict.entry select * from edict.entry ${conflict}` },
        { roles: ['writer'], statement: `insert into edict.payload select * from edict.payload ${conflict}` },
        { roles: ['writer'], statement: 'select * from edict.entry for update' },
        { roles: ['writer'], statement: 'update edict.log_head set log_id = 2 where log_id = 1' },
        { roles: ['writer'], statement: 'update edict.source_cursor set topic = topic' },
        { roles: ['writer'], statement: 'update edict.verification set log_id = log_id' },
        { roles: ['writer'], statement: 'update edict.signer_alarm set alarm = alarm' },
        { roles: ['writer'], statement: 'update edict.tripwire_alarm set rows = rows' },
        // COPY into a table with row-level security is refused as a whole.
        { roles: ['writer'], statement: 'copy edict.entry from stdin', sqlstate: '0A000' },
        {
          roles: ['signer'],
          statement: `insert into edict.checkpoint (log_id, size, root, note, signed_us) values (1, 1, sha256(''), 'x', 0)
                      on conflict (log_id, size) do update set note = excluded.note`,
        },
        { roles: ['tripwire'], statement: 'select * from edict.tripwire_alarm' },
        {
          roles: ['tripwire'],
          statement: `insert into edict.tripwire_alarm (lsn, relation, operation, rows, keys, raised_us)
                      values ('0/1', '', 'x', 0, '{}', 0) on conflict (lsn, relation, operation) do update set rows = 1`,
        },
        ...['log', 'entry', 'payload', 'decision', 'emitter', 'checkpoint'].map((table) => ({
          roles: ['tripwire'] as const,
          statement: `select * from edict.${table}`,
        })),
        ...['payload', 'received', 'stream', 'emitter', 'source_cursor'].map((table) => ({
          roles: ['maintainer'] as const,
          statement: `select * from edict.${table}`,
        })),
        ...['decision', 'received', 'stream', 'emitter', 'source_cursor'].map((table) => ({
          roles: ['signer'] as const,
          statement: `select * from edict.${table}`,
        })),
        { roles: ['reader', 'reader_all'], statement: 'select * from edict.source_cursor' },
        ...tables
          .filter((table) => /_l\d/.test(table))
          .map((table) => ({ roles: SERVICES, statement: `select * from edict.${table}` })),
      ]),
    ).toEqual([]);
  });

  it('a function that acts as the owner is not led astray by what the caller made', async () => {
    const client = await session('writer');
    await client.query(`
      create temp table log_head (log_id int, size bigint);
      insert into log_head values (1, 1 << 30);
      create temp table entry (log_id int);
      create function pg_temp.to_regclass(text) returns regclass language sql as $$ select null::regclass $$;
      set search_path = pg_temp, edict, pg_catalog`);
    try {
      await expect(client.query('select edict.create_segment(1, 5)')).rejects.toMatchObject({ code: '22023' });
      expect((await client.query('select edict.create_segment(1, 0) as made')).rows).toEqual([{ made: false }]);
      expect((await client.query('select edict.create_segment(1, 1) as made')).rows).toEqual([{ made: true }]);
    } finally {
      await client.query('discard all');
    }
    expect(
      await rows(
        'admin',
        `select relname, relowner::regrole::text from pg_class
         where relname ~ '_l1_s1$' and relkind = 'r' order by relname`,
      ),
    ).toEqual([
      ['entry_l1_s1', 'edict_owner'],
      ['payload_l1_s1', 'edict_owner'],
    ]);
  });

  it('a reader of one tenant learns nothing of another, whatever it sets or calls', async () => {
    await ledger.as('writer').query(
      `insert into edict.emitter (emitter, first_seen_us, last_seen_us) select repeat(e, 32), 0, 0
       from unnest(array['a', 'b']) e`,
    );
    for (const [log, emitter] of [
      ['acme', 'a'],
      ['globex', 'b'],
    ])
      await ledger.as('writer').query(
        `insert into edict.stream (log_id, emitter, boot, last_ingest_us)
         select id, repeat('${emitter}', 32), 1, 0 from edict.log where tenant = '${log}'`,
      );
    const mine = 2;
    const byLog = (
      await rows(
        'admin',
        `select c.relname::text from pg_class c join pg_attribute t on t.attrelid = c.oid and t.attname = 'log_id'
         where c.relnamespace = 'edict'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
           and has_table_privilege('edict_reader', c.oid, 'SELECT') order by 1`,
      )
    ).flat() as string[];
    expect(byLog.length).toBeGreaterThan(10);
    const client = await session('reader');
    for (const setting of [
      '',
      'set row_security = on',
      "set edict.tenant = 'acme'",
      "set edict.reader = 'edict_reader_all'",
      "set session characteristics as transaction isolation level serializable; set role = 'none'",
      'set search_path = pg_temp, edict',
      "set constraint_exclusion = off; set enable_partition_pruning = off; set plan_cache_mode = 'force_generic_plan'",
      // A cheap function that tells what it is given must not see a row before the policy has.
      `create or replace function pg_temp.tell(x anyelement) returns boolean language plpgsql cost 0.0000001 as
       $$ begin raise notice 'told %', x; return true; end $$`,
    ]) {
      if (setting !== '') await client.query(setting);
      for (const table of byLog) {
        const { rows: seen } = await client.query(`select distinct log_id from edict.${table} where log_id <> ${mine}`);
        expect({ setting, table, seen }).toEqual({ setting, table, seen: [] });
      }
      expect((await client.query('select tenant::text from edict.log')).rows).toEqual([{ tenant: 'globex' }]);
      expect((await client.query('select tenant from edict.readable_log')).rows).toEqual([{ tenant: 'globex' }]);
      expect((await client.query('select emitter::text from edict.emitter')).rows).toEqual([
        { emitter: 'b'.repeat(32) },
      ]);
    }
    const told: string[] = [];
    client.on('notice', ({ message }) => told.push(message ?? ''));
    await client.query('select from edict.decision where pg_temp.tell(log_id)');
    await client.query('select from edict.readable_log where pg_temp.tell(id)');
    expect(new Set(told)).toEqual(new Set([`told ${mine}`]));
    // An error that only another tenant's row would raise.
    await client.query(`select from edict.entry where 1 / (log_id - 1) > 0`);
    for (const statement of [
      'set row_security = off; select * from edict.log',
      'set role edict_reader_all',
      'set role edict_test_reader_all',
    ])
      await expect(client.query(statement)).rejects.toMatchObject({ code: '42501' });
    expect((await (await session('reader_all')).query('select emitter from edict.emitter')).rows).toHaveLength(2);
  });
});
