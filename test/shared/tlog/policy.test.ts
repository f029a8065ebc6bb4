import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { formatWitnessVkey, parseWitnessVkey, signCosignature } from '../../../services/shared/tlog/cosignature.ts';
import { MAX_POLICY_BYTES, parsePolicy, witnessed, type Policy } from '../../../services/shared/tlog/policy.ts';

const ORIGIN = 'audit.example.com/-/meta/1';
const { key: logKey } = generateSigningKey();
const logVkey = formatVkey(ORIGIN, logKey.publicKey);
const note = signCheckpoint(
  { origin: ORIGIN, size: 7n, root: Buffer.alloc(32, 5) },
  logKey,
  parseVkey(logVkey),
).toString('utf8');
const text = note.slice(0, note.indexOf('\n\n') + 1);
const names = ['X1', 'X2', 'X3', 'Y1', 'Y2', 'Y3'] as const;
const witnesses = new Map(
  names.map((name) => {
    const { key } = generateSigningKey();
    return [name, { key, vkey: formatWitnessVkey(`witness.example/${name}`, key.publicKey) }] as const;
  }),
);
const vkey = (name: (typeof names)[number]): string => witnesses.get(name)!.vkey;
const cosigned = (by: readonly (typeof names)[number][]): Buffer =>
  Buffer.from(
    note +
      by
        .map((name) => signCosignature(text, 1_767_225_600, witnesses.get(name)!.key, parseWitnessVkey(vkey(name))))
        .join(''),
  );
const parse = (file: string | Buffer): Policy => {
  const policy = parsePolicy(Buffer.from(file));
  if ('problem' in policy) throw new Error(policy.problem);
  return policy;
};
const definitions = names.map((name) => `witness ${name} ${vkey(name)}`).join('\n');

/** The example of the specification. */
const EXAMPLE = `
# an example
log ${logVkey}

${definitions.replace('\nwitness Y1', '\ngroup X-witnesses 2 X1 X2 X3\n\nwitness Y1')}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
`;

