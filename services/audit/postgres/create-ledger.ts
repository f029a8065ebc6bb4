import { createHmac } from 'node:crypto';
import { hex, lp } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { formatVkey, generateSigningKey, signingKeyFromPem } from '../../shared/contracts/signatures.ts';
import { isTenant, SYSTEM_TENANT } from '../../shared/contracts/tenant.ts';
import { readOrCreateFile } from '../../shared/settings/home.ts';
import type { Log, Sql, WriteLedger } from '../core/append.ts';
import { genesisHash, type Genesis } from '../core/entry.ts';
import { carriedDocument, type ContinuedLog } from '../core/continue-log.ts';
import { META_KEY, metaOriginOf } from '../core/meta-log.ts';
import { freshIds, ownEntry } from '../core/own-entry.ts';
import { continueLog, insertCarried } from './continue-log.ts';
import { lockHead } from './statements.ts';

export interface CreateLedgerOptions {
  /** A writer on the owner's connection, or the embedded one. */
  readonly write: WriteLedger;
  readonly tenant: string;
  /** The first part of the origin. */
  readonly authority: string;
  /** When given, the origin shows an HMAC under this key in place of the tenant. */
  readonly blindKey?: Uint8Array;
  /** Where the private key goes, mode 0600; the verifier key beside it as `.vkey`. */
  readonly keyFile: (tenant: string, incarnation: number) => string;
  readonly nowUs: () => bigint;
  /** Continue a log that exists in a new incarnation. */
  readonly newIncarnation?: boolean;
  /** What the new incarnation continues, when the database has lost it whole; read from the database otherwise. */
  readonly previous?: NonNullable<Genesis['previous']> & { readonly incarnation: number };
  /**
   * The database was restored from an older copy: who goes on, and why; and the tree that was signed of the log, unless
   * it has all of that.
   */
  readonly resumed?: {
    readonly signed?: NonNullable<Genesis['previous']>;
    readonly reason: string;
    readonly by: string;
  };
}

export interface LedgerDescription extends Log {
  readonly shard: number;
  readonly incarnation: number;
  readonly vkey: string;
}

export interface CreatedLedger {
  /** False when the ledger was there and no new incarnation was asked for. */
  readonly isNew: boolean;
  readonly log: LedgerDescription;
  /** What a new incarnation continues of the log before it, when that one lies in the database. */
  readonly continued?: ContinuedLog;
  /** The meta log that goes with it; the system tenant's alone. */
  readonly meta?: { readonly isNew: boolean; readonly origin: string; readonly vkey: string };
}

const SHARD = 0;

/** 32 hex digits of HMAC-SHA256(key, "edict/blind/v1\0" ‖ lp(tenant)). */
export const blindTenant = (blindKey: Uint8Array, tenant: string): string =>
  createHmac('sha256', blindKey).update('edict/blind/v1\0').update(lp(tenant)).digest('hex').slice(0, 32);

/** origin = `<authority>/<tenant or its blinded id>/<shard>/<incarnation>`. */
export const originOf = (authority: string, shownTenant: string, incarnation: number): string =>
  `${authority}/${shownTenant}/${SHARD}/${incarnation}`;

const keyPair = (file: string, origin: string): string => {
  const pem = readOrCreateFile(file, () => Buffer.from(generateSigningKey().pem, 'utf8'));
  let vkey: string;
  try {
    vkey = formatVkey(origin, signingKeyFromPem(pem.toString('utf8')).publicKey);
  } catch (cause) {
    throw new AppError('settings_invalid', `${file}: is not an Ed25519 private key in PEM`, { cause });
  }
  const line = `${vkey}\n`;
  const vkeyFile = file.replace(/(\.pem)?$/, '.vkey');
  if (readOrCreateFile(vkeyFile, () => Buffer.from(line, 'utf8')).toString('utf8') !== line)
    throw new AppError('settings_invalid', `${vkeyFile}: belongs to another key or another origin`);
  return vkey;
};

/** The meta log of an incarnation of the system tenant's log, with a key pair of its own; made where it is missing. */
const createMetaLog = async (
  sql: Sql,
  { authority, keyFile, nowUs }: CreateLedgerOptions,
  incarnation: number,
): Promise<NonNullable<CreatedLedger['meta']>> => {
  const [known] = await sql.query<{ origin: string; vkey: string }>(
    'select origin, vkey from edict.meta_log where incarnation = $1::int',
    [incarnation],
  );
  if (known !== undefined) return { isNew: false, ...known };
  const origin = metaOriginOf(authority, incarnation);
  const vkey = keyPair(keyFile(META_KEY, incarnation), origin);
  await sql.query(
    'insert into edict.meta_log (incarnation, origin, vkey, created_us) values ($1::int, $2, $3, $4::bigint)',
    [incarnation, origin, vkey, String(nowUs())],
  );
  return { isNew: true, origin, vkey };
};

