import { randomBytes, randomUUID } from 'node:crypto';
import pg from 'pg';

/** What one decision leaves in the databases, bytes. */
export interface RowSizes {
  readonly headerBytes: number;
  readonly payloadBytes: number;
  /** The texts of the search row. */
  readonly searchBytes: number;
}

/** The mean sizes of what a ledger holds; taken from its own tables. */
export const readRowSizes = async (ledgerUrl: string): Promise<RowSizes> => {
  const client = new pg.Client({ connectionString: ledgerUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ header: string; payload: string; search: string | null }>(
      `select (select avg(octet_length(header)) from edict.entry) as header,
              (select avg(octet_length(ciphertext)) from edict.payload) as payload,
              (select avg(octet_length(concat(d.decision, d.reasons::text, d.agent, d.chain::text, d.action,
                 d.resource_type, d.resource, d.purpose, d.session_id, d.request_id, d.caller)))
               from edict.decision d) as search`,
    );
    return {
      headerBytes: Math.round(Number(rows[0]?.header)),
      payloadBytes: Math.round(Number(rows[0]?.payload)),
      searchBytes: Math.round(Number(rows[0]?.search ?? 0)),
    };
  } finally {
    await client.end();
  }
};

interface PlainTable {
  readonly name: string;
  /** Columns but `seq`: name, type, and a value for each row. */
  readonly columns: readonly (readonly [name: string, type: string, values: readonly unknown[]])[];
}

/** Random, as ciphertext and hashes are; made before the clock runs. */
const tablesOf = ({ headerBytes, payloadBytes, searchBytes }: RowSizes, rows: number): readonly PlainTable[] => {
  const of = <Value>(make: () => Value): readonly Value[] => Array.from({ length: rows }, make);
  const bytes = (length: number) => of(() => randomBytes(length));
  return [
    {
      name: 'plain_header',
      columns: [
        ['header', 'bytea', bytes(headerBytes)],
        ['leaf', 'bytea', bytes(32)],
      ],
    },
    { name: 'plain_payload', columns: [['ciphertext', 'bytea', bytes(payloadBytes)]] },
    {
      name: 'plain_decision',
      columns: [
        ['event_id', 'uuid', of(() => randomUUID())],
        ['event_time_ms', 'bigint', of(() => Date.now())],
        ['ingest_us', 'bigint', of(() => Date.now() * 1_000)],
        ['subject', 'bytea', bytes(32)],
        ['texts', 'text', of(() => randomBytes(Math.ceil(searchBytes / 2)).toString('hex'))],
      ],
    },
    {
      name: 'plain_received',
      columns: [
        ['event_id', 'uuid', of(() => randomUUID())],
        ['digest', 'bytea', bytes(32)],
        ['previous', 'bytea', bytes(32)],
        ['emitter', 'text', of(() => randomBytes(16).toString('hex'))],
        ['number', 'bigint', of(() => 1)],
      ],
    },
    {
      name: 'plain_key',
      columns: [
        ['event_id', 'uuid', of(() => randomUUID())],
        ['subject_id', 'bigint', of(() => 1)],
        ['wrapped', 'bytea', bytes(60)],
      ],
    },
  ];
};

export interface InsertLimit {
  /** Everything that a decision leaves: header, payload, search row, received row, wrapped key. */
  readonly allPerS: number;
  /** Header and payload alone. */
  readonly entriesPerS: number;
}

/**
 * Decisions a second when the same bytes go into plain tables of the same server, one session, one commit a batch, a
 * primary key and no other index, nothing hashed, encrypted, linked, searched or looked up: what this machine's
 * database takes at most.
 */
export const measureInsertLimit = async (
  databaseUrl: string,
  sizes: RowSizes,
  { events, batch }: { readonly events: number; readonly batch: number },
): Promise<InsertLimit> => {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const all = tablesOf(sizes, batch);
  const insertAll = async (tables: readonly PlainTable[]): Promise<number> => {
    for (const { name, columns } of tables)
      await client.query(
        `create table ${name} (seq bigint primary key, ${columns.map(([column, type]) => `${column} ${type} not null`).join(', ')});
         ${columns.some(([column]) => column === 'ciphertext') ? `alter table ${name} alter column ciphertext set storage external` : ''}`,
      );
    const startedMs = performance.now();
    for (let first = 0; first < events; first += batch) {
      const seqs = Array.from({ length: batch }, (_, index) => first + index);
      await client.query('begin');
      for (const { name, columns } of tables)
        await client.query({
          name: `${name}-${tables.length}`,
          text: `insert into ${name} select * from unnest($1::bigint[], ${columns.map(([, type], index) => `$${index + 2}::${type}[]`).join(', ')})`,
          values: [seqs, ...columns.map(([, , values]) => values)],
        });
      await client.query('commit');
    }
    const tookMs = performance.now() - startedMs;
    await client.query(`drop table ${tables.map(({ name }) => name).join(', ')}`);
    return (events * 1_000) / tookMs;
  };
  try {
    const entriesPerS = await insertAll(all.slice(0, 2));
    return { entriesPerS, allPerS: await insertAll(all) };
  } finally {
    await client.end();
  }
};
