import { AppError, errorMessage, isAppError } from '../../shared/contracts/errors.ts';
import { hex } from '../../shared/contracts/bytes.ts';
import type { Log, Sql } from '../core/append.ts';
import type { Database } from '../core/database.ts';
import {
  newKey,
  unwrapPayloadKey,
  unwrapSubjectKey,
  WRAPPED_BYTES,
  wrapPayloadKey,
  wrapSubjectKey,
} from '../core/payload.ts';
import type { PayloadKeyReference, PayloadKeyRequest, PayloadKeys } from '../core/payload-keys.ts';
import { createKeyNames, masterKeyName } from '../core/pseudonym.ts';
import { createBoundedMap } from './bounded-map.ts';

interface SubjectKey {
  readonly id: bigint;
  /** Undefined once the subject is erased. */
  readonly key: Buffer | undefined;
}

export interface PostgresPayloadKeysOptions {
  /** 32 bytes. */
  readonly masterKey: Uint8Array;
  /** Data subjects whose keys are kept in memory; default 10,000. */
  readonly cachedSubjects?: number;
}

const MAX_LOGS = 4_096;
/** Held shared while keys are issued, alone while a subject is erased; cheaper than a lock on each subject's row. */
const ERASURE_LOCK = '7181002';

const unavailable = (cause: unknown): AppError =>
  isAppError(cause) && cause.code === 'keys_unavailable'
    ? cause
    : new AppError('keys_unavailable', `the key store does not answer: ${errorMessage(cause)}`, { cause });

const wrongMaster = (): AppError =>
  new AppError(
    'keys_unavailable',
    'a key in the store does not open: not the master key that made it, or changed bytes',
  );

