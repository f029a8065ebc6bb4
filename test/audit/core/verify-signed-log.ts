/** A small log with seals and checkpoints, as writer and signer make them. */
import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { createTreeHasher } from '../../../services/shared/tlog/merkle.ts';
import { formatVkey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { decodeEntry, entryKindName } from '../../../services/audit/core/entry.ts';
import type { TreeNode } from '../../../services/audit/core/signing.ts';
import type { StoredCheckpoint, VerifyInput } from '../../../services/audit/core/verify-input.ts';
import { createTestLog, LOG_KEY, ORIGIN, type TestLog } from './verify-log.ts';

export type Members = Readonly<Record<string, unknown>>;

/** Seals and signs as the service does; `seal` alters what the seal says. */
export const sign = (log: TestLog, seal: Members = {}, key = LOG_KEY): StoredCheckpoint => {
  const from = log.rows.findLastIndex(({ header }) => header[1] === 10) + 1;
  const before = log.rows.findLast(({ checkpoint }) => checkpoint !== undefined)?.checkpoint;
  const counts = new Map<string, number>();
  for (const { header } of log.rows.slice(from)) {
    const kind = entryKindName(decodeEntry(header).kind) ?? '';
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const row = log.own('seal', {
    from: String(from),
    kinds: [...counts].map(([kind, count]) => [kind, String(count)]),
    decisions: counts.has('decision') ? [['deny', String(counts.get('decision'))]] : [],
    reasons: [],
    emitters: [],
    checkpoint:
      before === undefined ? null : { size: String(before.size), root: Buffer.from(before.root).toString('hex') },
    ...seal,
  });
  const nodes: { node: TreeNode; end: number }[] = [];
  const tree = createTreeHasher(undefined, (height, index, hash) => {
    if (height === 8) nodes.push({ node: { level: 1, index, hash }, end: (Number(index) + 1) * 256 - 1 });
  });
  for (const { leaf } of log.rows) tree.add(leaf);
  for (const { node, end } of nodes) log.rows[end]!.nodes = [node];
  const [size, root] = [BigInt(log.rows.length), tree.root()];
  const note = signCheckpoint({ origin: ORIGIN, size, root }, key, parseVkey(formatVkey(ORIGIN, key.publicKey)));
  row.checkpoint = { size, root, note };
  return row.checkpoint;
};

export const newLog = (decisions = 3): { log: TestLog; input: (change?: Partial<VerifyInput>) => VerifyInput } => {
  const log = createTestLog();
  for (let n = 0; n < decisions; n += 1) log.decision();
  let newest = sign(log);
  for (let n = 0; n < 2; n += 1) log.decision();
  newest = sign(log);
  log.decision();
  return { log, input: (change = {}) => log.input({ newest, ...change }) };
};