describe('a policy', () => {
  it('names logs, witnesses and where they are', () => {
    const policy = parse(
      `log\t${logVkey}  https://audit.example.com/log/-/meta/1\n  # a comment \n` +
        ` witness w ${vkey('X1')} https://witness.example/submit \n\t\nquorum w`,
    );
    expect(policy.logs.map(({ key, url }) => [key.name, url])).toEqual([
      [ORIGIN, 'https://audit.example.com/log/-/meta/1'],
    ]);
    expect(policy.witnesses.map(({ name, key, url }) => [name, key.name, url])).toEqual([
      ['w', 'witness.example/X1', 'https://witness.example/submit'],
    ]);
  });

  it.each([
    [[], false],
    [['X1', 'X2'], false],
    [['X1', 'Y1'], false],
    [['Y1', 'Y2', 'Y3', 'X3'], false],
    [['X1', 'X2', 'Y3'], true],
    [['X3', 'X2', 'Y1'], true],
    [['X1', 'X2', 'X3', 'Y1', 'Y2', 'Y3'], true],
  ] as const)('with two groups: %j reach its quorum: %s', (by, isReached) => {
    const found = witnessed(parse(EXAMPLE), cosigned(by));
    expect(found?.isQuorumReached).toBe(isReached);
    expect(found?.cosignatures.map(({ witness }) => witness.name).sort()).toEqual(
      by.map((name) => `witness.example/${name}`).sort(),
    );
  });

  it.each([
    ['one witness', 'quorum X1', ['X1'], true],
    ['another witness', 'quorum X1', ['X2', 'Y1'], false],
    ['nobody', 'quorum none', [], true],
    ['one of a group', 'group g 1 X1 X2\nquorum g', ['X2'], true],
    ['all of a group', 'group g all X1 X2\nquorum g', ['X2'], false],
  ] as const)('may ask for %s', (_name, lines, by, isReached) => {
    expect(witnessed(parse(`${definitions}\n${lines}\n`), cosigned(by))?.isQuorumReached).toBe(isReached);
  });

  it('does not count a witness twice that signed twice, nor believe a note with a bad cosignature', () => {
    const policy = parse(`${definitions}\ngroup g 2 X1 X2\nquorum g\n`);
    const once = cosigned(['X1']).toString();
    const line = once.slice(once.lastIndexOf('—'));
    expect(witnessed(policy, Buffer.from(once + line))?.isQuorumReached).toBe(false);
    const other = cosigned(['X2']).toString().replace('\n7\n', '\n8\n');
    expect(witnessed(policy, Buffer.from(other))).toBeUndefined();
  });

  it('takes names as octets, whatever they spell', () => {
    const file = Buffer.concat([
      Buffer.from('witness '),
      Buffer.from([0xff, 0x85, 0xa0]),
      Buffer.from(` ${vkey('X1')}\nwitness \u212a ${vkey('X2')}\nwitness K ${vkey('X3')}\nquorum `),
      Buffer.from([0xff, 0x85, 0xa0, 0x0a]),
    ]);
    expect(witnessed(parse(file), cosigned(['X1']))?.isQuorumReached).toBe(true);
    expect(witnessed(parse(file), cosigned(['X2']))?.isQuorumReached).toBe(false);
  });

  const w = `witness w ${witnesses.get('X1')!.vkey}`;
  const second = `witness v ${witnesses.get('X2')!.vkey}`;
  const end = '\nquorum w\n';
  it.each([
    ['no quorum', `${w}\n`, /^no line says/],
    ['nothing', '', /^no line says/],
    ['two quorums', `${w}${end}quorum none\n`, /^line 3: a second quorum/],
    ['a quorum that nobody is', 'quorum w\n', /^line 1: "w" is not defined above/],
    ['a quorum that is defined later', `quorum w\n${w}\n`, /^line 1: "w" is not defined above/],
    ['a quorum of two names', `${w}\n${second}\nquorum w v\n`, /^line 3: not a line/],
    ['an unknown word', `${w}\nLog ${logVkey}${end}`, /^line 2: not a line/],
    ['a comment behind a line', `${w} https://w.example # yes${end}`, /^line 1: not a line/],
    ['a log without a key', `log\n${w}${end}`, /^line 1: not a line/],
    ['a witness without a key', `witness w\nquorum w\n`, /^line 1: not a line/],
    ['a log with a witness’ key', `log ${vkey('X1')}\nquorum none\n`, /^line 1: the log's verifier key/],
    ['a witness with a log’s key', `witness w ${logVkey}${end}`, /^line 1: the witness's verifier key/],
    ['a key id that does not fit', `${w.replace(/\+[0-9a-f]{8}\+/, '+00000000+')}${end}`, /^line 1: .*key id/],
    ['a log twice', `log ${logVkey}\nlog ${logVkey}\nquorum none\n`, /^line 2: another log has the same public key/],
    ['a witness twice', `${w}\n${w.replace(' w ', ' v ')}${end}`, /^line 2: another witness has the same public key/],
    ['a name twice', `${w}\n${second.replace(' v ', ' w ')}${end}`, /^line 2: "w" is defined already/],
    ['a group with the name of a witness', `${w}\ngroup w any w${end}`, /^line 2: "w" is defined already/],
    ['a witness named none', `${w.replace(' w ', ' none ')}${end}`, /^line 1: "none" has a meaning/],
    ['a group named none', `${w}\ngroup none any w${end}`, /^line 2: "none" has a meaning/],
    ['an empty group', `${w}\ngroup g any${end}`, /^line 2: not a line/],
    ['a group of nobody', `${w}\ngroup g any v${end}`, /^line 2: "v" is not defined above/],
    ['a group of none', `${w}\ngroup g any none${end}`, /^line 2: "none" is not defined above/],
    ['a group with itself', `${w}\ngroup g any w g${end}`, /^line 2: "g" is not defined above/],
    ['a threshold of 0', `${w}\ngroup g 0 w${end}`, /^line 2: "0" is not any, all, or/],
    ['a threshold above the members', `${w}\ngroup g 2 w${end}`, /^line 2: "2" is not any, all, or/],
    ['a threshold in words', `${w}\ngroup g one w${end}`, /^line 2: "one" is not any, all, or/],
    ['a member twice', `${w}\ngroup g any w w${end}`, /^line 2: "w" is a member of a group already/],
    ['a member of two groups', `${w}\ngroup g any w\ngroup h any w${end}`, /^line 3: "w" is a member/],
    ['a carriage return', `${w}\r${end}`, /^line 1: a control character/],
    ['a control character in a comment', `# \u0007\n${w}${end}`, /^line 1: a control character/],
    ['more bytes than are read', '#'.repeat(MAX_POLICY_BYTES + 1), /^longer/],
    ['more witnesses than a note has room for', `${others(64)}quorum none\n`, /^line 64: more than 63 witnesses/],
    ['more names than are read', `${w}\n${groups(1_000)}quorum w\n`, /^line 1001: more than 1000/],
  ])('is refused with %s', (_name, file, problem) => {
    expect(parsePolicy(Buffer.from(file))).toEqual({ problem: expect.stringMatching(problem) });
  });
});

function others(count: number): string {
  const line = (n: number): string =>
    `witness o${n} ${formatWitnessVkey(`o${n}.example`, generateSigningKey().key.publicKey)}\n`;
  return Array.from({ length: count }, (_, n) => line(n)).join('');
}

/** Each with the one before as its member. */
function groups(count: number): string {
  return Array.from({ length: count }, (_, n) => `group g${n} any ${n === 0 ? 'w' : `g${n - 1}`}\n`).join('');
}