/** Payload keys in the schema `edict_keys` of a database of their own; see `migrations/keys`. */
export const createPostgresPayloadKeys = (database: Database, options: PostgresPayloadKeysOptions): PayloadKeys => {
  const { masterKey } = options;
  const names = createKeyNames(masterKey);
  const subjects = createBoundedMap<SubjectKey>(options.cachedSubjects ?? 10_000);
  /** Keys of subjects as their rows were when they were last read, with the row's hex. */
  const opened = createBoundedMap<{ readonly wrapped: string; readonly key: Buffer }>(options.cachedSubjects ?? 10_000);
  const logIds = createBoundedMap<number>(MAX_LOGS);

  let isChecked = false;
  /** The store must be the one of this master key; the first that comes to an empty store makes it its own. */
  const checkMaster = async (): Promise<void> => {
    if (isChecked) return;
    const name = masterKeyName(masterKey);
    await database.query('insert into edict_keys.master (name) values ($1::bytea) on conflict do nothing', [name]);
    const [row] = await database.query<{ name: Buffer }>('select name from edict_keys.master', []);
    if (row?.name.equals(name) !== true) throw wrongMaster();
    isChecked = true;
  };

  const logId = async (origin: string): Promise<number> => {
    const known = logIds.get(origin);
    if (known !== undefined) return known;
    await database.query('insert into edict_keys.log (origin) values ($1) on conflict do nothing', [origin]);
    const [row] = await database.query<{ id: number }>('select id from edict_keys.log where origin = $1', [origin]);
    if (row === undefined) throw new AppError('keys_unavailable', 'the key store lost a log that it has just made');
    logIds.set(origin, row.id);
    return row.id;
  };

  const readSubject = (tenant: string, name: string, row: { id: bigint; wrapped: Buffer | null }): SubjectKey => {
    if (row.wrapped === null) return { id: row.id, key: undefined };
    const key = unwrapSubjectKey(masterKey, tenant, Buffer.from(name, 'hex'), row.wrapped);
    if (key === undefined) throw wrongMaster();
    return { id: row.id, key };
  };

  /** Keys of the named subjects, made where missing. */
  const subjectKeys = async (tenant: string, wanted: ReadonlySet<string>): Promise<ReadonlyMap<string, SubjectKey>> => {
    const found = new Map<string, SubjectKey>();
    const missing: string[] = [];
    for (const name of wanted) {
      const known = subjects.get(`${tenant}/${name}`);
      if (known === undefined) missing.push(name);
      else found.set(name, known);
    }
    if (missing.length === 0) return found;
    const take = (rows: readonly { name: string; id: bigint; wrapped: Buffer | null }[]): void => {
      for (const row of rows) {
        const subject = readSubject(tenant, row.name, row);
        found.set(row.name, subject);
        subjects.set(`${tenant}/${row.name}`, subject);
      }
    };
    const read = async (): Promise<void> => {
      take(
        await database.query(
          `select encode(s.name, 'hex') as name, s.id, s.wrapped
           from unnest(string_to_array($2::text, ',')) as r(name)
           join edict_keys.subject_key s on s.tenant = $1 and s.name = decode(r.name, 'hex')`,
          [tenant, missing.filter((name) => !found.has(name)).join(',')],
        ),
      );
    };
    await read();
    const fresh = missing.filter((name) => !found.has(name));
    if (fresh.length === 0) return found;
    const rows = fresh.map((name) => ({
      name,
      wrapped: hex(wrapSubjectKey(masterKey, tenant, Buffer.from(name, 'hex'), newKey())),
    }));
    await database.query(
      `insert into edict_keys.subject_key (tenant, name, wrapped)
       select $1, decode(r.name, 'hex'), decode(r.wrapped, 'hex')
       from jsonb_to_recordset($2::text::jsonb) as r(name text, wrapped text)
       order by 2
       on conflict do nothing`,
      [tenant, JSON.stringify(rows)],
    );
    // Another writer may have been first: what stands there now is what counts.
    await read();
    return found;
  };

  const issueFor = async (
    { tenant, origin }: Pick<Log, 'tenant' | 'origin'>,
    requests: readonly PayloadKeyRequest[],
  ): Promise<readonly (Buffer | undefined)[]> => {
    const id = await logId(origin);
    const subjectNames = requests.map(({ subject }) => hex(names(tenant, subject)));
    const keysBySubject = await subjectKeys(tenant, new Set(subjectNames));
    const prepared = requests.map((request, index) => {
      const name = subjectNames[index] ?? '';
      const subject = keysBySubject.get(name);
      if (subject === undefined)
        throw new AppError('keys_unavailable', 'the key store lost a key that it has just made');
      if (subject.key === undefined) return undefined;
      const key = newKey();
      return {
        request,
        name,
        subject,
        subjectKey: subject.key,
        key,
        wrapped: wrapPayloadKey(subject.key, { origin, ...request }, key),
      };
    });
    const live = prepared.filter((each) => each !== undefined);
    if (live.length === 0) return prepared.map(() => undefined);
    const issued = await database.transaction(async (sql) => {
      // Sent at once, run in order. An erasure that runs at the same time waits for us, or we see that it was there.
      const [, [found]] = await Promise.all([
        sql.query('select pg_advisory_xact_lock_shared($1::bigint)', [ERASURE_LOCK]),
        sql.query<{ n: bigint; added: string | null }>(
          `with r as (
             select at::int, seq, event_id, subject_id,
                    substring($2::bytea from ((at - 1) * ${WRAPPED_BYTES} + 1)::int for ${WRAPPED_BYTES}) as wrapped
             from unnest($3::text::bigint[], $4::text::uuid[], $5::text::bigint[])
               with ordinality as u(seq, event_id, subject_id, at)
           ), added as (
             insert into edict_keys.payload_key (log_id, seq, event_id, subject_id, wrapped)
             select $1::int, r.seq, r.event_id, r.subject_id, r.wrapped
             from r join edict_keys.subject_key s on s.id = r.subject_id
             where s.wrapped is not null and not s.closed and not exists (
                select from edict_keys.erased_event x where x.tenant = s.tenant and x.event_id = r.event_id)
             on conflict do nothing
             returning seq, event_id, subject_id
           ), counted as (select count(*) as n from added)
           select n, case when n < $6::bigint then (
             select string_agg(r.at::text, ',') from r
             join added a on a.seq = r.seq and a.event_id = r.event_id and a.subject_id = r.subject_id) end as added
           from counted`,
          [
            id,
            Buffer.concat(live.map(({ wrapped }) => wrapped)),
            `{${live.map(({ request }) => String(request.seq)).join(',')}}`,
            `{${live.map(({ request }) => request.eventId).join(',')}}`,
            `{${live.map(({ subject }) => String(subject.id)).join(',')}}`,
            live.length,
          ],
        ),
      ]);
      return found;
    });
    if (issued?.n === BigInt(requests.length)) return prepared.map((each) => each?.key);
    const added =
      issued?.n === BigInt(live.length)
        ? live.map((_, index) => index + 1)
        : (issued?.added ?? '').split(',').map(Number);
    return await settle(id, origin, tenant, prepared, live, new Set(added));
  };

  type Prepared = {
    readonly request: PayloadKeyRequest;
    readonly name: string;
    readonly subject: SubjectKey;
    readonly subjectKey: Buffer;
    readonly key: Buffer;
  };

  /** Where a row was not added: it was there (then its key is the one), or its subject was erased meanwhile. */
  const settle = async (
    id: number,
    origin: string,
    tenant: string,
    prepared: readonly (Prepared | undefined)[],
    live: readonly Prepared[],
    added: ReadonlySet<number>,
  ): Promise<readonly (Buffer | undefined)[]> => {
    const addedRequests = new Set(live.filter((_, index) => added.has(index + 1)).map(({ request }) => request));
    const others = live.filter(({ request }) => !addedRequests.has(request));
    const found = await readRows(
      id,
      others.map(({ request }) => request),
    );
    const rows = new Map(others.map(({ request }, index) => [request, found[index] ?? []]));
    return prepared.map((each) => {
      if (each === undefined || addedRequests.has(each.request)) return each?.key;
      const row = rows
        .get(each.request)
        ?.find(({ subjectId, subjectWrapped }) => subjectId === String(each.subject.id) && subjectWrapped !== null);
      if (row === undefined) {
        subjects.delete(`${tenant}/${each.name}`);
        return undefined;
      }
      const key = unwrapPayloadKey(each.subjectKey, { origin, ...each.request }, row.wrapped);
      if (key === undefined) throw wrongMaster();
      return key;
    });
  };

  interface KeyRow {
    readonly subjectId: string;
    readonly tenant: string;
    readonly name: string;
    readonly wrapped: Buffer;
    /** Hex; null once the subject is erased. */
    readonly subjectWrapped: string | null;
  }

  /** The rows of each reference, in order. As one JSON text: a page of them is read many times faster than columns. */
  const readRows = async (
    id: number,
    references: readonly PayloadKeyReference[],
  ): Promise<readonly (readonly KeyRow[])[]> => {
    const [packed] = await database.query<{ rows: string }>(
      `select coalesce(json_agg(json_build_array(r.at, k.subject_id::text, encode(k.wrapped, 'hex'), s.tenant,
                encode(s.name, 'hex'), encode(s.wrapped, 'hex'))), '[]')::text as rows
       from unnest($2::text::bigint[], $3::text::uuid[]) with ordinality as r(seq, event_id, at)
       join edict_keys.payload_key k on k.log_id = $1::int and k.seq = r.seq and k.event_id = r.event_id
       join edict_keys.subject_key s on s.id = k.subject_id`,
      [
        id,
        `{${references.map(({ seq }) => String(seq)).join(',')}}`,
        `{${references.map(({ eventId }) => eventId).join(',')}}`,
      ],
    );
    const found = references.map((): KeyRow[] => []);
    const rows = JSON.parse(packed?.rows ?? '[]') as readonly (readonly [
      at: number,
      subjectId: string,
      wrapped: string,
      tenant: string,
      name: string,
      subjectWrapped: string | null,
    ])[];
    for (const [at, subjectId, wrapped, tenant, name, subjectWrapped] of rows)
      found[at - 1]?.push({ subjectId, tenant, name, wrapped: Buffer.from(wrapped, 'hex'), subjectWrapped });
    return found;
  };

  /**
   * The subject's key as its row wraps it; opened once, for as long as it stays the same. Undefined once it is erased,
   * and where the row is damaged: the master key was checked, and one row must not hide everybody else's.
   */
  const subjectKeyOf = ({ tenant, name, subjectWrapped }: KeyRow): Buffer | undefined => {
    if (subjectWrapped === null) return undefined;
    const place = `${tenant}/${name}`;
    const known = opened.get(place);
    if (known?.wrapped === subjectWrapped) return known.key;
    const key = unwrapSubjectKey(masterKey, tenant, Buffer.from(name, 'hex'), Buffer.from(subjectWrapped, 'hex'));
    if (key === undefined) return undefined;
    opened.set(place, { wrapped: subjectWrapped, key });
    return key;
  };

  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      await checkMaster();
      return await work();
    } catch (cause) {
      throw unavailable(cause);
    }
  };

  /** Waits for those who issue keys now; whoever comes later sees what was done. */
  const alone = (work: (sql: Sql) => Promise<unknown>): Promise<void> =>
    database.transaction(async (sql) => {
      await sql.query('select pg_advisory_xact_lock($1::bigint)', [ERASURE_LOCK]);
      await work(sql);
    });

  return {
    issue: (log, requests) => guarded(() => (requests.length === 0 ? Promise.resolve([]) : issueFor(log, requests))),
    find: ({ origin }, references) =>
      guarded(async () => {
        if (references.length === 0) return [];
        const rows = await readRows(await logId(origin), references);
        return references.map(({ seq, eventId }, index) =>
          (rows[index] ?? []).flatMap((row) => {
            const key = subjectKeyOf(row);
            const own = key === undefined ? undefined : unwrapPayloadKey(key, { origin, seq, eventId }, row.wrapped);
            return own === undefined ? [] : [own];
          }),
        );
      }),
    destroyEntries: ({ origin }, references) =>
      guarded(async () => {
        await database.query(
          `delete from edict_keys.payload_key k using unnest($2::text::bigint[], $3::text::uuid[]) as r(seq, event_id)
           where k.log_id = $1::int and k.seq = r.seq and k.event_id = r.event_id`,
          [
            await logId(origin),
            `{${references.map(({ seq }) => String(seq)).join(',')}}`,
            `{${references.map(({ eventId }) => eventId).join(',')}}`,
          ],
        );
      }),
    nameOf: names,
    closeSubject: (tenant, name) =>
      guarded(() =>
        alone((sql) =>
          sql.query(
            `insert into edict_keys.subject_key (tenant, name, closed) values ($1, $2::bytea, true)
             on conflict (tenant, name) do update set closed = true`,
            [tenant, name],
          ),
        ),
      ),
    closeEvents: (tenant, eventIds) =>
      guarded(() =>
        alone((sql) =>
          sql.query(
            `insert into edict_keys.erased_event (tenant, event_id) select $1, unnest($2::text::uuid[])
             on conflict do nothing`,
            [tenant, `{${eventIds.join(',')}}`],
          ),
        ),
      ),
    entriesOf: ({ tenant, origin }, name, from, to) =>
      guarded(async () => {
        const rows = await database.query<{ seq: bigint; event_id: string }>(
          `select k.seq, k.event_id from edict_keys.payload_key k
           where k.log_id = $1::int and k.seq >= $2::bigint and k.seq < $3::bigint and k.subject_id = (
             select s.id from edict_keys.subject_key s where s.tenant = $4 and s.name = $5::bytea)
           order by k.seq`,
          [await logId(origin), String(from), String(to), tenant, name],
        );
        return rows.map(({ seq, event_id: eventId }) => ({ seq, eventId }));
      }),
    destroySegment: ({ origin }, segment) =>
      guarded(async () => {
        const first = BigInt(segment) << 16n;
        await database.query(
          'delete from edict_keys.payload_key where log_id = $1::int and seq >= $2::bigint and seq < $3::bigint',
          [await logId(origin), String(first), String(first + 65_536n)],
        );
      }),
    destroySubject: (tenant, name) =>
      guarded(async () => {
        await alone((sql) =>
          sql.query(
            `insert into edict_keys.subject_key (tenant, name, closed) values ($1, $2::bytea, true)
             on conflict (tenant, name) do update set wrapped = null, closed = true`,
            [tenant, name],
          ),
        );
        subjects.delete(`${tenant}/${hex(name)}`);
        opened.delete(`${tenant}/${hex(name)}`);
      }),
    close: () => {
      subjects.clear();
      opened.clear();
      return database.close();
    },
  };
};
