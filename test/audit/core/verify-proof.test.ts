import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { commitPayload, encodeEntry, ENTRY_KINDS, leafHash } from '../../../services/audit/core/entry.ts';
import { metaEntry, metaLeafHash } from '../../../services/audit/core/meta-log.ts';
import { formatExtra, parseExtra } from '../../../services/audit/core/proof-pair.ts';
import {
  isMetaProof,
  PROOF_VERDICTS,
  verifyProof,
  type ProofVerdictName,
} from '../../../services/audit/core/verify-proof.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { newUuidV7, uuidToBytes } from '../../../services/shared/contracts/uuid.ts';
import { formatAddCheckpoint } from '../../../services/shared/tlog/add-checkpoint.ts';
import { openCheckpoint, signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { formatWitnessVkey, parseWitnessVkey, signCosignature } from '../../../services/shared/tlog/cosignature.ts';
import { createTreeHasher } from '../../../services/shared/tlog/merkle.ts';
import { parsePolicy } from '../../../services/shared/tlog/policy.ts';
import { formatProof } from '../../../services/shared/tlog/proof-file.ts';
import { inclusionProof } from '../../../services/shared/tlog/proofs.ts';
import { createWitness } from '../../../services/witness/core/witness.ts';
import { openWitnessFolder } from '../../../services/witness/state/folder.ts';
import { verifyWithTorchwood } from '../../support/torchwood.ts';

const AUTHORITY = 'audit.example.com';
const keyOf = (origin: string) => {
  const { key } = generateSigningKey();
  return { origin, key, vkey: formatVkey(origin, key.publicKey) };
};
const [tenant, meta, thief] = [keyOf(`${AUTHORITY}/acme/0/1`), keyOf(`${AUTHORITY}/-/meta/1`), keyOf('thief')];
const witnesses = ['w1', 'w2', 'w3'].map((name) => {
  const { key } = generateSigningKey();
  const vkey = formatWitnessVkey(`witness.example/${name}`, key.publicKey);
  return { name, vkey, sign: (text: string) => signCosignature(text, 1_767_225_600, key, parseWitnessVkey(vkey)) };
});

const CONTENT_TYPE = 'application/cloudevents+json';
const id = newUuidV7();
const event = Buffer.from(JSON.stringify({ id, data: { decision: 'deny' } }), 'utf8');
const salt = randomBytes(32);
const entryAt = (seq: bigint, payload: Uint8Array = event): Buffer =>
  encodeEntry({
    kind: ENTRY_KINDS.decision,
    seq,
    ingestUs: 1n,
    eventId: uuidToBytes(id),
    topic: 't',
    partition: 0,
    offset: seq,
    emitter: Buffer.alloc(16, 1),
    boot: 1n,
    emitterSeq: seq + 1n,
    policySetDigest: Buffer.alloc(32, 2),
    commitment: commitPayload(salt, CONTENT_TYPE, payload),
    prev: Buffer.alloc(32, 3),
  });

/** A log over these leaves: its checkpoint and the proof of one of them. */
const logOf = async (leaves: readonly Uint8Array[], index: number, signer: typeof tenant, origin = signer.origin) => {
  const hasher = createTreeHasher();
  for (const leaf of leaves) hasher.add(leaf);
  const verifier = parseVkey(formatVkey(origin, signer.key.publicKey));
  return {
    index: BigInt(index),
    checkpoint: signCheckpoint({ origin, size: hasher.size(), root: hasher.root() }, signer.key, verifier),
    hashes: await inclusionProof(BigInt(index), hasher.size(), (_level, from, count) =>
      Promise.resolve(leaves.slice(Number(from), Number(from) + count)),
    ),
  };
};

const cosign = (note: Buffer, by: number): Buffer => {
  const text = note.toString('utf8').slice(0, note.indexOf('\n\n') + 1);
  return Buffer.concat([note, ...witnesses.slice(0, by).map(({ sign }) => Buffer.from(sign(text), 'utf8'))]);
};

const entries = Array.from({ length: 9 }, (_, n) => entryAt(BigInt(n)));
const extra = formatExtra({ entry: entries[5]!, opening: { salt, contentType: CONTENT_TYPE } });
const log = await logOf(entries.map(leafHash), 5, tenant);
/** The meta log has other tenants' checkpoints too. */
const metaOver = (note: Uint8Array, signer = meta, origin = meta.origin) =>
  logOf([Buffer.alloc(32, 8), metaLeafHash(metaEntry(note)), Buffer.alloc(32, 9)], 1, signer, origin);
const metaLog = await metaOver(log.checkpoint);
const metaOfThief = await metaOver(log.checkpoint, thief, meta.origin);
const metaOfAnother = await metaOver(Buffer.from('another'));
const good = {
  entry: formatProof({ ...log, extra }),
  meta: formatProof({ ...metaLog, checkpoint: cosign(metaLog.checkpoint, 2) }),
  event,
};

const policyText = (quorum: string, logs: readonly string[] = [tenant.vkey, meta.vkey]): string =>
  [
    ...logs.map((vkey) => `log ${vkey}`),
    ...witnesses.map(({ name, vkey }) => `witness ${name} ${vkey}`),
    `${quorum}\n`,
  ].join('\n');
const TWO = 'group two 2 w1 w2 w3\nquorum two';
const policyOf = (text: string) => {
  const policy = parsePolicy(Buffer.from(text));
  if ('problem' in policy) throw new Error(policy.problem);
  return policy;
};

type Files = Parameters<typeof verifyProof>[0];
const check = (changes: Partial<Files> = {}, policy = policyText(TWO)) => {
  const { verdicts, isGood, cosignatures } = verifyProof({ ...good, ...changes }, policyOf(policy));
  const notOk = Object.entries(verdicts).flatMap(([name, { status }]) => (status === 'ok' ? [] : [[name, status]]));
  return { notOk: Object.fromEntries(notOk) as Partial<Record<ProofVerdictName, string>>, isGood, cosignatures };
};
const metaFile = (made: Awaited<ReturnType<typeof metaOver>>, by = 2): Buffer =>
  formatProof({ ...made, checkpoint: cosign(made.checkpoint, by) });

describe('proof files', () => {
  it('prove an event when log, meta log and a quorum of witnesses say so', () => {
    expect(check()).toEqual({
      notOk: {},
      isGood: true,
      cosignatures: [
        { witness: 'witness.example/w1', timeS: 1_767_225_600 },
        { witness: 'witness.example/w2', timeS: 1_767_225_600 },
      ],
    });
    expect([isMetaProof(good.meta), isMetaProof(good.entry)]).toEqual([true, false]);
  });

  it('prove the entry without the event, and without its payload', () => {
    expect(check({ event: undefined })).toMatchObject({ notOk: { event: 'not_checked' }, isGood: true });
    const bare = formatProof({ ...log, extra: formatExtra({ entry: entries[5]!, opening: undefined }) });
    expect(check({ entry: bare, event: undefined })).toMatchObject({ notOk: { event: 'not_checked' }, isGood: true });
    expect(check({ entry: bare })).toMatchObject({ notOk: { event: 'failed' }, isGood: false });
  });

  it('are not good without witnesses, and never called witnessed where nobody was asked', () => {
    const none = { meta_inclusion: 'not_checked', meta_signature: 'not_checked', quorum: 'not_witnessed' };
    expect(check({ meta: undefined })).toEqual({ notOk: none, isGood: false, cosignatures: [] });
    expect(check({ meta: metaFile(metaLog, 1) })).toMatchObject({ notOk: { quorum: 'not_witnessed' }, isGood: false });
    expect(check({}, policyText('quorum none'))).toMatchObject({ notOk: { quorum: 'not_witnessed' }, isGood: true });
    expect(check({ meta: undefined }, policyText('quorum none'))).toMatchObject({ notOk: none, isGood: true });
  });

  it('may be cosigned without a meta log', () => {
    const direct = formatProof({ ...log, extra, checkpoint: cosign(log.checkpoint, 2) });
    const notOk = { meta_inclusion: 'not_checked', meta_signature: 'not_checked' };
    expect(check({ entry: direct, meta: undefined })).toMatchObject({ notOk, isGood: true });
  });

  const cut = (bytes: Buffer, from: string, to: string): Buffer =>
    Buffer.from(bytes.toString('utf8').replace(from, to), 'utf8');
  const firstHash = Buffer.from(log.hashes[0]!).toString('base64');
  const zero = Buffer.alloc(32).toString('base64');
  const otherEntry = formatExtra({
    entry: entryAt(5n, Buffer.from('{}')),
    opening: { salt, contentType: CONTENT_TYPE },
  });
  const cases: readonly (readonly [string, Partial<Files>, Partial<Record<ProofVerdictName, string>>, string?])[] = [
    ['another event', { event: Buffer.from('{}') }, { event: 'failed' }],
    ['an event with one byte changed', { event: cut(event, 'deny', 'denY') }, { event: 'failed' }],
    ['another entry', { entry: formatProof({ ...log, extra: otherEntry }) }, { event: 'failed', inclusion: 'failed' }],
    ['no entry', { entry: formatProof(log) }, { event: 'not_checked', inclusion: 'failed' }],
    [
      'an entry that is none',
      { entry: formatProof({ ...log, extra: formatExtra({ entry: Buffer.from('x'), opening: undefined }) }) },
      { event: 'not_checked', inclusion: 'failed' },
    ],
    ['another index', { entry: formatProof({ ...log, extra, index: 4n }) }, { inclusion: 'failed' }],
    ['another path', { entry: cut(good.entry, firstHash, zero) }, { inclusion: 'failed' }],
    [
      'another size',
      { entry: cut(good.entry, '\n9\n', '\n8\n') },
      { inclusion: 'failed', log_signature: 'failed', meta_inclusion: 'failed' },
    ],
    [
      'no proof at all',
      { entry: Buffer.from('noise') },
      {
        event: 'not_checked',
        inclusion: 'failed',
        log_signature: 'not_checked',
        meta_inclusion: 'not_checked',
        meta_signature: 'not_checked',
        quorum: 'not_checked',
      },
    ],
    ['a log that nobody knows', {}, { log_signature: 'failed' }, policyText(TWO, [meta.vkey])],
    [
      'a log of the same name with another key',
      {},
      { log_signature: 'failed' },
      policyText(TWO, [formatVkey(tenant.origin, thief.key.publicKey), meta.vkey]),
    ],
    ['a meta log that nobody knows', {}, { meta_signature: 'failed' }, policyText(TWO, [tenant.vkey])],
    ['a meta log that another key signed', { meta: metaFile(metaOfThief) }, { meta_signature: 'failed' }],
    ['a meta log that has another checkpoint there', { meta: metaFile(metaOfAnother) }, { meta_inclusion: 'failed' }],
    ['another place in the meta log', { meta: cut(good.meta, 'index 1', 'index 0') }, { meta_inclusion: 'failed' }],
    [
      'a meta log that cannot be read',
      { meta: Buffer.from('noise') },
      { meta_inclusion: 'failed', meta_signature: 'not_checked', quorum: 'not_witnessed' },
    ],
    [
      'cosignatures of another checkpoint',
      { meta: cut(good.meta, '\n3\n', '\n5\n') },
      { meta_inclusion: 'failed', meta_signature: 'failed', quorum: 'failed' },
    ],
  ];
  const complete = cases.map(
    ([name, changes, notOk, policy]) => [name, changes, notOk, policy ?? policyText(TWO)] as const,
  );
  it.each(complete)('are not good with %s', (_name, changes, notOk, policy) => {
    expect(check(changes, policy)).toMatchObject({ notOk, isGood: false });
    expect(Object.keys(check(changes, policy).notOk).sort()).toEqual(Object.keys(notOk).sort());
  });

  it.each([['noise'], ['[]'], ['{}'], ['{"entry":"?"}'], ['{"entry":"AA==","salt":"AA==","content_type":"t"}']])(
    'bring along what was written for them, and not %s',
    (text) => {
      expect(parseExtra(Buffer.from(text))).toBeUndefined();
      expect(parseExtra(extra)).toEqual({ entry: entries[5], opening: { salt, contentType: CONTENT_TYPE } });
    },
  );

  it('of one of two histories that a log shows is not witnessed, whatever its keys signed (split view)', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'edict-split-view-'));
    const opened = await openWitnessFolder({ folder, name: 'witness.example/w9', origins: [meta.origin] });
    try {
      const { addCheckpoint } = createWitness({
        ...opened,
        logs: new Map([[meta.origin, [parseVkey(meta.vkey)]]]),
        nowS: () => 1_767_225_600,
      });
      const policy = policyOf(
        `log ${tenant.vkey}\nlog ${meta.vkey}\nwitness w9 ${formatWitnessVkey(opened.witness.name, opened.witness.publicKey)}\nquorum w9\n`,
      );
      // Both are signed with the log's own keys, and have the same sizes.
      const show = async (last: Uint8Array) => {
        const shown = await logOf([...entries.slice(0, 8), last].map(leafHash), 5, tenant);
        const above = await metaOver(shown.checkpoint);
        const answer = addCheckpoint(formatAddCheckpoint({ oldSize: 0n, proof: [], checkpoint: above.checkpoint }));
        const again = addCheckpoint(formatAddCheckpoint({ oldSize: 3n, proof: [], checkpoint: above.checkpoint }));
        const line = Buffer.from(answer.status === 200 ? answer.line : '', 'utf8');
        const checkpoint = Buffer.concat([above.checkpoint, line]);
        const files = { entry: formatProof({ ...shown, extra }), meta: formatProof({ ...above, checkpoint }), event };
        return { statuses: [answer.status, again.status], ...verifyProof(files, policy) };
      };
      const first = await show(entryAt(8n));
      expect(first).toMatchObject({ statuses: [200, 200], isGood: true });
      const second = await show(entryAt(8n, Buffer.from('another')));
      expect(second).toMatchObject({ statuses: [409, 422], isGood: false });
      const notOk = PROOF_VERDICTS.filter((name) => second.verdicts[name].status !== 'ok');
      expect(notOk).toEqual(['quorum']);
      expect(second.verdicts.quorum.status).toBe('not_witnessed');
    } finally {
      await opened.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('of two histories of one tenant are both good as leaves of one meta log: the limit of what witnesses see', async () => {
    const histories = await Promise.all(
      [entryAt(8n), entryAt(8n, Buffer.from('another'))].map((last) =>
        logOf([...entries.slice(0, 8), last].map(leafHash), 5, tenant),
      ),
    );
    const leaves = histories.map(({ checkpoint }) => metaLeafHash(metaEntry(checkpoint)));
    const made = await Promise.all(
      histories.map(async (shown, n) => ({ shown, above: await logOf(leaves, n, meta, meta.origin) })),
    );
    for (const { shown, above } of made)
      expect(check({ entry: formatProof({ ...shown, extra }), meta: metaFile(above) })).toMatchObject({
        notOk: {},
        isGood: true,
      });
    // Who has both files has two notes of the log's key, of one size and of two roots.
    const [one, other] = histories.map(({ checkpoint }) => openCheckpoint(checkpoint, parseVkey(tenant.vkey))!);
    expect(one!.size).toBe(other!.size);
    expect(one!.root).not.toEqual(other!.root);
  });

  it('are good for torchwood too, each with the policy of its log', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'edict-verify-proof-'));
    const file = (name: string, content: string | Buffer): string => {
      writeFileSync(path.join(folder, name), content);
      return path.join(folder, name);
    };
    try {
      const forLog = [
        file('log.policy', policyText('quorum none', [tenant.vkey])),
        file('entry', entries[5]!),
      ] as const;
      expect(await verifyWithTorchwood(...forLog, file('p', good.entry))).toMatchObject({ code: 0 });
      const noted = file('note', metaEntry(log.checkpoint));
      const forMeta = file('meta.policy', policyText(TWO, [meta.vkey]));
      expect(await verifyWithTorchwood(forMeta, noted, file('m', good.meta))).toMatchObject({ code: 0 });
      const lonely = file('lonely', metaFile(metaLog, 1));
      expect(await verifyWithTorchwood(forMeta, noted, lonely)).toMatchObject({ code: 1 });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
