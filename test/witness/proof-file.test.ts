/** Proof files and policies of ours, judged by torchwood's own code. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { leafHash } from '../../services/audit/core/entry.ts';
import { generateSigningKey, parseVkey } from '../../services/shared/contracts/signatures.ts';
import { openCheckpoint } from '../../services/shared/tlog/checkpoint.ts';
import { formatWitnessVkey, parseWitnessVkey, signCosignature } from '../../services/shared/tlog/cosignature.ts';
import { parsePolicy, witnessed } from '../../services/shared/tlog/policy.ts';
import { formatProof } from '../../services/shared/tlog/proof-file.ts';
import { rootOfInclusion } from '../../services/shared/tlog/proofs.ts';
import { verifyWithTorchwood } from '../support/torchwood.ts';
import { createTestLog } from './test-log.ts';

const log = createTestLog('log.example/proofs');
const witnesses = ['w1', 'w2', 'w3'].map((name) => {
  const { key } = generateSigningKey();
  const vkey = formatWitnessVkey(`witness.example/${name}`, key.publicKey);
  return { name, vkey, sign: (text: string) => signCosignature(text, 1_767_225_600, key, parseWitnessVkey(vkey)) };
});
const lines = witnesses.map(({ name, vkey }) => `witness ${name} ${vkey}\n`).join('');
const policyFor = (rule: string): string => `log ${log.vkey}\n${lines}${rule}`;
const TWO = policyFor('group two 2 w1 w2 w3\nquorum two\n');

const cosigned = (count: number): Buffer => {
  const note = log.note(200).toString('utf8');
  const text = note.slice(0, note.indexOf('\n\n') + 1);
  return Buffer.from(
    note +
      witnesses
        .slice(0, count)
        .map(({ sign }) => sign(text))
        .join(''),
  );
};

describe('torchwood', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'edict-torchwood-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    ['finds a proof good that two of three witnesses cosigned', TWO, 2, 77, 77, true],
    ['finds it bad with one', TWO, 1, 77, 77, false],
    ['finds it bad for another entry', TWO, 2, 77, 78, false],
    ['wants none where the policy does', policyFor('quorum none\n'), 0, 0, 0, true],
  ] as const)('%s, and so do we', async (_name, policy, count, index, entry, isGood) => {
    const file = (name: string, content: string | Buffer): string => {
      writeFileSync(path.join(folder, name), content);
      return path.join(folder, name);
    };
    const checkpoint = cosigned(count);
    const hashes = await log.inclusion(index, 200);
    const proof = formatProof({ extra: Buffer.from('more'), index: BigInt(index), hashes, checkpoint });
    const files = [file('policy', policy), file('entry', log.entry(entry)), file('proof', proof)] as const;
    expect(await verifyWithTorchwood(...files)).toMatchObject({ code: isGood ? 0 : 1 });
    const parsed = parsePolicy(Buffer.from(policy));
    if ('problem' in parsed) throw new Error(parsed.problem);
    const root = rootOfInclusion(leafHash(log.entry(entry)), BigInt(index), 200n, hashes);
    const signed = openCheckpoint(checkpoint, parseVkey(log.vkey));
    const isIncluded = root !== undefined && signed !== undefined && Buffer.from(signed.root).equals(root);
    expect(isIncluded && witnessed(parsed, checkpoint)?.isQuorumReached).toBe(isGood);
  });
});
