import type { Ack } from '../../../services/shared/contracts/ack.ts';
import { leafHash, decodeEntry, encodeEntry } from '../../../services/audit/core/entry.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createVerifier } from '../../../services/audit/postgres/read-verification.ts';
import type { VerdictName, VerificationReport } from '../../../services/audit/core/verify-report.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { LEDGER_TEMPLATE, openLedger, searchNames } from '../http/ledger-fixture.ts';

/** What a superuser does first: no trigger and no check is left. The table is the partition of acme, log 2. */
const DISARM = `
  alter table edict.entry_l2_s0 disable trigger all;
  alter table edict.payload_l2_s0 disable trigger all;
  alter table edict.log_head disable trigger all;
  alter table edict.log disable trigger all;
  alter table edict.entry drop constraint entry_leaf;
  alter table edict.entry drop constraint entry_position;
`;
const LOG = 'log_id = 2';

interface Attack {
  readonly name: string;
  readonly sql: string;
  /** Every verdict that must be red; no other may be. */
  readonly red: readonly VerdictName[];
  /** Where the first finding lies. */
  readonly seq: string;
}

const flip = (column: string, at: number): string =>
  `set ${column} = set_byte(${column}, ${at}, get_byte(${column}, ${at}) # 1)`;

const ATTACKS: readonly Attack[] = [
  {
    name: 'a byte of an encrypted payload',
    sql: `update edict.payload ${flip('ciphertext', 80)} where ${LOG} and seq = 3`,
    red: ['integrity'],
    seq: '3',
  },
  {
    name: 'a byte of a header',
    sql: `update edict.entry ${flip('header', 84)} where ${LOG} and seq = 3`,
    red: ['integrity'],
    seq: '3',
  },
  {
    name: 'the emitter in a header',
    sql: `update edict.entry ${flip('header', 90)} where ${LOG} and seq = 3`,
    red: ['integrity', 'projection', 'completeness'],
    seq: '3',
  },
  {
    name: 'the event id in a header',
    sql: `update edict.entry ${flip('header', 20)} where ${LOG} and seq = 3`,
    red: ['integrity'],
    seq: '3',
  },
  {
    name: 'a header together with its leaf hash',
    sql: `update edict.entry ${flip('header', 84)} where ${LOG} and seq = 3;
          update edict.entry set leaf = sha256('\\x00'::bytea || header) where ${LOG} and seq = 3`,
    red: ['integrity'],
    seq: '4',
  },
  {
    name: 'a stored leaf hash',
    sql: `update edict.entry ${flip('leaf', 0)} where ${LOG} and seq = 3`,
    red: ['integrity'],
    seq: '3',
  },
  {
    name: 'a decision in the search table',
    sql: `update edict.decision set decision = 'allow' where ${LOG} and seq = 3`,
    red: ['projection'],
    seq: '3',
  },
  {
    name: 'a pseudonym in the search table',
    sql: `update edict.decision ${flip('subject', 5)} where ${LOG} and seq = 3`,
    red: ['projection'],
    seq: '3',
  },
  {
    name: 'a search row deleted',
    sql: `delete from edict.decision where ${LOG} and seq = 3`,
    red: ['projection'],
    seq: '3',
  },
  {
    name: 'a search row invented',
    sql: `insert into edict.decision select log_id, 99, gen_random_uuid(), event_time_ms, ingest_us, decision, reasons,
            subject, agent, action, resource_type, resource, purpose, session_id, request_id, caller
          from edict.decision where ${LOG} and seq = 3`,
    red: ['projection'],
    seq: '99',
  },
  {
    name: 'a row deleted from the middle',
    sql: `delete from edict.entry where ${LOG} and seq = 3`,
    red: ['integrity', 'projection', 'completeness', 'lifecycle'],
    seq: '3',
  },
  {
    name: 'a row and all that hangs on it deleted from the middle',
    sql: `delete from edict.entry where ${LOG} and seq = 3; delete from edict.payload where ${LOG} and seq = 3;
          delete from edict.decision where ${LOG} and seq = 3; delete from edict.received where ${LOG} and seq = 3`,
    red: ['integrity', 'projection', 'completeness'],
    seq: '3',
  },
  {
    name: 'the tail deleted',
    sql: `delete from edict.entry where ${LOG} and seq >= 8; delete from edict.payload where ${LOG} and seq >= 8;
          delete from edict.decision where ${LOG} and seq >= 8`,
    red: ['append_only', 'projection', 'completeness'],
    seq: '8',
  },
  {
    name: 'the tail deleted, and the head with it',
    sql: `delete from edict.entry where ${LOG} and seq >= 8; delete from edict.payload where ${LOG} and seq >= 8;
          delete from edict.decision where ${LOG} and seq >= 8;
          update edict.log_head set size = 8, leaf = (select leaf from edict.entry where ${LOG} and seq = 7) where ${LOG}`,
    red: ['projection', 'completeness'],
    seq: '',
  },
  {
    name: 'two rows that changed places',
    sql: `update edict.entry set seq = 1003 where ${LOG} and seq = 3;
          update edict.entry set seq = 3 where ${LOG} and seq = 4;
          update edict.entry set seq = 4 where ${LOG} and seq = 1003`,
    red: ['integrity'],
    seq: '3',
  },
  {
    name: 'two payloads swapped',
    sql: `update edict.payload set seq = 1003 where ${LOG} and seq = 3;
          update edict.payload set seq = 3 where ${LOG} and seq = 4;
          update edict.payload set seq = 4 where ${LOG} and seq = 1003`,
    red: ['integrity'],
    seq: '3',
  },
  {
    name: 'a payload deleted',
    sql: `delete from edict.payload where ${LOG} and seq = 3`,
    red: ['lifecycle'],
    seq: '3',
  },
  {
    name: 'a payload key deleted',
    sql: `delete from edict_keys.payload_key where seq = 3 and event_id = (
            select event_id from edict.received where ${LOG} and seq = 3)`,
    red: ['lifecycle'],
    seq: '3',
  },
  ...(
    [
      ['a received event deleted', 'delete from edict.received where log_id = 2 and seq = 3', '3'],
      [
        'the digest of a received event',
        "update edict.received set digest = sha256('x') where log_id = 2 and seq = 3",
        '3',
      ],
      ['the entry of a received event', 'update edict.received set seq = 900 where log_id = 2 and seq = 3', '3'],
      [
        'the number of a received event',
        'update edict.received set number = 9, boot = 8 where log_id = 2 and seq = 3',
        '3',
      ],
      [
        'the id of a received event',
        'update edict.received set event_id = gen_random_uuid() where log_id = 2 and seq = 3',
        '3',
      ],
      [
        'a received event invented',
        "insert into edict.received values (2, gen_random_uuid(), sha256('x'), repeat('a', 32), 1, 1, 9999)",
        '',
      ],
      ['how far a stream is complete', 'update edict.stream set complete_to = 12 where log_id = 2', ''],
      ['how far a stream goes', 'update edict.stream set complete_to = 12, highest = 12 where log_id = 2', ''],
      [
        'a stream that lags behind',
        'update edict.stream set complete_to = 1, covered_to = 1, highest = 1 where log_id = 2',
        '',
      ],
      ['how far a stream is covered', 'update edict.stream set covered_to = 12 where log_id = 2', ''],
      ['a stream deleted', 'delete from edict.stream where log_id = 2', ''],
      ['an emitter deleted', 'delete from edict.emitter', ''],
    ] as const
  ).map(([name, sql, seq]): Attack => ({
    name,
    sql,
    // A number beyond the log's is a claim as well.
    red: /the number of a received|invented/.test(name) ? ['projection', 'completeness'] : ['projection'],
    seq,
  })),
  {
    name: 'the key of an emitter',
    sql: `update edict.emitter set public_key = sha256('x')`,
    red: ['projection'],
    seq: '',
  },
  {
    name: 'a log that got the key of another',
    sql: `update edict.log set vkey = 'other' where id = 2`,
    red: ['integrity'],
    seq: '0',
  },
];

