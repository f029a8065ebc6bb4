import { sha256 } from '../../../services/shared/contracts/bytes.ts';
import { createLedgerReader } from '../../../services/audit/postgres/read-ledger.ts';
import type { Database } from '../../../services/audit/core/database.ts';
import type { DecisionOrder, SearchCriteria } from '../../../services/audit/core/query.ts';
import { openLedgerFixture, type LedgerFixture } from './ledger-fixture.ts';

interface Plan {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Rows'?: number;
  readonly 'Actual Loops'?: number;
  readonly 'Rows Removed by Filter'?: number;
  readonly Plans?: readonly Plan[];
}

interface Statement {
  readonly text: string;
  readonly parameters: readonly unknown[];
}

/** Three segments. The oldest tenth has values of its own: common, and long ago. */
const ROWS = 140_000;
const OLD = 14_000;
/** Of these, rows whose lists are longer than the places that have an index. */
const LONG = 46;
const START_MS = 1_700_000_000_000;
const PAGE = 50;

const nodes = (plan: Plan): readonly Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];

describe('the plans of queries', () => {
  let fixture: LedgerFixture;
  let reader: Database;

  beforeAll(async () => {
    fixture = await openLedgerFixture();
    const admin = fixture.as('admin');
    const { id } = fixture.log;
    for (let segment = 0; segment < Math.ceil(ROWS / 65_536); segment += 1) {
      await admin.query(`update edict.log_head set size = $2::bigint where log_id = $1::int and size < $2::bigint`, [
        id,
        String(Math.max(1, segment * 65_536)),
      ]);
      await admin.query('select edict.create_segment($1::int, $2::int)', [id, segment]);
    }
    await admin.query(
      `insert into edict.entry (log_id, segment, seq, header, leaf)
       select $1::int, (s >> 16)::int, s, h, sha256('\\x00'::bytea || h)
       from (select s, '\\x0101'::bytea || int8send(s) || decode(repeat('00', 170), 'hex') as h
             from generate_series(1, $2::bigint - 1) s) as rows`,
      [id, String(ROWS)],
    );
    await admin.query(
      `insert into edict.payload (log_id, segment, seq, ciphertext)
       select $1::int, (s >> 16)::int, s, decode(repeat('ab', 300), 'hex') from generate_series(1, $2::bigint - 1) s`,
      [id, String(ROWS)],
    );
    await admin.query(
      `insert into edict.decision (log_id, seq, event_id, event_time_ms, ingest_us, decision, reasons, subject, agent,
         chain, action, resource_type, resource, purpose, session_id, request_id, caller)
       select $1::int, s, gen_random_uuid(), $3::bigint + s * 10 - (s % 7) * 500, s * 10000,
         case when s < $4::bigint then 'deny' else 'allow' end,
         case when s >= $4::bigint then array['permitted'] when s % 300 = 0 then array['w', 'x', 'y', 'old', 'z', 'deep']
           else array['w', 'x', 'y', 'old'] end,
         sha256(case when s < $4::bigint then 'old' else (s % 500)::text end::bytea),
         case when s < $4::bigint then 'old' else 'agent-' || s % 20 end,
         case when s >= $4::bigint then '{}' when s % 300 = 0 then array['p', 'q', 'hop', 'r', 'far']
           else array['p', 'q', 'hop', 'r'] end,
         case when s < $4::bigint then 'old' else 'read' end, 'dataset',
         case when s < $4::bigint then 'old' else 'resource-' || s % 300 end,
         case when s < $4::bigint then 'old' else 'purpose-' || s % 5 end,
         case when s < $4::bigint then 'old' else 'session-' || s / 20 end,
         'request-' || s, 'gw-1'
       from generate_series(1, $2::bigint - 1) s`,
      [id, String(ROWS), String(START_MS), String(OLD)],
    );
    await admin.query(`update edict.log_head set size = $2::bigint where log_id = $1::int`, [id, String(ROWS)]);
    await admin.query(
      `insert into edict.received (log_id, event_id, digest, emitter, boot, number, seq)
       select log_id, event_id, sha256(event_id::text::bytea), repeat('0', 32), 1, seq, seq from edict.decision`,
    );
    await admin.query('analyze edict.received; analyze edict.decision; analyze edict.entry; analyze edict.payload');
    // Row-level security decides which conditions may use an index, so the plans are those of the reader's role.
    reader = fixture.as('reader_all');
  }, 120_000);
  afterAll(() => fixture.close());

  /** Every statement that a page of these criteria needs, and how many rows the page has. */
  const statementsOf = async (criteria: SearchCriteria, order: DecisionOrder) => {
    const statements: Statement[] = [];
    const recording: Pick<Database, 'query'> = {
      query: (text, parameters = []) => {
        statements.push({ text, parameters });
        return reader.query(text, parameters);
      },
    };
    const { decisions } = createLedgerReader({ database: recording, keys: fixture.keys });
    const asOf = { logId: fixture.log.id, size: BigInt(ROWS) };
    let rows = 0;
    for await (const { seq } of decisions('acme', criteria, { order, asOf, limit: PAGE })) rows += seq > 0n ? 1 : 0;
    return { statements, rows };
  };

  const explain = async ({ text, parameters }: Statement): Promise<readonly Plan[]> => {
    const [row] = await reader.query<{ 'QUERY PLAN': readonly [{ readonly Plan: Plan }] }>(
      `explain (analyze, format json) ${text}`,
      parameters,
    );
    if (row === undefined) throw new Error('no plan');
    return nodes(row['QUERY PLAN'][0].Plan);
  };

  const CASES: readonly (readonly [name: string, criteria: SearchCriteria, index: string, rows?: number])[] = [
    ['nothing', {}, 'decision_pkey'],
    ['a request', { requestIds: ['request-77'] }, 'decision_request', 1],
    ['a session', { sessions: ['old'] }, 'decision_session'],
    ['a subject', { subjects: [sha256('old')] }, 'decision_subject'],
    ['a resource', { resources: ['old'] }, 'decision_resource'],
    ['an agent', { agents: ['old'] }, 'decision_agent'],
    ['an agent, masked or not', { agents: ['old', 'masked:00'] }, 'decision_agent'],
    ['a chain', { chain: [['hop'], ['old']] }, 'decision_chain_3'],
    ['an actor far back in a chain', { chain: [['far']] }, 'decision_chain_more', LONG],
    ['a purpose', { purposes: ['old'] }, 'decision_purpose'],
    ['a reason', { reasons: ['old'] }, 'decision_reason_4'],
    ['a reason behind others', { reasons: ['deep'] }, 'decision_reasons_more', LONG],
    ['an action', { actions: ['old'] }, 'decision_action'],
    ['a decision', { decision: 'deny' }, 'decision_decision'],
    ['an end', { toMs: START_MS + 1_000 * 10 }, 'decision_block'],
    ['a time', { fromMs: START_MS + 100_000, toMs: START_MS + 130_000 }, 'decision_block'],
    ['a time in which nothing was', { fromMs: START_MS - 9_000_000, toMs: START_MS - 8_000_000 }, 'decision_block', 0],
    ['an agent and a time', { agents: ['old'], toMs: START_MS + 50_000 }, 'decision_agent'],
  ];

  it.each(CASES.flatMap((each) => [[...each, 'newest'] as const, [...each, 'oldest'] as const]))(
    'reads %s by an index, however old and common it is (%#)',
    async (...args) => {
      const order = args.at(-1) as DecisionOrder;
      const [, criteria, index, expected = PAGE] = args as unknown as (typeof CASES)[number];
      const { statements, rows } = await statementsOf(criteria, order);
      expect(rows).toBe(typeof expected === 'number' ? expected : PAGE);
      const plans = (await Promise.all(statements.map(explain))).flat();
      const ofLedger = plans.filter(({ 'Relation Name': table = '' }) => /^(decision|entry|payload)/.test(table));
      expect(ofLedger.filter((node) => node['Node Type'] === 'Seq Scan')).toEqual([]);
      expect(plans.map((node) => node['Index Name'])).toContain(index);
      // A page of 50 reads about 50 rows of each place; a time, at most the rest of the block at each of its ends.
      const isTime = criteria.fromMs !== undefined || criteria.toMs !== undefined;
      for (const node of ofLedger) {
        const read = ((node['Actual Rows'] ?? 0) + (node['Rows Removed by Filter'] ?? 0)) * (node['Actual Loops'] ?? 1);
        expect([node['Index Name'], read <= (isTime ? 2 * 16_384 : 2 * PAGE)]).toEqual([node['Index Name'], true]);
      }
    },
    30_000,
  );

  it('finds an event by its id without a scan', async () => {
    const statements: Statement[] = [];
    const recording: Pick<Database, 'query'> = {
      query: (text, parameters = []) => {
        statements.push({ text, parameters });
        return reader.query(text, parameters);
      },
    };
    const ledger = createLedgerReader({ database: recording, keys: fixture.keys });
    expect(await ledger.event('acme', '01970000-0000-7000-8000-000000000001')).toBeUndefined();
    const plans = (await Promise.all(statements.map(explain))).flat();
    expect(plans.map((node) => node['Index Name'])).toContain('received_pkey');
  });
});
