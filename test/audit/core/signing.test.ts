import { ENTRY_KINDS, genesisHash } from '../../../services/audit/core/entry.ts';
import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../../services/shared/tlog/merkle.ts';
import { formatMemory, parseMemory } from '../../../services/audit/core/signing-memory.ts';
import {
  planSigning,
  readTree,
  type ReadTree,
  type SignableLog,
  type SigningAlarm,
  type SigningMemory,
} from '../../../services/audit/core/signing.ts';
import { bytesEqual } from '../../../services/shared/contracts/bytes.ts';
import { parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { createTestLog, erasure, LOG_KEY, ORIGIN, VKEY, type Row, type TestLog } from './verify-log.ts';

const verifier = parseVkey(VKEY);

/** What the database shows: the rows as they are, the seals where they are. */
const shown = (rows: readonly Row[], changes: Partial<SignableLog> = {}): SignableLog => ({
  id: 1,
  tenant: 'acme',
  origin: ORIGIN,
  incarnation: 1,
  vkey: VKEY,
  genesis: { origin: ORIGIN, vkey: VKEY },
  head: {
    size: BigInt(rows.length),
    leaf: rows.at(-1)?.leaf ?? genesisHash({ origin: ORIGIN, vkey: VKEY }),
  },
  sealedSize: BigInt(rows.findLastIndex(({ header }) => header[1] === ENTRY_KINDS.seal) + 1),
  ...changes,
});

type Outcome = ReadTree | { readonly alarm: SigningAlarm } | undefined;

const sign = async (rows: readonly Row[], memory?: SigningMemory, changes?: Partial<SignableLog>): Promise<Outcome> => {
  const log = shown(rows, changes);
  const plan = planSigning(log, verifier, memory);
  if (plan === undefined || 'alarm' in plan) return plan;
  return readTree(log, plan, (_log, from, to) => Promise.resolve(rows.slice(Number(from), Number(to)).slice(0, 3)));
};

const signed = async (rows: readonly Row[], memory?: SigningMemory): Promise<SigningMemory & { read: ReadTree }> => {
  const read = await sign(rows, memory);
  if (read === undefined || 'alarm' in read) throw new Error(`not signed: ${JSON.stringify(read)}`);
  return { origin: ORIGIN, base: read.tree, signed: { size: read.tree.size, root: read.root }, read };
};

const alarmOf = (outcome: Outcome): string =>
  outcome === undefined ? 'nothing to do' : 'alarm' in outcome ? outcome.alarm.alarm : 'signed';

const rootOf = (rows: readonly Row[]): Buffer => {
  const tree = createTreeHasher();
  for (const { leaf } of rows) tree.add(leaf);
  return tree.root();
};

const grow = (log: TestLog, decisions: number): void => {
  for (let n = 0; n < decisions; n += 1) log.decision();
  log.own('seal', { from: '0' });
};

const newLog = (decisions = 4): TestLog => {
  const log = createTestLog();
  grow(log, decisions);
  return log;
};

describe('what the signer signs', () => {
  it('the tree up to the newest seal, then only what came after it', async () => {
    const log = newLog();
    const first = await signed(log.rows);
    expect(first.signed).toEqual({ size: 6n, root: rootOf(log.rows) });
    expect(await sign(log.rows, first)).toBeUndefined();
    log.decision();
    expect(await sign(log.rows, first)).toBeUndefined();
    grow(log, 2);
    log.decision();
    const second = await signed(log.rows, first);
    expect(second.signed).toEqual({ size: 10n, root: rootOf(log.rows.slice(0, 10)) });
  });

  it('gives the hashes of tiles above the leaves, each once', async () => {
    const log = newLog(300);
    const first = await signed(log.rows);
    grow(log, 300);
    const second = await signed(log.rows, first);
    expect([...first.read.nodes, ...second.read.nodes]).toEqual([
      { level: 1, index: 0n, hash: rootOf(log.rows.slice(0, 256)) },
      { level: 1, index: 1n, hash: rootOf(log.rows.slice(256, 512)) },
    ]);
  });

  it('the same tree again after it died before the tree was stored', async () => {
    const log = newLog();
    const first = await signed(log.rows);
    grow(log, 2);
    const second = await signed(log.rows, first);
    const died: SigningMemory = { ...second, base: first.base };
    grow(log, 2);
    expect((await signed(log.rows, died)).signed).toEqual(second.signed);
  });

  it('what follows on a checkpoint of its key, when its memory is lost', async () => {
    const log = newLog();
    const { signed: before } = await signed(log.rows);
    grow(log, 2);
    const checkpoint = {
      size: before.size,
      note: signCheckpoint({ origin: ORIGIN, ...before }, LOG_KEY, verifier),
    };
    expect(alarmOf(await sign(log.rows, undefined, { checkpoint }))).toBe('signed');
    const altered = newLog(5);
    grow(altered, 2);
    expect(alarmOf(await sign(altered.rows, undefined, { checkpoint }))).toBe('log_forked');
    expect(alarmOf(await sign(newLog(1).rows, undefined, { checkpoint }))).toBe('log_rewound');
    const forged = { ...checkpoint, note: Buffer.from('no note') };
    expect(alarmOf(await sign(log.rows, undefined, { checkpoint: forged }))).toBe('checkpoint_forged');
  });

  it('payloads that are gone only when a later entry, signed before, names them', async () => {
    const log = newLog();
    log.rows[2]!.payload = { state: 'no_key' };
    expect(alarmOf(await sign(log.rows))).toBe('row_damaged');
    log.own('erasure', erasure([['2', '2']]));
    log.own('seal', {});
    // It may go only once that entry is signed.
    expect(alarmOf(await sign(log.rows))).toBe('row_damaged');
    const size = BigInt(log.rows.length);
    const root = rootOf(log.rows);
    const checkpoint = { size, note: signCheckpoint({ origin: ORIGIN, size, root }, LOG_KEY, verifier) };
    log.own('alert', {});
    log.own('seal', {});
    expect(alarmOf(await sign(log.rows, undefined, { checkpoint }))).toBe('signed');
  });
});

describe('what the signer refuses', () => {
  const flip = (bytes: Uint8Array, at: number): Buffer => {
    const altered = Buffer.from(bytes);
    altered[at] = (altered[at] ?? 0) ^ 1;
    return altered;
  };

  it.each<[string, string, (rows: Row[]) => void]>([
    ['a byte of a header', 'row_damaged', (rows) => (rows[2]!.header = flip(rows[2]!.header, 40))],
    ['a leaf hash', 'row_damaged', (rows) => (rows[2]!.leaf = flip(rows[2]!.leaf, 0))],
    ['a segment', 'row_damaged', (rows) => (rows[2]!.segment = 1)],
    ['a row in the middle', 'row_damaged', (rows) => rows.splice(2, 1)],
    ['two rows in each other’s place', 'row_damaged', (rows) => rows.splice(2, 2, rows[3]!, rows[2]!)],
    ['a payload that does not open', 'row_damaged', (rows) => (rows[2]!.payload = { state: 'unopened' })],
    ['a payload that is gone', 'row_damaged', (rows) => (rows[2]!.payload = { state: 'missing' })],
    ['the payload of another entry', 'row_damaged', (rows) => (rows[2]!.payload = rows[3]!.payload)],
  ])('%s that was altered: %s', async (_name, expected, alter) => {
    const { rows } = newLog();
    const size = BigInt(rows.length);
    alter(rows);
    expect(alarmOf(await sign(rows, undefined, { sealedSize: size }))).toBe(expected);
  });

  it('an end that is no seal', async () => {
    const log = newLog();
    log.decision();
    expect(alarmOf(await sign(log.rows, undefined, { sealedSize: 7n }))).toBe('row_damaged');
  });

  it('a log of another name or key', async () => {
    const { rows } = newLog();
    const genesis = { origin: 'local-0123456789abcdef/other/0/1', vkey: VKEY };
    expect(alarmOf(await sign(rows, undefined, { genesis }))).toBe('log_forked');
  });

  it('a smaller log, the same size with another end, and a log that goes on from other entries', async () => {
    const log = newLog();
    const memory = await signed(log.rows);
    expect(alarmOf(await sign(log.rows.slice(0, 5), memory))).toBe('log_rewound');
    const other = newLog(4);
    expect(bytesEqual(other.rows[5]!.leaf, log.rows[5]!.leaf)).toBe(false);
    expect(alarmOf(await sign(other.rows, memory))).toBe('log_forked');
    grow(other, 3);
    expect(alarmOf(await sign(other.rows, memory))).toBe('log_forked');
  });

  it('another tree of the size that it was about to sign when it died', async () => {
    const log = newLog();
    const first = await signed(log.rows);
    grow(log, 2);
    const second = await signed(log.rows, first);
    const died: SigningMemory = { ...second, base: first.base };
    const rows = log.rows.map((row) => ({ ...row }));
    rows[7] = { ...rows[7]!, leaf: flip(rows[7]!.leaf, 0) };
    expect(alarmOf(await sign(rows, died))).toBe('row_damaged');
    expect(alarmOf(await sign(log.rows, { ...died, signed: { ...died.signed, root: Buffer.alloc(32) } }))).toBe(
      'log_forked',
    );
  });
});

describe('the signer’s memory', () => {
  it('is read as it was written, for its own log only', async () => {
    const log = newLog();
    const { read: _read, ...memory } = await signed(log.rows);
    const text = formatMemory(memory);
    expect(parseMemory(text, ORIGIN)).toEqual(memory);
    expect(parseMemory(text, 'another/log/0/1')).toBeUndefined();
  });

  it('is not believed with a byte changed, or cut', async () => {
    const { read: _read, ...memory } = await signed(newLog().rows);
    const text = formatMemory(memory);
    for (let at = 0; at < text.length; at += 1) {
      const altered = `${text.slice(0, at)}${text[at] === '0' ? '1' : '0'}${text.slice(at + 1)}`;
      const parsed = parseMemory(altered, ORIGIN);
      // The leaf of the last entry, and white space, are all that no other number in the file contradicts.
      if (parsed !== undefined) expect({ ...parsed, base: { ...parsed.base, leaf: memory.base.leaf } }).toEqual(memory);
      expect(parseMemory(text.slice(0, at), ORIGIN)).toEqual(at === text.length - 1 ? memory : undefined);
    }
  });
});
