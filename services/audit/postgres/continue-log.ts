import { bytesEqual } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { parseVkey } from '../../shared/contracts/signatures.ts';
import { openCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../shared/tlog/merkle.ts';
import type { Log, Sql } from '../core/append.ts';
import { carryStream, MAX_CARRIED, type CarriedStream, type ContinuedLog } from '../core/continue-log.ts';
import type { NumberRange } from '../core/ingest-message.ts';
import { completeTo } from '../core/ingest-stream.ts';

const LEAVES_AT_ONCE = 10_000;

type SignedTree = Pick<Checkpoint, 'origin' | 'size' | 'root'>;

/** Reads all leaves of a log into a tree, told of each size. Rejects with `ledger_corrupt` when an entry is missing. */
const walkTree = async (
  sql: Sql,
  log: Log,
  visit: (size: bigint, root: () => Uint8Array) => void = () => undefined,
): Promise<SignedTree> => {
  const tree = createTreeHasher();
  for (;;) {
    const rows = await sql.query<{ seq: bigint; leaf: Buffer }>(
      `select seq, leaf from edict.entry
       where log_id = $1::int and seq >= $2::bigint and segment = ($2::bigint >> 16)::int order by seq limit $3::int`,
      [log.id, String(tree.size()), LEAVES_AT_ONCE],
    );
    if (rows.length === 0) break;
    for (const { seq, leaf } of rows) {
      if (seq !== tree.size()) throw new AppError('ledger_corrupt', `${log.origin}: entry ${tree.size()} is missing`);
      tree.add(leaf);
      visit(tree.size(), tree.root);
    }
  }
  return { origin: log.origin, size: tree.size(), root: tree.root() };
};

/** Origin, size and root of a log as the database has it. Rejects with `ledger_corrupt` when an entry is missing. */
export const rootInDatabase = (sql: Sql, log: Log): Promise<SignedTree> => walkTree(sql, log);

/**
 * How much of a restored log lies in the tree that was signed: up to the largest checkpoint that the database still has,
 * that the log's key signed, and whose root its entries have. What is behind may be of that tree, or may have come since;
 * nothing here tells. `signed` may be of a later incarnation, which the database has lost whole. Rejects with `usage`
 * when the log has all that was signed.
 */
const keptOf = async (
  sql: Sql,
  log: Log & { readonly vkey: string },
  signed: SignedTree,
): Promise<Pick<ContinuedLog, 'kept' | 'found'>> => {
  const key = parseVkey(log.vkey);
  const isOfThis = signed.origin === log.origin;
  const stored = await sql.query<{ size: bigint; root: Buffer; note: Buffer }>(
    `select size, root, note from edict.checkpoint
     where log_id = $1::int and (size <= $2::bigint or not $3::boolean) order by size`,
    [log.id, String(signed.size), isOfThis],
  );
  const bySize = new Map(stored.map((checkpoint) => [checkpoint.size, checkpoint]));
  const fitting: (typeof stored)[number][] = [];
  let isWhole = false;
  const { size: found } = await walkTree(sql, log, (size, root) => {
    const checkpoint = bySize.get(size);
    if (isOfThis && size === signed.size && bytesEqual(root(), signed.root)) isWhole = true;
    if (checkpoint !== undefined && bytesEqual(root(), checkpoint.root)) fitting.push(checkpoint);
  });
  if (isWhole)
    throw new AppError(
      'usage',
      `${log.origin} has all ${signed.size} entries that were signed: there is nothing to resume`,
    );
  const newest = fitting.findLast(({ size, root, note }) => {
    const checkpoint = openCheckpoint(note, key);
    return checkpoint?.size === size && bytesEqual(checkpoint.root, root);
  });
  return { kept: newest?.size ?? 0n, found };
};

interface StreamRow {
  readonly emitter: string;
  readonly boot: string;
  readonly highest: string;
  readonly holes: readonly { readonly from: string; readonly to: string; readonly since_ms: number }[];
}

const streamName = ({ emitter, boot }: { readonly emitter: string; readonly boot: string }): string =>
  `${emitter}/${boot}`;

/** The streams of a log as the next one goes on with them: what its entries from `kept` on have is a hole. */
const carriedStreams = async (sql: Sql, log: Log, kept: bigint, nowMs: number): Promise<readonly CarriedStream[]> => {
  const rows = await sql.query<StreamRow>(
    `select s.emitter::text as emitter, s.boot::text as boot, s.highest::text as highest, s.holes
     from edict.stream s where s.log_id = $1::int order by s.last_ingest_us desc, s.emitter, s.boot desc
     limit ${MAX_CARRIED}`,
    [log.id],
  );
  // Numbers that follow each other are one range.
  const ranges = await sql.query<{ emitter: string; boot: string; from: string; to: string }>(
    `select w.emitter, w.boot, min(w.number)::text as "from", max(w.number)::text as "to" from (
       select r.emitter::text as emitter, r.boot::text as boot, r.number,
              r.number - row_number() over (partition by r.emitter, r.boot order by r.number) as island
       from edict.received r where r.log_id = $1::int and r.seq >= $2::bigint) w
     group by w.emitter, w.boot, w.island`,
    [log.id, String(kept)],
  );
  const lost = new Map<string, NumberRange[]>();
  for (const { from, to, ...of } of ranges) {
    const range = { from: BigInt(from), to: BigInt(to) };
    const known = lost.get(streamName(of));
    if (known === undefined) lost.set(streamName(of), [range]);
    else known.push(range);
  }
  return rows.map(({ emitter, boot, highest, holes }) =>
    carryStream(
      {
        emitter,
        boot: BigInt(boot),
        highest: BigInt(highest),
        holes: holes.map(({ from, to, since_ms: sinceMs }) => ({ from: BigInt(from), to: BigInt(to), sinceMs })),
      },
      lost.get(streamName({ emitter, boot })) ?? [],
      nowMs,
    ),
  );
};

/**
 * What a new incarnation continues of `log`, whose head this transaction holds: the log as it lies in the database, or,
 * after a restore, the tree that was signed of it.
 */
export const continueLog = async (
  sql: Sql,
  log: Log & { readonly vkey: string },
  signed: SignedTree | undefined,
  nowMs: number,
): Promise<ContinuedLog> => {
  if (signed === undefined) {
    const previous = await rootInDatabase(sql, log);
    const streams = await carriedStreams(sql, log, previous.size, nowMs);
    return { previous, kept: previous.size, found: previous.size, streams };
  }
  const { kept, found } = await keptOf(sql, log, signed);
  return { previous: signed, kept, found, streams: await carriedStreams(sql, log, kept, nowMs) };
};

/** The streams of the new log as the ingest finds them. `last_ingest_us` stays: a seal names those that moved since. */
export const insertCarried = async (
  sql: Sql,
  logId: number,
  before: Log,
  streams: readonly CarriedStream[],
): Promise<void> => {
  if (streams.length === 0) return;
  await sql.query(
    `insert into edict.stream (log_id, emitter, boot, complete_to, highest, holes, covered_to, last_event_ms,
                               last_ingest_us, state)
     select $1::int, s.emitter, s.boot, w.complete_to, w.highest, w.holes, least(s.covered_to, w.complete_to),
            s.last_event_ms, s.last_ingest_us, s.state
     from jsonb_to_recordset($3::text::jsonb) as w(emitter text, boot numeric, complete_to numeric, highest numeric, holes jsonb)
     join edict.stream s on s.log_id = $2::int and s.emitter = w.emitter and s.boot = w.boot`,
    [
      logId,
      before.id,
      JSON.stringify(
        streams.map((stream) => ({
          emitter: stream.emitter,
          boot: String(stream.boot),
          complete_to: String(completeTo(stream)),
          highest: String(stream.highest),
          holes: stream.holes.map(({ from, to, sinceMs }) => ({
            from: String(from),
            to: String(to),
            since_ms: sinceMs,
          })),
        })),
      ),
    ],
  );
};