describe('a superuser who disables the triggers and alters', () => {
  let test: TestDatabase;
  let database: Database;

  beforeEach(async () => {
    test = await createTestDatabase(LEDGER_TEMPLATE);
    database = connectPostgres(test.adminUrl, { poolSize: 2 });
  });
  afterEach(async () => {
    await database.close();
    await test.close();
  });

  /** Later than the grace time, so that nothing that is missing may still be on its way. */
  const verify = async (
    tenant = 'acme',
    remembered?: Parameters<ReturnType<typeof createVerifier>>[1],
    acks: readonly Ack[] = [],
  ) => {
    const { keys } = openLedger(database);
    const run = createVerifier({
      database,
      reports: database,
      keys,
      nameForSearch: searchNames,
      graceMs: 60_000,
      placeKey: Buffer.alloc(32, 1),
      acks: () => Promise.resolve(acks),
      now: () => Date.now() + 3_600_000,
    });
    const [report] = await run(tenant, remembered ?? {});
    if (report === undefined) throw new Error(`no ledger of ${tenant}`);
    return report;
  };
  const redOf = ({ verdicts }: VerificationReport): readonly string[] =>
    Object.entries(verdicts)
      .filter(([, verdict]) => verdict.status === 'failed')
      .map(([name]) => name);

  it('alters nothing: no verdict is red, and the counts are those of the ledger', async () => {
    for (const tenant of ['acme', 'globex', 'edict']) expect(redOf(await verify(tenant))).toEqual([]);
    const report = await verify();
    expect(report).toMatchObject({ size: '10' });
    expect(report.verdicts.integrity.checked).toEqual({ entries: 10, payloads: 10 });
    expect(report.verdicts.projection.checked).toEqual({ rows: 8, received: 9, streams: 1, emitters: 1 });
    expect(report.verdicts.authenticity.checked).toEqual({ emitter_signatures: 1 });
    expect((await verify('edict')).verdicts.authenticity.checked).toEqual({ emitter_signatures: 1 });
  });

  it('is stopped by the triggers while they are there', async () => {
    await expect(
      database.query(`update edict.payload ${flip('ciphertext', 80)} where ${LOG} and seq = 3`),
    ).rejects.toMatchObject({ message: expect.stringContaining('append-only') as unknown });
  });

  it.each(ATTACKS)('$name: red is $red', async ({ sql, red, seq }) => {
    await database.query(DISARM);
    await database.query(sql);
    const report = await verify();
    expect(redOf(report)).toEqual(red);
    expect(report.findings.find((finding) => finding.seq !== null)?.seq ?? '').toBe(seq);
  });

  it('deletes the end and cleans every table: found only by an acknowledgement that emitters hold', async () => {
    const [received] = await database.query<{ emitter: string }>(
      'select emitter::text as emitter from edict.received limit 1',
      [],
    );
    const ack: Ack = {
      emitter: received?.emitter ?? '',
      boot: '1',
      tenant: 'acme',
      complete_to: '9',
      holes: [],
      covered_to: '9',
      origin: 'audit.example.com/acme/0/1',
      tree_size: '10',
      signature: '',
    };
    const whole = await verify('acme', {}, [ack]);
    expect([redOf(whole), whole.verdicts.append_only.status]).toEqual([[], 'ok']);
    await database.query(DISARM);
    await database.query(
      `delete from edict.entry where ${LOG} and seq >= 8; delete from edict.payload where ${LOG} and seq >= 8;
       delete from edict.decision where ${LOG} and seq >= 8; delete from edict.received where ${LOG} and seq >= 8;
       update edict.log_head set size = 8, leaf = (select leaf from edict.entry where ${LOG} and seq = 7) where ${LOG};
       delete from edict.verification`,
    );
    await database.query(`update edict.stream set complete_to = 7, highest = 7, covered_to = 7 where ${LOG}`);
    expect(redOf(await verify())).toEqual([]);
    await database.query('delete from edict.verification');
    expect(redOf(await verify('acme', {}, [ack]))).toEqual(['append_only', 'completeness']);
  });

  it('forges an event at the end, hashes, key, search row and head included, without the key of an emitter', async () => {
    const { write } = openLedger(database);
    const [last] = await database.query<{ header: Buffer }>(
      `select header from edict.entry where ${LOG} and seq = 9`,
      [],
    );
    if (last === undefined) throw new Error('no entry 9');
    const { emitter } = decodeEntry(last.header);
    const forged = {
      specversion: '1.0',
      id: '01970000-0000-7000-8000-000000000001',
      source: Buffer.from(emitter).toString('hex'),
      type: 'edict.refusals.v1',
      data: {
        schema_version: 1,
        tenant: 'acme',
        emitter: {
          id: Buffer.from(emitter).toString('hex'),
          boot: '1',
          sequence: '10',
          previous: '00'.repeat(32),
        },
      },
    };
    await write(({ append }) =>
      append({ id: 2, tenant: 'acme', origin: 'audit.example.com/acme/0/1' }, [
        {
          kind: 'refusals',
          eventId: forged.id,
          topic: '',
          partition: 0,
          offset: 0n,
          emitter: forged.source,
          boot: 1n,
          emitterSeq: 10n,
          policySetDigest: new Uint8Array(32),
          contentType: 'application/cloudevents+json',
          payload: Buffer.from(JSON.stringify(forged)),
          subject: { issuer: '', type: 'edict.tenant', id: 'acme' },
        },
      ]),
    );
    const report = await verify();
    // The forger left out the row of received events and the stream.
    expect(redOf(report)).toEqual(['projection', 'completeness']);
    expect(report.verdicts.completeness.firstBad).toMatchObject({ seq: '10', attack: 'emitter_forged' });
  });

  it('takes an emitter for unattested, or for retired, against the log of the system tenant', async () => {
    await database.query('update edict.emitter set attested = false, public_key = null');
    expect((await verify('edict')).findings).toMatchObject([{ verdict: 'projection', attack: 'state_edited' }]);
    await database.query('update edict.emitter set retired = true');
    expect((await verify('edict')).findings).toHaveLength(2);
  });

  it('rewrites everything from an entry on: found only by what somebody wrote down', async () => {
    const before = await verify();
    await database.query(DISARM);
    const rows = await database.query<{ seq: bigint; header: Buffer }>(
      `select seq, header from edict.entry where ${LOG} order by seq`,
      [],
    );
    let leaf: Uint8Array | undefined;
    for (const { seq, header } of rows) {
      const entry = decodeEntry(header);
      // The ingest time of entry 5 changes by a microsecond, and every hash after it.
      const bytes = encodeEntry({
        ...entry,
        ingestUs: entry.ingestUs + (seq === 5n ? 1n : 0n),
        prev: leaf ?? entry.prev,
      });
      leaf = leafHash(bytes);
      await database.query(
        `update edict.entry set header = $2::bytea, leaf = $3::bytea where ${LOG} and seq = $1::bigint`,
        [String(seq), bytes, leaf],
      );
    }
    await database.query(`update edict.log_head set leaf = $1::bytea where ${LOG}`, [leaf]);
    await database.query('delete from edict.verification');
    expect(redOf(await verify())).toEqual([]);
    const remembered = [
      { origin: before.origin, size: BigInt(before.size), leaf: Buffer.from(before.lastLeaf ?? '', 'hex') },
    ];
    await database.query('delete from edict.verification');
    expect(redOf(await verify('acme', { remembered }))).toEqual(['append_only']);
  });
});
