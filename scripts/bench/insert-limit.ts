import { randomBytes } from 'node:crypto';
import pg from 'pg';

/** What one event leaves in the database, bytes. */
export interface RowSizes {
  readonly headerBytes: number;
  readonly payloadBytes: number;
}

/** The mean sizes of what a ledger holds; taken from its own tables. */
export const readRowSizes = async (ledgerUrl: string): Promise<RowSizes> => {
  const client = new pg.Client({ connectionString: ledgerUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ header: string; payload: string }>(
      `select (select avg(octet_length(header)) from edict.entry) as header,
              (select avg(octet_length(ciphertext)) from edict.payload) as payload`,
    );
    return { headerBytes: Math.round(Number(rows[0]?.header)), payloadBytes: Math.round(Number(rows[0]?.payload)) };
  } finally {
    await client.end();
  }
};

/**
 * Events a second when the same bytes go into two plain tables of the same server, one session, one commit a batch,
 * nothing hashed, encrypted, linked or looked up: what this machine's database takes at most.
 */
export const measureInsertLimit = async (
  databaseUrl: string,
  sizes: RowSizes,
  options: { readonly events: number; readonly batch: number },
): Promise<number> => {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(
      `create table plain_header (seq bigint primary key, header bytea not null, leaf bytea not null);
       create table plain_payload (seq bigint primary key, ciphertext bytea not null);
       alter table plain_payload alter column ciphertext set storage external`,
    );
    // Random, as ciphertext is; made before the clock runs.
    const headers = Array.from({ length: options.batch }, () => randomBytes(sizes.headerBytes));
    const leaves = Array.from({ length: options.batch }, () => randomBytes(32));
    const payloads = Array.from({ length: options.batch }, () => randomBytes(sizes.payloadBytes));
    const startedMs = performance.now();
    for (let first = 0; first < options.events; first += options.batch) {
      const seqs = headers.map((_, index) => first + index);
      await client.query('begin');
      await client.query({
        name: 'headers',
        text: 'insert into plain_header select * from unnest($1::bigint[], $2::bytea[], $3::bytea[])',
        values: [seqs, headers, leaves],
      });
      await client.query({
        name: 'payloads',
        text: 'insert into plain_payload select * from unnest($1::bigint[], $2::bytea[])',
        values: [seqs, payloads],
      });
      await client.query('commit');
    }
    const tookMs = performance.now() - startedMs;
    await client.query('drop table plain_header, plain_payload');
    return (options.events * 1_000) / tookMs;
  } finally {
    await client.end();
  }
};
