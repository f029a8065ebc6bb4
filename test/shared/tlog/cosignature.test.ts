import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';
import { openCheckpoint, signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import {
  formatWitnessVkey,
  openCosignatures,
  parseWitnessVkey,
  signCosignature,
} from '../../../services/shared/tlog/cosignature.ts';
import { signNote } from '../../../services/shared/tlog/signed-note.ts';

const ORIGIN = 'audit.example.com/-/meta/1';
const { key: logKey } = generateSigningKey();
const log = parseVkey(formatVkey(ORIGIN, logKey.publicKey));
const note = signCheckpoint({ origin: ORIGIN, size: 7n, root: Buffer.alloc(32, 5) }, logKey, log).toString('utf8');
const text = note.slice(0, note.indexOf('\n\n') + 1);

const witnessOf = (name: string) => {
  const { key } = generateSigningKey();
  return { key, witness: parseWitnessVkey(formatWitnessVkey(name, key.publicKey)) };
};
const [one, two, unknown] = [witnessOf('w.example/1'), witnessOf('w.example/2'), witnessOf('w.example/1')];
const known = [one.witness, two.witness];
const sign = ({ key, witness }: typeof one, timeS: number, over = text): string =>
  signCosignature(over, timeS, key, witness);
const open = (...lines: readonly string[]) => openCosignatures(Buffer.from(`${note}${lines.join('')}`), known);

describe('cosignatures', () => {
  it('are opened with name, time and line; those of unknown keys and of the log are ignored', () => {
    const [a, b] = [sign(one, 1_767_225_600), sign(two, 1_767_225_700)];
    expect(open(a, sign(unknown, 5), b)).toEqual([
      { witness: one.witness, timeS: 1_767_225_600, line: a },
      { witness: two.witness, timeS: 1_767_225_700, line: b },
    ]);
    expect(open(sign(unknown, 5))).toEqual([]);
    expect(open()).toEqual([]);
  });

  it('leave the log’s own signature as it was', () => {
    expect(openCheckpoint(Buffer.from(`${note}${sign(one, 1)}`), log)?.size).toBe(7n);
  });

  it('count once a witness, with the newest time', () => {
    expect(open(sign(one, 10), sign(one, 30), sign(one, 20))?.map(({ timeS }) => timeS)).toEqual([30]);
  });

  it('cover extension lines', () => {
    const extended = `${text}more\n`;
    const line = sign(one, 9, extended);
    const signed = signNote(extended, logKey, log).toString('utf8');
    expect(openCosignatures(Buffer.from(`${signed}${line}`), known)).toHaveLength(1);
    expect(open(line)).toBeUndefined();
  });

  const bytesOf = (line: string): Buffer => Buffer.from(line.split(' ')[2] ?? '', 'base64');
  const lineOf = (bytes: Buffer): string => `— w.example/1 ${bytes.toString('base64')}\n`;
  it.each([
    ['over another checkpoint', sign(one, 9, text.replace('\n7\n', '\n8\n'))],
    ['with another time', lineOf(Buffer.from(bytesOf(sign(one, 9))).fill(1, 11, 12))],
    ['without its time', lineOf(Buffer.concat([one.witness.keyId, bytesOf(sign(one, 9)).subarray(12)]))],
    ['with a byte more', lineOf(Buffer.concat([bytesOf(sign(one, 9)), Buffer.alloc(1)]))],
    ['later than any date', sign(one, 8_640_000_000_001)],
  ])('of a known key refuse the note when one is bad: %s', (_name, line) => {
    expect(open(sign(two, 1), line)).toBeUndefined();
  });

  it('are made over checkpoints only', () => {
    expect(() => sign(one, 1, 'some text\n')).toThrow(TypeError);
    expect(openCosignatures(signNote('some text\n', logKey, log), known)).toBeUndefined();
    expect(openCosignatures(Buffer.from('noise'), known)).toBeUndefined();
  });
});

describe('a witness’ verifier key', () => {
  it('is none of a log, also with the same name and public key', () => {
    const asLog = formatVkey('w.example/1', one.key.publicKey);
    const asWitness = formatWitnessVkey('w.example/1', one.key.publicKey);
    expect(parseVkey(asLog).keyId).not.toEqual(parseWitnessVkey(asWitness).keyId);
    expect(() => parseWitnessVkey(asLog)).toThrow(/not an Ed25519 key of a witness/);
    expect(() => parseVkey(asWitness)).toThrow(/not an Ed25519 key/);
    expect(() => parseWitnessVkey(asWitness.replace('+', '+0'))).toThrow(/malformed/);
  });
});
