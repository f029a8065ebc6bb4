import { hex } from '../../../services/shared/contracts/bytes.ts';
import { parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../../services/shared/tlog/merkle.ts';
import { encodeBundle, parseTilePath, TILE_WIDTH } from '../../../services/shared/tlog/tiles.ts';
import { openPublicLog } from '../../../services/audit/core/verify-public.ts';
import { verifyLog } from '../../../services/audit/core/verify.ts';
import { createTestLog, EMITTER, LOG_KEY, NOW_MS, ORIGIN, VKEY, type TestLog } from './verify-log.ts';

/** What a server of tiles gives of a log, from its rows. */
const publish = (log: TestLog): Map<string, Buffer> => {
  const resources = new Map<string, Buffer>();
  const above: Buffer[][] = [];
  const tree = createTreeHasher(undefined, (height, _index, hash) => {
    if (height % 8 === 0) (above[height / 8] ??= []).push(hash);
  });
  for (const { leaf } of log.rows) tree.add(leaf);
  const put = (kind: string, items: readonly Uint8Array[], join: (part: readonly Uint8Array[]) => Buffer): void => {
    for (let at = 0; at < items.length; at += TILE_WIDTH) {
      const part = items.slice(at, at + TILE_WIDTH);
      const partial = part.length === TILE_WIDTH ? '' : `.p/${part.length}`;
      const name = `${kind}/${String(at / TILE_WIDTH).padStart(3, '0')}${partial}`;
      expect(parseTilePath(name)).toBeDefined();
      resources.set(`tile/${name}`, join(part));
    }
  };
  put(
    '0',
    log.rows.map(({ leaf }) => leaf),
    (part) => Buffer.concat(part),
  );
  put(
    'entries',
    log.rows.map(({ header }) => header),
    encodeBundle,
  );
  above.forEach((hashes, level) => put(String(level), hashes, (part) => Buffer.concat(part)));
  const note = signCheckpoint({ origin: ORIGIN, size: tree.size(), root: tree.root() }, LOG_KEY, parseVkey(VKEY));
  resources.set('checkpoint', note);
  return resources;
};

const verify = async (resources: ReadonlyMap<string, Buffer>) => {
  const get = (resource: string): Promise<Uint8Array> => {
    const bytes = resources.get(resource);
    return bytes === undefined ? Promise.reject(new Error(`no ${resource}`)) : Promise.resolve(bytes);
  };
  const opened = await openPublicLog(get, parseVkey(VKEY), VKEY);
  if (opened === undefined) return undefined;
  return verifyLog({ ...opened.contents, known: [], now: () => NOW_MS, graceMs: 60_000 });
};

const redOf = async (resources: ReadonlyMap<string, Buffer>): Promise<readonly string[]> =>
  Object.entries((await verify(resources))?.verdicts ?? {})
    .filter(([, { status }]) => status === 'failed')
    .map(([name]) => name);

const filled = (decisions: number): TestLog => {
  const log = createTestLog();
  for (let i = 0; i < decisions; i += 1) log.decision();
  return log;
};

describe('a log of which there are only its tiles', () => {
  it.each([1, 255, 256, 600])(
    'of %d decisions: headers, tree and numbers are checked, and nothing is green that is not',
    async (size) => {
      const log = filled(size);
      const report = await verify(publish(log));
      expect(report?.findings).toEqual([]);
      expect(report).toMatchObject({ size: String(size + 1), lastLeaf: hex(log.leaf()) });
      expect(Object.entries(report?.verdicts ?? {}).map(([name, { status }]) => [name, status])).toEqual(
        [
          ['authenticity', 'ok'],
          ['append_only', 'not_checked'],
          ['integrity', 'not_checked'],
          ['projection', 'not_checked'],
          ['completeness', 'ok'],
          ['lifecycle', 'not_checked'],
          ['freshness', 'not_checked'],
          ['clock', 'ok'],
        ].filter(([name]) => report?.verdicts !== undefined && (name ?? '') in report.verdicts),
      );
    },
  );

  it.each([
    ['an entry', 'tile/entries/001', ['append_only', 'integrity']],
    ['a leaf', 'tile/0/001', ['integrity']],
    ['a hash of level 1', 'tile/1/000.p/2', ['integrity']],
  ])('goes red for %s that was altered', async (_name, resource, red) => {
    const resources = publish(filled(600));
    const bytes = Buffer.from(resources.get(resource) ?? '');
    bytes[60] = (bytes[60] ?? 0) ^ 1;
    resources.set(resource, bytes);
    expect((await redOf(resources)).toSorted()).toEqual(red);
  });

  it('says nothing of a checkpoint that another key signed', async () => {
    const resources = publish(filled(3));
    const note = resources.get('checkpoint')?.toString('utf8') ?? '';
    resources.set('checkpoint', Buffer.from(note.replace('\n4\n', '\n3\n')));
    expect(await verify(resources)).toBeUndefined();
  });

  it('finds a missing number, unless a payload that it does not have may name it', async () => {
    const log = filled(2);
    log.skip();
    log.decision();
    expect(await redOf(publish(log))).toEqual(['completeness']);
    log.own('gap', { gap: 'numbers', tenant: 'acme', emitter: EMITTER, boot: '1', from: '3', to: '3' });
    const report = await verify(publish(log));
    expect(report?.verdicts.completeness.status).toBe('not_checked');
    expect(report?.verdicts.completeness.note).toContain('1 numbers are missing');
  });

  it('refuses a tile of another length', async () => {
    const resources = publish(filled(3));
    resources.set('tile/entries/000.p/4', Buffer.from([0, 9, 1]));
    await expect(verify(resources)).rejects.toMatchObject({ code: 'upstream_unavailable' });
  });
});
