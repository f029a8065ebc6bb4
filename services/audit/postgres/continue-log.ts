import { bytesEqual } from '../../shared/contracts/bytes.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import { parseVkey } from '../../shared/contracts/signatures.ts';
import { openCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../shared/tlog/merkle.ts';
import type { Log, Sql } from '../core/append.ts';
import {
  carryStream,
  MAX_CARRIED,
  numbersOutside,
  type CarriedStream,
  type ContinuedLog,
} from '../core/continue-log.ts';
import type { NumberRange } from '../core/ingest-message.ts';
import { completeTo } from '../core/ingest-stream.ts';

const LEAVES_AT_ONCE = 10_000;

type SignedTree = Pick<Checkpoint, 'origin' | 'size' | 'root'>;

/**
 * Reads all leaves of a log into a tree, told of each size. Nobody may append meanwhile. Rejects with `ledger_corrupt`
 * when an entry is missing, also at the end: its head says how many there are.
 */
const walkTree = async (
  sql: Sql,
  log: Log,
  visit: (size: bigint, root: () => Uint8Array) => void = () => undefined,
): Promise<SignedTree> => {
  const [head] = await sql.query<{ size: bigint }>('select size from edict.log_head where log_id = $1::int', [log.id]);
  if (head === undefined) throw new AppError('ledger_missing', `there is no ledger ${log.origin}`);
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
  if (tree.size() < head.size) throw new AppError('ledger_corrupt', `${log.origin}: entry ${tree.size()} is missing`);
  if (tree.size() > head.size)
    throw new AppError('ledger_corrupt', `${log.origin}: entry ${head.size} stands behind the head`);
  return { origin: log.origin, size: tree.size(), root: tree.root() };
};

/** Origin, size and root of a log as the database has it. Rejects with `ledger_corrupt` when an entry is missing. */
export const rootInDatabase = (sql: Sql, log: Log): Promise<SignedTree> => walkTree(sql, log);

/**
 * How much of a restored log lies in the tree that was signed: up to the largest checkpoint that the database still
 * has, that the log's key signed, and whose root its entries have. What is behind may be of that tree, or may have come
 * since; nothing here tells. `signed` may be of a later incarnation, which the database has lost whole. Rejects with
 * `usage` when the log has all that was signed.
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
  /** Where entries are left behind: every number up to here is accounted for before them. */
  readonly settled: string | null;
}

const streamName = ({ emitter, boot }: { readonly emitter: string; readonly boot: string }): string =>
  `${emitter}/${boot}`;

/**
 * Up to where each number of stream `s` is accounted for below seq $2, by an entry or what one says: as the last seal
 * below it says, else the mark of the checkpoints; never as far as an event that is not below it. Without a checkpoint
 * the mark says what was committed, which proves nothing.
 */
const SETTLED = `least(
  case when $2::bigint = 0 then 0 when s.sealed_size between 1 and $2::bigint then s.sealed_to else s.covered_to end,
  (select min(r.number) - 1 from edict.received r
   where r.log_id = s.log_id and r.emitter = s.emitter and r.boot = s.boot and r.seq >= $2::bigint))`;

/** Numbers behind `settled` whose event is below seq $2; those that follow each other are one range. */
const readKept = async (sql: Sql, log: Log, kept: bigint): Promise<ReadonlyMap<string, readonly NumberRange[]>> => {
  const ranges = await sql.query<{ emitter: string; boot: string; from: string; to: string }>(
    `select w.emitter, w.boot, min(w.number)::text as "from", max(w.number)::text as "to" from (
       select r.emitter::text as emitter, r.boot::text as boot, r.number,
              r.number - row_number() over (partition by r.emitter, r.boot order by r.number) as island
       from (select s.log_id, s.emitter, s.boot, ${SETTLED} as settled from edict.stream s
             where s.log_id = $1::int) s
       join edict.received r on r.log_id = s.log_id and r.emitter = s.emitter and r.boot = s.boot
       where r.seq < $2::bigint and r.number > s.settled) w
     group by w.emitter, w.boot, w.island order by min(w.number)`,
    [log.id, String(kept)],
  );
  const byStream = new Map<string, NumberRange[]>();
  for (const { from, to, ...of } of ranges) {
    const range = { from: BigInt(from), to: BigInt(to) };
    const known = byStream.get(streamName(of));
    if (known === undefined) byStream.set(streamName(of), [range]);
    else known.push(range);
  }
  return byStream;
};

/**
 * The streams of a log as the next one goes on with them. Where entries from `kept` on are left behind, a number is a
 * hole unless something before them accounts for it: what set a message aside or gave a number up may be among them.
 */
const carriedStreams = async (
  sql: Sql,
  log: Log,
  { kept, found }: Pick<ContinuedLog, 'kept' | 'found'>,
  nowMs: number,
): Promise<readonly CarriedStream[]> => {
  const isCut = kept < found;
  const rows = await sql.query<StreamRow>(
    `select s.emitter::text as emitter, s.boot::text as boot, s.highest::text as highest, s.holes,
            case when $3::boolean then ${SETTLED} end::text as settled
     from edict.stream s where s.log_id = $1::int order by s.last_ingest_us desc, s.emitter, s.boot desc
     limit ${MAX_CARRIED}`,
    [log.id, String(kept), isCut],
  );
  const received = isCut ? await readKept(sql, log, kept) : new Map<string, readonly NumberRange[]>();
  return rows.map(({ emitter, boot, highest, holes, settled }) =>
    carryStream(
      {
        emitter,
        boot: BigInt(boot),
        highest: BigInt(highest),
        holes: holes.map(({ from, to, since_ms: sinceMs }) => ({ from: BigInt(from), to: BigInt(to), sinceMs })),
      },
      settled === null
        ? []
        : numbersOutside(
            { from: BigInt(settled) + 1n, to: BigInt(highest) },
            received.get(streamName({ emitter, boot })) ?? [],
          ),
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
    const whole = { kept: previous.size, found: previous.size };
    return { previous, ...whole, streams: await carriedStreams(sql, log, whole, nowMs) };
  }
  const held = await keptOf(sql, log, signed);
  return { previous: signed, ...held, streams: await carriedStreams(sql, log, held, nowMs) };
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
     from jsonb_to_recordset($3::text::jsonb) as w(
       emitter text, boot numeric, complete_to numeric, highest numeric, holes jsonb)
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
