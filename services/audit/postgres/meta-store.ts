import type { Sql } from '../core/append.ts';
import type { MetaLeaf, MetaLog, MetaStore, SignerStore, TenantCheckpoint } from '../core/meta-log.ts';
import type { NewCheckpoint } from '../core/signing.ts';
import { SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { createMetaReader } from './read-meta.ts';
import { createSigningStore, type SigningStoreOptions } from './signing-store.ts';

const PAGE = 1_000;
/** Namespace and key of the transaction's lock: one appends at a time. */
const APPEND_LOCK = "hashtext('edict'), hashtext('meta_leaf')";

interface MetaRow {
  readonly incarnation: number;
  readonly origin: string;
  readonly vkey: string;
  readonly last_index: bigint | null;
  readonly last_entry: Buffer | null;
  readonly checkpoint_size: bigint | null;
  readonly note: Buffer | null;
  readonly alarm_log_id: number;
}

const readMetaLog = async (sql: Pick<Sql, 'query'>): Promise<MetaLog | undefined> => {
  const [row] = await sql.query<MetaRow>(
    `select m.incarnation, m.origin, m.vkey, f.index as last_index, f.entry as last_entry, c.size as checkpoint_size,
            c.note, s.id as alarm_log_id
     from edict.meta_log m
     join lateral (select l.id from edict.log l where l.tenant = $1::text order by l.incarnation desc limit 1) s on true
     left join lateral (select k.index, k.entry from edict.meta_leaf k where k.incarnation = m.incarnation
                        order by k.index desc limit 1) f on true
     left join lateral (select k.size, k.note from edict.meta_checkpoint k where k.incarnation = m.incarnation
                        order by k.size desc limit 1) c on true
     order by m.incarnation desc limit 1`,
    [SYSTEM_TENANT],
  );
  if (row === undefined) return undefined;
  const { incarnation, origin, vkey, last_index: index, last_entry: lastEntry, checkpoint_size: size, note } = row;
  return {
    incarnation,
    origin,
    vkey,
    size: index === null ? 0n : index + 1n,
    ...(lastEntry === null ? {} : { lastEntry }),
    ...(size === null || note === null ? {} : { checkpoint: { size, note } }),
    alarmLogId: row.alarm_log_id,
  };
};

const LOG = `l.id as "logId", l.tenant::text as tenant, l.incarnation, l.origin`;

/** What is larger than the newest leaf of its log is found by two probes a log; anything else by reading both tables. */
const UNLISTED = {
  newest: `select ${LOG}, c.size, c.note
    from edict.log l
    cross join lateral (
      select k.log_id, k.size, k.note, k.signed_us from edict.checkpoint k
      where k.log_id = l.id
        and k.size > coalesce((select max(m.size) from edict.meta_leaf m where m.log_id = l.id), 0)
      order by k.size limit ${PAGE}) c
    order by c.signed_us, c.log_id, c.size limit ${PAGE}`,
  all: `select ${LOG}, c.size, c.note
    from edict.checkpoint c join edict.log l on l.id = c.log_id
    where not exists (select from edict.meta_leaf m where m.log_id = c.log_id and m.size = c.size)
    order by c.signed_us, c.log_id, c.size limit ${PAGE}`,
} as const;

const insertLeaves = async (sql: Sql, incarnation: number, leaves: Parameters<MetaStore['list']>[1]): Promise<void> => {
  await sql.query(`select pg_advisory_xact_lock(${APPEND_LOCK})`, []);
  await sql.query(
    `insert into edict.meta_leaf (incarnation, index, log_id, size, entry)
     select $1::int, b.size + row_number() over (order by u.i) - 1, u.log_id, u.size,
            substring($2::bytea from ((u.i - 1) * 32 + 1)::int for 32)
     from unnest($3::text::int[], $4::text::bigint[]) with ordinality as u(log_id, size, i),
          (select coalesce(max(m.index) + 1, 0) as size from edict.meta_leaf m where m.incarnation = $1::int) b
     where not exists (select from edict.meta_leaf m where m.log_id = u.log_id and m.size = u.size)`,
    [
      incarnation,
      Buffer.concat(leaves.map(({ entry }) => entry)),
      `{${leaves.map(({ logId }) => logId).join(',')}}`,
      `{${leaves.map(({ size }) => String(size)).join(',')}}`,
    ],
  );
};

const insertMetaCheckpoint = async (sql: Sql, incarnation: number, checkpoint: NewCheckpoint): Promise<void> => {
  const { size, root, note, nodes, signedUs } = checkpoint;
  if (nodes.length > 0)
    await sql.query(
      `insert into edict.meta_node (incarnation, level, index, hash)
       select $1::int, u.level, u.index, substring($2::bytea from ((u.i - 1) * 32 + 1)::int for 32)
       from unnest($3::text::smallint[], $4::text::bigint[]) with ordinality as u(level, index, i)
       on conflict do nothing`,
      [
        incarnation,
        Buffer.concat(nodes.map(({ hash }) => hash)),
        `{${nodes.map(({ level }) => level).join(',')}}`,
        `{${nodes.map(({ index }) => String(index)).join(',')}}`,
      ],
    );
  await sql.query(
    `insert into edict.meta_checkpoint (incarnation, size, root, note, signed_us)
     values ($1::int, $2::bigint, $3::bytea, $4::bytea, $5::bigint) on conflict do nothing`,
    [incarnation, String(size), Buffer.from(root), Buffer.from(note), String(signedUs)],
  );
};

const createMetaStore = (options: Pick<SigningStoreOptions, 'database' | 'transaction'>): MetaStore => {
  const { database, transaction } = options;
  return {
    metaLog: () => readMetaLog(database),
    unlisted: (isThorough) => database.query<TenantCheckpoint>(isThorough ? UNLISTED.all : UNLISTED.newest, []),
    list: (incarnation, leaves) => transaction((sql) => insertLeaves(sql, incarnation, leaves)),
    leaves: async (incarnation, from, to) => {
      const rows = await database.query<Omit<MetaLeaf, 'note'> & { readonly note: Buffer | null }>(
        `select m.index, m.entry, ${LOG}, m.size, c.note
         from edict.meta_leaf m join edict.log l on l.id = m.log_id
         left join edict.checkpoint c on c.log_id = m.log_id and c.size = m.size
         where m.incarnation = $1::int and m.index >= $2::bigint and m.index < $3::bigint
         order by m.index limit ${PAGE}`,
        [incarnation, String(from), String(to)],
      );
      return rows.map(({ note, ...leaf }) => ({ ...leaf, ...(note === null ? {} : { note }) }));
    },
    metaHashes: createMetaReader(database).hashes,
    attest: (incarnation, size, { kind, source, timeMs, bytes, storedUs }) =>
      transaction(async (sql) => {
        await sql.query(
          `insert into edict.meta_attestation (incarnation, size, kind, source, time_ms, bytes, stored_us)
           values ($1::int, $2::bigint, $3::text, $4::text, $5::bigint, $6::bytea, $7::bigint) on conflict do nothing`,
          [incarnation, String(size), kind, source, timeMs, Buffer.from(bytes), String(storedUs)],
        );
      }),
    storeMeta: (incarnation, checkpoint) => transaction((sql) => insertMetaCheckpoint(sql, incarnation, checkpoint)),
  };
};

/** The tenants' logs and the meta log, in one Postgres. */
export const createSignerStore = (options: SigningStoreOptions): SignerStore => ({
  ...createSigningStore(options),
  ...createMetaStore(options),
});
