import fc from 'fast-check';
import { formatProof, MAX_PROOF_BYTES, parseProof } from '../../../services/shared/tlog/proof-file.ts';

const HASH = `${Buffer.alloc(32, 3).toString('base64')}\n`;
const HEAD = 'c2sp.org/tlog-proof@v1\n';
const NOTE = 'example.com/log\n9\nroot\n\n— example.com/log c2ln\n';
const buffers = (options: fc.IntArrayConstraints) => fc.uint8Array(options).map((bytes) => Buffer.from(bytes));

describe('proof files', () => {
  it('are read as they were written', () => {
    const proof = {
      index: fc.bigInt(0n, 2n ** 63n - 1n),
      hashes: fc.array(buffers({ minLength: 32, maxLength: 32 }), { maxLength: 63 }),
      checkpoint: buffers({ maxLength: 200 }),
    };
    const withExtra = fc.record({ ...proof, extra: buffers({ maxLength: 50 }) });
    fc.assert(fc.property(fc.record(proof), (made) => expect(parseProof(formatProof(made))).toEqual(made)));
    fc.assert(fc.property(withExtra, (made) => expect(parseProof(formatProof(made))).toEqual(made)));
  });

  it.each([
    ['another format', `c2sp.org/tlog-proof@v2\nindex 1\n\n${NOTE}`, /^line 1: /],
    ['no checkpoint', `${HEAD}index 1\n${HASH}`, /^no empty line/],
    ['extra data in another spelling', `${HEAD}extra AA\nindex 1\n\n${NOTE}`, /^line 2: the extra data/],
    ['extra data behind the index', `${HEAD}index 1\nextra AAAA\n\n${NOTE}`, /^line 3: not 32 bytes/],
    ['no index', `${HEAD}${HASH}\n${NOTE}`, /^line 2: not "index"/],
    ['an index with a leading zero', `${HEAD}index 01\n\n${NOTE}`, /^line 2: not "index"/],
    ['no index behind extra data', `${HEAD}extra AAAA\n${HASH}\n${NOTE}`, /^line 3: not "index"/],
    ['a hash of another length', `${HEAD}index 1\n${HASH}AAAA\n\n${NOTE}`, /^line 4: not 32 bytes/],
    ['more hashes than a tree has levels', `${HEAD}index 1\n${HASH.repeat(64)}\n${NOTE}`, /^line 66: more than 63/],
    ['carriage returns', `${HEAD}index 1\n\n${NOTE}`.replaceAll('\n', '\r\n'), /^line 1: /],
    ['more bytes than are read', `${HEAD}index 1\n\n${'x'.repeat(MAX_PROOF_BYTES)}`, /^longer/],
  ])('are refused with %s', (_name, file, problem) => {
    expect(parseProof(Buffer.from(file))).toEqual({ problem: expect.stringMatching(problem) });
  });
});
