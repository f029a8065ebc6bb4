import fc from 'fast-check';
import {
  formatAddCheckpoint,
  MAX_ADD_CHECKPOINT_BYTES,
  parseAddCheckpoint,
  parseTreeSizeBody,
} from '../../../services/shared/tlog/add-checkpoint.ts';
import { MAX_NOTE_BYTES } from '../../../services/shared/tlog/signed-note.ts';

const HASH = `${Buffer.alloc(32, 3).toString('base64')}\n`;
const NOTE = 'example.com/log\n1\nroot\n\n— example.com/log c2ln\n';

describe('requests to a witness', () => {
  it('are read as they were written', () => {
    const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(
        fc.bigInt(0n, 2n ** 63n - 1n),
        fc.array(hash, { maxLength: 63 }),
        fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
        (oldSize, proof, checkpoint) => {
          const request = { oldSize, proof, checkpoint };
          expect(parseAddCheckpoint(formatAddCheckpoint(request))).toEqual(request);
        },
      ),
    );
  });

  it('may be as long as the longest one', () => {
    const proof = Array.from({ length: 63 }, () => Buffer.alloc(32));
    const bytes = formatAddCheckpoint({ oldSize: 2n ** 63n - 1n, proof, checkpoint: Buffer.alloc(MAX_NOTE_BYTES) });
    expect(bytes).toHaveLength(MAX_ADD_CHECKPOINT_BYTES);
    expect(parseAddCheckpoint(bytes)).toBeDefined();
    expect(parseAddCheckpoint(Buffer.concat([bytes, Buffer.alloc(1)]))).toBeUndefined();
    const longer = { oldSize: 0n, proof: [...proof, Buffer.alloc(32)], checkpoint: Buffer.alloc(1) };
    expect(() => formatAddCheckpoint(longer)).toThrow(RangeError);
  });

  it.each([
    ['nothing', ''],
    ['no old size', `\n${NOTE}`],
    ['another word', `size 1\n\n${NOTE}`],
    ['two spaces', `old  1\n\n${NOTE}`],
    ['a leading zero', `old 01\n\n${NOTE}`],
    ['a negative size', `old -1\n\n${NOTE}`],
    ['a size of 2^63', `old 9223372036854775808\n\n${NOTE}`],
    ['a carriage return', `old 1\r\n\n${NOTE}`],
    ['no empty line', `old 1\n${HASH}`],
    ['a hash of another length', `old 1\nAAAA\n\n${NOTE}`],
    ['a hash in another spelling', `old 1\n${HASH.replace('=', '')}\n${NOTE}`],
    ['more hashes than a tree has levels', `old 1\n${HASH.repeat(64)}\n${NOTE}`],
  ])('are refused with %s', (_name, body) => {
    expect(parseAddCheckpoint(Buffer.from(body))).toBeUndefined();
  });
});

it.each([
  ['20852014\n', 20_852_014n],
  ['0\n', 0n],
  ['1', undefined],
  ['01\n', undefined],
  ['\n', undefined],
  ['1\n1\n', undefined],
])('the size in the answer to a stale request: %j', (body, size) => {
  expect(parseTreeSizeBody(body)).toBe(size);
});
