import { judgeWitnessed } from '../../../services/audit/core/verify-witnessed.ts';
import { metaEntry, metaLeafHash } from '../../../services/audit/core/meta-log.ts';
import {
  formatVkey,
  generateSigningKey,
  parseVkey,
  type SigningKey,
  type VerifierKey,
} from '../../../services/shared/contracts/signatures.ts';
import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { formatWitnessVkey, parseWitnessVkey, signCosignature } from '../../../services/shared/tlog/cosignature.ts';
import { nodeHash } from '../../../services/shared/tlog/merkle.ts';
import { parsePolicy, type Policy } from '../../../services/shared/tlog/policy.ts';
import { parseNote } from '../../../services/shared/tlog/signed-note.ts';

const ORIGIN = 'test.example/acme/0/1';
const META = 'test.example/-/meta/1';
const NOW = 1_800_000_000;

const signed = (key: SigningKey, origin: string, size: bigint, root: Uint8Array): Buffer =>
  signCheckpoint({ origin, size, root }, key, parseVkey(formatVkey(origin, key.publicKey)));

describe('whether witnesses have seen a log', () => {
  const [log, meta, a, b, c] = Array.from({ length: 5 }, () => generateSigningKey().key) as [
    SigningKey,
    SigningKey,
    SigningKey,
    SigningKey,
    SigningKey,
  ];
  const vkeys = [a, b, c].map(({ publicKey }, n) => formatWitnessVkey(`w${n}.example`, publicKey));
  const policyOf = (quorum: string, metaKey = meta): Policy => {
    const lines = [
      `log ${formatVkey(META, metaKey.publicKey)}`,
      ...vkeys.map((vkey, n) => `witness w${n} ${vkey}`),
      'group two 2 w0 w1 w2',
      `quorum ${quorum}`,
    ];
    const policy = parsePolicy(Buffer.from(`${lines.join('\n')}\n`));
    if ('problem' in policy) throw new Error(policy.problem);
    return policy;
  };

  const note = signed(log, ORIGIN, 7n, Buffer.alloc(32, 7));
  const sibling = Buffer.alloc(32, 9);
  const root = nodeHash(sibling, metaLeafHash(metaEntry(note)));
  const metaNote = signed(meta, META, 2n, root);
  const cosigned = (times: readonly (number | undefined)[], of = metaNote, keys = [a, b, c]): string => {
    const { text } = parseNote(of)!;
    return of
      .toString('utf8')
      .concat(
        ...times.map((time, n) =>
          time === undefined ? '' : signCosignature(text, time, keys[n]!, parseWitnessVkey(vkeys[n]!)),
        ),
      );
  };
  const shown = (times: readonly (number | undefined)[], members: Readonly<Record<string, unknown>> = {}) => ({
    checkpoint: note.toString('utf8'),
    proof: null,
    meta: {
      log: META,
      checkpoint: cosigned(times),
      index: '1',
      tree_size: '2',
      hashes: [sibling.toString('base64')],
      ...members,
    },
  });
  const keyOf = (key: SigningKey): VerifierKey => parseVkey(formatVkey(ORIGIN, key.publicKey));
  const judge = (document: unknown, policy = policyOf('two'), key: VerifierKey | undefined = keyOf(log)) =>
    judgeWitnessed(policy, document, {
      origin: ORIGIN,
      nowS: NOW,
      maxAgeS: 900,
      ...(key === undefined ? {} : { key }),
    });

  it('they have when a quorum cosigned a meta checkpoint that has its checkpoint; its age is that of the quorum', () => {
    const { verdict, checkpoint } = judge(shown([NOW - 5, NOW - 60, NOW - 5_000]));
    expect(checkpoint).toMatchObject({ origin: ORIGIN, size: 7n });
    expect(verdict).toEqual({
      status: 'ok',
      note:
        'entries up to 6 are in a meta checkpoint that w0.example, w1.example, w2.example cosigned 60 s ago; whether the log ' +
        'went on after them, only a later checkpoint that somebody holds can show',
      size: '7',
      meta: { origin: META, size: '2' },
      cosignatures: [NOW - 5, NOW - 60, NOW - 5_000].map((time, n) => ({
        witness: `w${n}.example`,
        time: new Date(time * 1_000).toISOString(),
      })),
      witnessedAt: new Date((NOW - 60) * 1_000).toISOString(),
    });
  });

  it('says so when the policy asks for nobody: neither good nor bad', () => {
    expect(judge(shown([]), policyOf('none'))).toMatchObject({ verdict: { status: 'not_checked' } });
  });

  const stranger = generateSigningKey().key;

  it('the log’s own signature is checked with its key, given or in the policy; without one it says so', () => {
    const asked = { origin: ORIGIN, nowS: NOW, maxAgeS: 900 };
    const listing = (key: SigningKey): Policy => {
      const policy = policyOf('two');
      return { ...policy, logs: [...policy.logs, { key: keyOf(key) }] };
    };
    const document = shown([NOW, NOW]);
    const unsigned = { status: 'failed', note: expect.stringMatching(/key of test\.example\/acme\/0\/1/) as string };
    expect(judge(document, policyOf('two'), keyOf(stranger))).toEqual({ verdict: unsigned });
    expect(judgeWitnessed(listing(stranger), document, asked)).toEqual({ verdict: unsigned });
    const good = judgeWitnessed(listing(log), document, asked).verdict;
    expect(good).toMatchObject({ status: 'ok', note: expect.stringMatching(/ can show$/) as string });
    expect(judgeWitnessed(policyOf('two'), document, asked).verdict).toEqual({
      ...good,
      note: `${good.note}; the log’s own signature was not checked`,
    });
  });
  // Without the log's own line.
  const ofOther = cosigned([NOW, NOW], signed(meta, META, 3n, root))
    .split('\n')
    .slice(-3)
    .join('\n');
  const CASES: readonly (readonly [what: string, reason: RegExp, document: unknown, policy?: Policy])[] = [
    ['nothing covers the log', /no checkpoint of the meta log/, null],
    ['nobody cosigned', /no quorum, cosigned by nobody/, shown([])],
    ['too few cosigned', /no quorum, cosigned by w1\.example only/, shown([undefined, NOW])],
    [
      'a cosignature is of another key',
      /does not verify/,
      shown([NOW, NOW], { checkpoint: cosigned([NOW, NOW], metaNote, [a, stranger]) }),
    ],
    [
      'a cosignature is of another checkpoint',
      /does not verify/,
      shown([NOW], {
        checkpoint: `${metaNote.toString('utf8')}${ofOther}`,
      }),
    ],
    ['the quorum is too old', /quorum is 901 s old/, shown([NOW, NOW - 901, NOW - 902])],
    ['the quorum is of a time to come', /time to come/, shown([NOW + 400, NOW + 301])],
    ['the meta log’s key is not the policy’s', /no log of the policy/, shown([NOW, NOW]), policyOf('two', stranger)],
    ['the path is another', /does not lead/, shown([NOW, NOW], { hashes: [Buffer.alloc(32, 1).toString('base64')] })],
    ['the index is another', /does not lead/, shown([NOW, NOW], { index: '0' })],
    ['the proof is malformed', /malformed/, shown([NOW, NOW], { hashes: ['x'] })],
    ['the index is malformed', /malformed/, shown([NOW, NOW], { index: '01' })],
    [
      'it is another log’s',
      /no checkpoint of test\.example\/acme/,
      { ...shown([NOW, NOW]), checkpoint: signed(log, 'test.example/globex/0/1', 7n, root).toString('utf8') },
    ],
    [
      'it is of an empty log',
      /an empty log/,
      { ...shown([NOW, NOW]), checkpoint: signed(log, ORIGIN, 0n, root).toString('utf8') },
    ],
    [
      'the checkpoint is another',
      /does not lead/,
      { ...shown([NOW, NOW]), checkpoint: signed(log, ORIGIN, 8n, root).toString('utf8') },
    ],
  ];
  it.each(CASES.map(([what, reason, document, policy]) => ({ what, reason, document, policy })))(
    'they have not when $what',
    ({ what, reason, document, policy }) => {
      const { verdict, checkpoint, mayHeal } = judge(document, policy);
      expect(verdict).toMatchObject({ status: 'failed', note: expect.stringMatching(reason) as string });
      expect(verdict.note).toMatch(/^not witnessed: /);
      expect(checkpoint).toBeUndefined();
      // Cosignatures that are not there yet may come.
      const heals = ['nothing covers the log', 'nobody cosigned', 'too few cosigned', 'the quorum is too old'];
      expect(mayHeal === true).toBe(heals.includes(what));
    },
  );
});
