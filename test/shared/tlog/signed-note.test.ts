import fc from 'fast-check';
import { openCheckpoint, signCheckpoint } from '../../../services/shared/tlog/checkpoint.ts';
import { openNote, parseNote, signNote } from '../../../services/shared/tlog/signed-note.ts';
import { formatVkey, generateSigningKey, parseVkey } from '../../../services/shared/contracts/signatures.ts';

/** The examples of the C2SP specification and of Go's package note. */
const EXAMPLES = [
  {
    vkey: 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k',
    text: 'This is an example message.\n',
    line: '— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n',
  },
  {
    vkey: 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW',
    text: "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
    line: '— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n',
  },
];
const ORIGIN = 'audit.example.com/acme/0/1';
const { key } = generateSigningKey();
const verifier = parseVkey(formatVkey(ORIGIN, key.publicKey));
const other = parseVkey(formatVkey(ORIGIN, generateSigningKey().key.publicKey));
const bytes = (text: string): Buffer => Buffer.from(text, 'utf8');

describe('signed notes', () => {
  it.each(EXAMPLES)('opens the published example of $vkey', ({ vkey, text, line }) => {
    expect(openNote(bytes(`${text}\n${line}`), parseVkey(vkey))).toBe(text);
  });

  it.each(EXAMPLES)('refuses it with any byte changed: $vkey', ({ vkey, text, line }) => {
    const note = bytes(`${text}\n${line}`);
    for (let at = 0; at < note.length; at += 1) {
      const altered = Buffer.from(note);
      altered[at] = (altered[at] ?? 0) ^ 1;
      expect(openNote(altered, parseVkey(vkey))).toBeUndefined();
    }
  });

  const note = signNote('text\n\nmore\n', key, verifier).toString();
  const line = note.slice(note.lastIndexOf('—'));

  it('parts text and signatures at the last empty line', () => {
    expect(openNote(bytes(note), verifier)).toBe('text\n\nmore\n');
  });

  it('ignores signatures of unknown keys, also with the same name, and wants one of the known', () => {
    const foreign = '— someone.example/log AAAAAAECAwQ=\n';
    const sameName = `— ${ORIGIN} AAAAAAECAwQ=\n`;
    expect(openNote(bytes(`${note}${foreign}${sameName}`), verifier)).toBe('text\n\nmore\n');
    expect(openNote(bytes(note), other)).toBeUndefined();
  });

  it('refuses a note when one signature that names the key is bad', () => {
    const bad = `— ${ORIGIN} ${Buffer.concat([verifier.keyId, Buffer.alloc(64)]).toString('base64')}\n`;
    expect(openNote(bytes(`${note}${bad}`), verifier)).toBeUndefined();
  });

  it.each([
    ['nothing', ''],
    ['no blank line', `text\n${line}`],
    ['no last newline', note.slice(0, -1)],
    ['a control character', note.replace('text', 'te\u0007xt')],
    ['a carriage return', note.replace('text\n', 'text\r\n')],
    ['a hyphen for the dash', note.replace('—', '-')],
    ['base64 in another spelling', note.replace(/=\n$/, '\n')],
    ['a signature without bytes behind the key id', `text\n\n— ${ORIGIN} AAAAAA==\n`],
    ['a name with a plus', `text\n\n— a+b AAAAAAECAwQ=\n`],
    ['more signatures than are read', `text\n\n${line.repeat(65)}`],
    ['more bytes than are read', `${'x'.repeat(65_536)}\n\n${line}`],
  ])('refuses %s', (_name, text) => {
    expect(parseNote(bytes(text))).toBeUndefined();
  });

  it('refuses bytes that are not UTF-8, and never throws', () => {
    expect(parseNote(Buffer.concat([Buffer.from([0xff]), bytes(note)]))).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => openNote(noise, verifier) === undefined),
      { numRuns: 500 },
    );
  });
});

describe('checkpoints', () => {
  const root = Buffer.alloc(32, 5);
  const signText = (text: string): Buffer => signNote(text, key, verifier);

  it('are read as they were signed, and signing again gives the same bytes', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 63n - 1n), fc.uint8Array({ minLength: 32, maxLength: 32 }), (size, hash) => {
        const note = signCheckpoint({ origin: ORIGIN, size, root: hash }, key, verifier);
        expect(openCheckpoint(note, verifier)).toEqual({ origin: ORIGIN, size, root: Buffer.from(hash) });
        expect(signCheckpoint({ origin: ORIGIN, size, root: hash }, key, verifier)).toEqual(note);
      }),
    );
  });

  it.each([
    ['another origin', `other.example/log\n1\n${root.toString('base64')}\n`],
    ['a size with a leading zero', `${ORIGIN}\n01\n${root.toString('base64')}\n`],
    ['a negative size', `${ORIGIN}\n-1\n${root.toString('base64')}\n`],
    ['a size that no database has', `${ORIGIN}\n9223372036854775808\n${root.toString('base64')}\n`],
    ['a root of another length', `${ORIGIN}\n1\n${root.subarray(1).toString('base64')}\n`],
    ['a root in another spelling', `${ORIGIN}\n1\n${root.toString('base64').replace('=', '')}\n`],
    ['an extension line', `${ORIGIN}\n1\n${root.toString('base64')}\nmore\n`],
    ['a line less', `${ORIGIN}\n1\n`],
    ['nothing', '\n'],
  ])('refuses a good signature over %s', (_name, text) => {
    expect(openNote(signText(text), verifier)).toBe(text);
    expect(openCheckpoint(signText(text), verifier)).toBeUndefined();
  });
});
