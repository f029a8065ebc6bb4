import { AppError } from '../../shared/contracts/errors.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { openCheckpoint, type Checkpoint } from '../../shared/tlog/checkpoint.ts';
import { decodeBundle, formatTilePath, TILE_WIDTH } from '../../shared/tlog/tiles.ts';
import { segmentOf } from './entry.ts';
import type { TreeNode } from './signing.ts';
import type { LogContents, StoredCheckpoint, StoredEntry } from './verify-input.ts';

/** Gives a resource of a log, such as `checkpoint` or `tile/0/000`. */
export type GetResource = (resource: string) => Promise<Uint8Array>;

const WIDTH = BigInt(TILE_WIDTH);
/** Tiles that are fetched ahead of the one that is looked at. */
const AHEAD = 4;

const unusable = (what: string): AppError => new AppError('upstream_unavailable', what);

/** Tiles of one checkpoint: none is wider than its tree. */
const createTiles = (get: GetResource, size: bigint) => {
  const widthOf = (level: number, index: bigint): number => {
    const left = (size >> BigInt(8 * level)) - index * WIDTH;
    return left < WIDTH ? Number(left) : TILE_WIDTH;
  };
  const hashes = async (level: number, index: bigint): Promise<readonly Uint8Array[]> => {
    const width = widthOf(level, index);
    const path = `tile/${formatTilePath({ content: 'hashes', level, index, width })}`;
    const bytes = await get(path);
    if (bytes.length !== width * 32) throw unusable(`${path} has ${bytes.length} bytes`);
    return Array.from({ length: width }, (_, at) => bytes.subarray(at * 32, (at + 1) * 32));
  };
  const entries = async (index: bigint): Promise<readonly Uint8Array[]> => {
    const width = widthOf(0, index);
    const path = `tile/${formatTilePath({ content: 'entries', level: 0, index, width })}`;
    const found = decodeBundle(await get(path));
    if (found?.length !== width) throw unusable(`${path} does not hold ${width} entries`);
    return found;
  };
  /** The newest tile of each level above the leaves: every hash of it is asked for in a row. */
  const newest = new Map<number, { readonly index: bigint; readonly hashes: readonly Uint8Array[] }>();
  /** The hashes above the leaves whose last entry is `seq`. */
  const completedBy = async (seq: bigint): Promise<readonly TreeNode[]> => {
    const nodes: TreeNode[] = [];
    for (let level = 1, end = seq + 1n; end % WIDTH === 0n; level += 1) {
      end /= WIDTH;
      const [index, at] = [(end - 1n) / WIDTH, Number((end - 1n) % WIDTH)];
      let tile = newest.get(level);
      if (tile?.index !== index) {
        tile = { index, hashes: await hashes(level, index) };
        newest.set(level, tile);
      }
      const hash = tile.hashes[at];
      if (hash !== undefined) nodes.push({ level, index: end - 1n, hash });
    }
    return nodes;
  };
  return { hashes, entries, completedBy };
};

const readPages = async function* (
  get: GetResource,
  checkpoint: StoredCheckpoint,
): AsyncGenerator<readonly StoredEntry[]> {
  const { size } = checkpoint;
  const tiles = createTiles(get, size);
  const count = (size + WIDTH - 1n) / WIDTH;
  const fetchTile = (index: bigint) => {
    const both = Promise.all([tiles.entries(index), tiles.hashes(0, index)]);
    // Told by whoever waits for it, not before.
    both.catch(() => undefined);
    return both;
  };
  const coming: ReturnType<typeof fetchTile>[] = [];
  for (let index = 0n, asked = 0n; index < count; index += 1n) {
    for (; asked < count && asked <= index + BigInt(AHEAD); asked += 1n) coming.push(fetchTile(asked));
    const [headers = [], leaves = []] = (await coming.shift()) ?? [];
    const first = index * WIDTH;
    const last = first + BigInt(headers.length) - 1n;
    const nodes = await tiles.completedBy(last);
    yield headers.map((header, at): StoredEntry => {
      const seq = first + BigInt(at);
      return {
        seq,
        segment: segmentOf(seq),
        header,
        leaf: leaves[at] ?? new Uint8Array(32),
        payload: { state: 'withheld' },
        search: [],
        ...(seq === last ? { nodes } : {}),
        ...(seq === size - 1n ? { checkpoint } : {}),
      };
    });
  }
};

/**
 * A log as C2SP tlog-tiles show it to everybody: headers, leaves, tree and the newest checkpoint, nothing of payloads
 * or tables. Undefined when `key` did not sign the checkpoint: then nobody says what the log is. Rejects with
 * `upstream_unavailable` for resources that are not what they must be.
 */
export const openPublicLog = async (
  get: GetResource,
  key: VerifierKey,
  vkey: string,
): Promise<{ readonly checkpoint: Checkpoint; readonly contents: LogContents } | undefined> => {
  const note = await get('checkpoint');
  const checkpoint = openCheckpoint(note, key);
  if (checkpoint === undefined) return undefined;
  const { origin, size, root } = checkpoint;
  const [tenant = '', , incarnation] = origin.split('/').slice(-3);
  const stored = { size, root, note };
  const lastTile = size === 0n ? [] : await createTiles(get, size).hashes(0, (size - 1n) / WIDTH);
  return {
    checkpoint,
    contents: {
      log: { tenant, origin, vkey },
      // What a later incarnation continues stands in the payload of its first entry.
      isContinuationKnown: incarnation === '1',
      head: { size, leaf: lastTile.at(-1) ?? new Uint8Array(32) },
      newest: stored,
      pages: readPages(get, stored),
      orphans: () => [],
      claims: [],
      emitterKeys: new Map(),
      expectedSearch: () => undefined,
    },
  };
};
