/** C2SP tlog-tiles: how a log is cut into resources that never change. */
export const TILE_WIDTH = 256;
const MAX_LEVEL = 63;
/** Enough for every index below 2^63. */
const MAX_INDEX_PARTS = 7;

/** A row of `width` hashes of one level, or of `width` entries, beginning at 256 · index. */
export interface Tile {
  readonly content: 'hashes' | 'entries';
  /** 0: leaf hashes, and entries; a hash of level L covers 256^L entries. */
  readonly level: number;
  readonly index: bigint;
  /** 256, or fewer for a partial one. */
  readonly width: number;
}

const LEVEL = /^(0|[1-9]\d?)$/;
const WIDTH = /^[1-9]\d{0,2}$/;

/** `x001/x234/067` is 1234067; only the shortest spelling counts. */
const parseIndex = (parts: readonly string[]): bigint | undefined => {
  if (parts.length === 0 || parts.length > MAX_INDEX_PARTS) return undefined;
  const isWellFormed = parts.every((part, at) => (at < parts.length - 1 ? /^x\d{3}$/ : /^\d{3}$/).test(part));
  if (!isWellFormed || (parts.length > 1 && parts[0] === 'x000')) return undefined;
  return BigInt(parts.map((part) => part.slice(-3)).join(''));
};

/** The tile that `<L>/<N>[.p/<W>]` or `entries/<N>[.p/<W>]` names; undefined for any other spelling. */
export const parseTilePath = (path: string): Tile | undefined => {
  const [kind = '', ...rest] = path.split('/');
  const isEntries = kind === 'entries';
  const level = isEntries ? 0 : LEVEL.test(kind) ? Number(kind) : MAX_LEVEL + 1;
  if (level > MAX_LEVEL) return undefined;
  const before = rest.at(-2);
  const isPartial = before?.endsWith('.p') === true;
  const last = rest.at(-1) ?? '';
  if (isPartial && (!WIDTH.test(last) || Number(last) >= TILE_WIDTH)) return undefined;
  const index = parseIndex(isPartial ? [...rest.slice(0, -2), before.slice(0, -2)] : rest);
  if (index === undefined) return undefined;
  return { content: isEntries ? 'entries' : 'hashes', level, index, width: isPartial ? Number(last) : TILE_WIDTH };
};

/** The path of a tile, as `parseTilePath` reads it. */
export const formatTilePath = ({ content, level, index, width }: Tile): string => {
  const digits = String(index);
  const parts = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/\d{3}/g) ?? [];
  const path = parts.map((part, at) => (at < parts.length - 1 ? `x${part}` : part)).join('/');
  return `${content === 'entries' ? 'entries' : level}/${path}${width === TILE_WIDTH ? '' : `.p/${width}`}`;
};

/** Whether a tree of this size has all that the tile holds. */
export const isTileIn = ({ level, index, width }: Tile, size: bigint): boolean =>
  index * BigInt(TILE_WIDTH) + BigInt(width) <= size >> BigInt(8 * level);

/** Entries of a bundle: u16 length ‖ entry, each. An entry has at most 65,535 bytes. */
export const encodeBundle = (entries: readonly Uint8Array[]): Buffer =>
  Buffer.concat(
    entries.flatMap((entry) => {
      const length = Buffer.allocUnsafe(2);
      length.writeUInt16BE(entry.length);
      return [length, entry];
    }),
  );

/** The entries of a bundle, or undefined when it ends in the middle of one. */
export const decodeBundle = (bytes: Uint8Array): readonly Uint8Array[] | undefined => {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries: Uint8Array[] = [];
  for (let at = 0; at < view.length;) {
    if (at + 2 > view.length) return undefined;
    const end = at + 2 + view.readUInt16BE(at);
    if (end > view.length) return undefined;
    entries.push(view.subarray(at + 2, end));
    at = end;
  }
  return entries;
};

/** A log as its newest checkpoint has it. */
export interface PublishedLog {
  readonly id: number;
  readonly size: bigint;
  readonly note: Uint8Array;
}

/** How tiles are read. */
export interface TileReader {
  /** Undefined when there is no such log, or no checkpoint of it. */
  readonly published: (tenant: string, shard: number, incarnation: number) => Promise<PublishedLog | undefined>;
  readonly newest: (logId: number) => Promise<PublishedLog | undefined>;
  /** The hashes `from` to `from + count - 1` of a level. Rejects with `ledger_corrupt` when one is missing. */
  readonly hashes: (logId: number, level: number, from: bigint, count: number) => Promise<readonly Buffer[]>;
  /** E_i of `count` entries. Rejects with `ledger_corrupt` when one is missing. */
  readonly entries: (logId: number, from: bigint, count: number) => Promise<readonly Buffer[]>;
}
