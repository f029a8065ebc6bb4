import { artifactPartOf } from '../../shared/contracts/artifact.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { Sql } from '../core/append.ts';
import type { ArtifactCopy, FoundArtifact } from '../core/artifact.ts';
import type { PayloadKeys } from '../core/payload-keys.ts';
import { openPayloads } from '../core/query-reader.ts';
import { parseObject } from '../core/verify-event.ts';

/** Copies that are looked at: each boot of each emitter may have sent one. */
const MAX_COPIES = 16;
/** Parts that are read at once. */
const PARTS_AT_ONCE = 8;

interface CopyRow {
  readonly log_id: number;
  readonly origin: string;
  readonly emitter: string;
  readonly boot: string;
  readonly media_type: string;
  readonly bytes: bigint;
  readonly parts: number;
  readonly have: number;
}

/** Whole copies first, of those the newest. */
const readCopies = (sql: Pick<Sql, 'query'>, tenant: string, digest: string): Promise<readonly CopyRow[]> =>
  sql.query<CopyRow>(
    `select a.log_id, l.origin, a.emitter::text as emitter, a.boot::text as boot, a.media_type, a.bytes, a.parts,
            count(distinct a.part)::int as have
     from edict.artifact_part a join edict.log l on l.id = a.log_id and l.tenant = $1
     where a.digest = decode($2::text, 'hex')
     group by a.log_id, l.origin, a.emitter, a.boot, a.media_type, a.bytes, a.parts
     order by count(distinct a.part) = a.parts desc, count(distinct a.part) desc, max(a.seq) desc limit $3::int`,
    [tenant, digest, MAX_COPIES],
  );

interface PartRow {
  readonly seq: bigint;
  readonly part: number;
  readonly header: Buffer | null;
  readonly ciphertext: Buffer | null;
}

const readParts = (
  sql: Pick<Sql, 'query'>,
  { log, emitter, boot, parts, bytes, mediaType }: ArtifactCopy,
  digest: string,
  from: number,
): Promise<readonly PartRow[]> =>
  sql.query<PartRow>(
    `select f.seq, f.part, e.header, p.ciphertext from (
       select a.part, max(a.seq) as seq from edict.artifact_part a
       where a.log_id = $1::int and a.digest = decode($2::text, 'hex') and a.emitter = $3::text
         and a.boot = $4::numeric and a.parts = $5::int and a.bytes = $6::bigint and a.media_type = $7::text
         and a.part >= $8::int and a.part < $9::int
       group by a.part
     ) f
     left join edict.entry e on e.log_id = $1::int and e.segment = (f.seq >> 16)::int and e.seq = f.seq
     left join edict.payload p on p.log_id = $1::int and p.segment = (f.seq >> 16)::int and p.seq = f.seq
     order by f.part`,
    [log.id, digest, emitter, boot, parts, String(bytes), mediaType, from, from + PARTS_AT_ONCE],
  );

/** The bytes of a copy, or why there are none. */
const assemble = async (
  options: { readonly database: Pick<Sql, 'query'>; readonly keys: PayloadKeys },
  tenant: string,
  digest: string,
  copy: ArtifactCopy,
): Promise<Buffer | string> => {
  const contents: Buffer[] = [];
  let length = 0;
  for (let from = 1; from <= copy.parts; from += PARTS_AT_ONCE) {
    const rows = await readParts(options.database, copy, digest, from);
    const payloads = await openPayloads(options.keys, { tenant, origin: copy.log.origin }, rows);
    for (const [index, { seq }] of rows.entries()) {
      const payload = payloads[index];
      if (payload?.state !== 'opened') return `the payload of entry ${seq} is ${payload?.state ?? 'missing'}`;
      const data = parseObject(payload.payload)?.['data'];
      const read = isObject(data) ? artifactPartOf(data) : undefined;
      const { part } = read ?? {};
      if (read === undefined || part?.digest !== `sha256:${digest}` || part.part !== from + index)
        return `entry ${seq} is not part ${from + index}`;
      contents.push(read.content);
      length += read.content.length;
      if (length > copy.bytes) return `the parts have more than ${copy.bytes} bytes`;
    }
  }
  const bytes = Buffer.concat(contents);
  return length === copy.bytes ? bytes : `the parts have ${length} bytes, not ${copy.bytes}`;
};

/**
 * The artifact of a digest (64 hex digits), put together of what one boot sent and tested with `isIntact`: copies of
 * others do not spoil it. Undefined when no part of it is in the tenant's ledger.
 */
export const readArtifact = async (
  options: {
    readonly database: Pick<Sql, 'query'>;
    readonly keys: PayloadKeys;
    readonly isIntact: (mediaType: string, bytes: Buffer) => Promise<boolean>;
  },
  tenant: string,
  digest: string,
): Promise<FoundArtifact | undefined> => {
  let damaged: FoundArtifact | undefined;
  for (const row of await readCopies(options.database, tenant, digest)) {
    const { log_id: id, origin, emitter, boot, media_type: mediaType, bytes, parts, have } = row;
    const copy = { log: { id, origin }, emitter, boot, mediaType, bytes: Number(bytes), parts, have };
    if (have < parts) return damaged ?? { state: 'incomplete', copy };
    const found = await assemble(options, tenant, digest, copy);
    if (typeof found !== 'string' && (await options.isIntact(mediaType, found)))
      return { state: 'intact', copy, bytes: found };
    damaged ??= { state: 'damaged', copy, why: typeof found === 'string' ? found : 'its bytes have another digest' };
  }
  return damaged;
};
