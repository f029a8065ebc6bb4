import { fromHex, hex, sha256 } from '../../shared/contracts/bytes.ts';
import { counterOf, U64_MAX } from '../../shared/contracts/counter.ts';
import { isObject } from '../../shared/contracts/json.ts';
import { ENTRY_KINDS, type Entry } from './entry.ts';
import { createNumberSet } from './verify-ranges.ts';

type Json = Readonly<Record<string, unknown>>;

export interface NamedRange {
  readonly emitter: string;
  readonly boot: bigint;
  readonly from: bigint;
  readonly to: bigint;
}

/** A stream that goes on in the next incarnation: `had` lies in the log before it, `missing` is left to the new one. */
export interface CarriedNumbers {
  readonly emitter: string;
  readonly boot: bigint;
  readonly had: readonly NamedRange[];
  readonly missing: readonly NamedRange[];
}

/** The numbers that an entry speaks of beside its own. */
export interface Numbers {
  /** Named by a gap, lost or retire entry. */
  readonly named: readonly NamedRange[];
  /** By the first entry of an incarnation: what the log before it had. */
  readonly carried?: readonly CarriedNumbers[];
  /** Carried by a quarantined or conflicting message; `digest` only where the message took the number's place. */
  readonly wrapped: readonly {
    readonly emitter: string;
    readonly boot: bigint;
    readonly number: bigint;
    readonly digest?: Uint8Array;
  }[];
}

const EMITTER = /^[0-9a-f]{32}$/;
const items = (value: unknown): readonly unknown[] => (Array.isArray(value) ? (value as readonly unknown[]) : []);

const rangeOf = (emitter: unknown, boot: unknown, from: unknown, to: unknown): readonly NamedRange[] => {
  const [bootNumber, first, last] = [counterOf(boot), counterOf(from), counterOf(to)];
  if (typeof emitter !== 'string' || !EMITTER.test(emitter)) return [];
  if (bootNumber === undefined || first === undefined || last === undefined || last < first) return [];
  return [{ emitter, boot: bootNumber, from: first, to: last }];
};

/** A lost event of an emitter: `data.lost: [{boot, from, to}]`, numbers of its own streams. */
const lostNumbers = (entry: Entry, event: Json): readonly NamedRange[] => {
  const data = event['data'];
  return items(isObject(data) ? data['lost'] : undefined).flatMap((item) =>
    isObject(item) ? rangeOf(hex(entry.emitter), item['boot'], item['from'], item['to']) : [],
  );
};

/** A gap entry names one stream's range; ranges of a source's offsets name no numbers. */
const gapNumbers = (document: Json): readonly NamedRange[] =>
  rangeOf(document['emitter'], document['boot'], document['from'], document['to']);

/** A retire entry closes an emitter: `streams: [{boot, from, to}]` are the numbers that will never come. */
const retireNumbers = (document: Json): readonly NamedRange[] =>
  items(document['streams']).flatMap((item) =>
    isObject(item) ? rangeOf(document['emitter'], item['boot'], item['from'], item['to'] ?? String(U64_MAX)) : [],
  );

/** The first entry of an incarnation: `streams: [{emitter, boot, highest, holes: [[from, to], …]}]`. */
export const carriedNumbers = (document: Json): readonly CarriedNumbers[] =>
  items(document['streams']).flatMap((item) => {
    if (!isObject(item)) return [];
    const { emitter, boot, highest } = item;
    const missing = items(item['holes']).flatMap((hole) =>
      Array.isArray(hole) ? rangeOf(emitter, boot, hole[0], hole[1]) : [],
    );
    const [all] = rangeOf(emitter, boot, '1', highest);
    if (all === undefined) return [];
    const holes = createNumberSet();
    for (const { from, to } of missing) holes.add(from, to);
    const had = holes.missing(1n, all.to).map(([from, to]) => ({ ...all, from, to }));
    return [{ emitter: all.emitter, boot: all.boot, had, missing }];
  });

const wrappedNumber = (entry: Entry, document: Json, tenant: string): Numbers['wrapped'] => {
  const { headers, bytes_base64: base64, sha256: whole } = document;
  const pairs = items(headers);
  const of = (wanted: string): unknown => {
    const found = pairs.filter((pair) => Array.isArray(pair) && pair[0] === wanted);
    return found.length === 1 ? (found[0] as readonly unknown[])[1] : undefined;
  };
  const [emitter, boot, number] = [of('emitter'), counterOf(of('boot')), counterOf(of('sequence'))];
  if (of('tenant') !== tenant || typeof emitter !== 'string' || !EMITTER.test(emitter)) return [];
  if (boot === undefined || number === undefined || number === 0n) return [];
  if (entry.kind !== ENTRY_KINDS.quarantine) return [{ emitter, boot, number }];
  // A message that was too long to keep whole names its digest.
  const digest =
    typeof whole === 'string' && /^[0-9a-f]{64}$/.test(whole)
      ? fromHex(whole)
      : typeof base64 === 'string'
        ? sha256(Buffer.from(base64, 'base64'))
        : undefined;
  return [{ emitter, boot, number, ...(digest === undefined ? {} : { digest }) }];
};

/** Reads the numbers that the opened payload of an entry speaks of. Malformed ones name nothing. */
export const numbersOf = (entry: Entry, document: Json, tenant: string): Numbers => {
  switch (entry.kind) {
    case ENTRY_KINDS.lost:
      return { named: lostNumbers(entry, document), wrapped: [] };
    case ENTRY_KINDS.gap:
      return { named: gapNumbers(document), wrapped: [] };
    case ENTRY_KINDS.emitter:
      return { named: retireNumbers(document), wrapped: [] };
    case ENTRY_KINDS.incarnation:
      return { named: [], wrapped: [], carried: carriedNumbers(document) };
    case ENTRY_KINDS.quarantine:
    case ENTRY_KINDS.conflict:
      return { named: [], wrapped: wrappedNumber(entry, document, tenant) };
    default:
      return { named: [], wrapped: [] };
  }
};