/**
 * Creates the log of a tenant: key pair, origin, and entry 0, which names the members of prev_0. Created again it
 * changes nothing. With `newIncarnation` the next incarnation, whose genesis names origin, size and root of the one
 * before; the database closes that one. With `resumed` as well, the next incarnation of a log that was restored from an
 * older copy. With the system tenant's log comes the meta log of the same incarnation. Rejects with `usage` when a new
 * incarnation of nothing is asked for, or the log has all that was signed; with `ledger_corrupt` when entries of the
 * one before are missing.
 */
export const createLedger = async (options: CreateLedgerOptions): Promise<CreatedLedger> => {
  const { write, tenant, authority, blindKey, nowUs, resumed } = options;
  if (!isTenant(tenant)) throw new AppError('usage', `${JSON.stringify(tenant)} is not a tenant name`);
  const shownTenant = blindKey === undefined ? tenant : blindTenant(blindKey, tenant);
  const withMeta = async (sql: Sql, created: CreatedLedger): Promise<CreatedLedger> =>
    tenant === SYSTEM_TENANT
      ? { ...created, meta: await createMetaLog(sql, options, created.log.incarnation) }
      : created;
  return write(async ({ sql, append }) => {
    await sql.query('lock table edict.log in share row exclusive mode', []);
    const [latest] = await sql.query<LedgerDescription>(
      `select id, tenant::text as tenant, origin, shard, incarnation, vkey from edict.log
       where tenant = $1::text and shard = $2::int order by incarnation desc limit 1`,
      [tenant, SHARD],
    );
    const continued = options.previous;
    if (options.newIncarnation !== true) {
      if (latest !== undefined) return withMeta(sql, { isNew: false, log: latest });
    } else if (latest === undefined && continued === undefined)
      throw new AppError('usage', `tenant ${tenant} has no ledger that a new incarnation could continue`);
    // Nothing is appended to the old log from here on: it ends where the new one says.
    if (latest !== undefined) await lockHead(sql, latest);
    const now = nowUs();
    const before =
      latest === undefined || continued !== undefined
        ? undefined
        : await continueLog(sql, latest, resumed?.signed, Number(now / 1000n));
    const previous = continued ?? before?.previous;
    const signedOf = Number(resumed?.signed?.origin.split('/').at(-1) ?? 0);
    const incarnation = Math.max(latest?.incarnation ?? 0, continued?.incarnation ?? 0, signedOf) + 1;
    const origin = originOf(authority, shownTenant, incarnation);
    const vkey = keyPair(options.keyFile(tenant, incarnation), origin);
    const [next] = await sql.query<{ id: number }>('select coalesce(max(id), 0) + 1 as id from edict.log', []);
    const id = next?.id ?? 1;
    await sql.query(
      `insert into edict.log (id, tenant, shard, incarnation, origin, vkey, previous_origin, previous_size,
                              previous_root, kept_size, created_us)
       values ($1::int, $2, $3::int, $4::int, $5, $6, $7, $8::bigint, $9::bytea, $10::bigint, $11::bigint)`,
      [
        id,
        tenant,
        SHARD,
        incarnation,
        origin,
        vkey,
        previous?.origin ?? null,
        previous === undefined ? null : String(previous.size),
        previous === undefined ? null : Buffer.from(previous.root),
        before === undefined ? null : String(before.kept),
        String(now),
      ],
    );
    const genesis: Genesis = { origin, vkey, ...(previous === undefined ? {} : { previous }) };
    await sql.query(
      `insert into edict.log_head (log_id, size, leaf, last_ingest_us) values ($1::int, 0, $2::bytea, $3::bigint)`,
      [id, genesisHash(genesis), String(now)],
    );
    const log = { id, tenant, origin };
    const document = {
      tenant,
      shard: SHARD,
      incarnation,
      origin,
      vkey,
      previous:
        previous === undefined
          ? null
          : { origin: previous.origin, size: String(previous.size), root: hex(previous.root) },
      ...(before === undefined || resumed === undefined
        ? {}
        : {
            resumed: {
              reason: resumed.reason,
              by: resumed.by,
              kept: String(before.kept),
              found: String(before.found),
            },
          }),
      ...(before === undefined || before.streams.length === 0 ? {} : { streams: before.streams.map(carriedDocument) }),
    };
    await append(log, [ownEntry(tenant, 'incarnation', document, freshIds(Number(now / 1000n)))]);
    if (before !== undefined && latest !== undefined) await insertCarried(sql, id, latest, before.streams);
    const created = { isNew: true, log: { ...log, shard: SHARD, incarnation, vkey } };
    return withMeta(sql, before === undefined ? created : { ...created, continued: before });
  });
};
