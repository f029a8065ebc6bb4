import { errorMessage } from '../../shared/contracts/errors.ts';
import {
  BLOCK_BYTES,
  END_BYTES,
  entriesMember,
  evidenceInvalid,
  MAX_MEMBER_BYTES,
  MEMBERS,
  paddingOf,
  tarHeader,
} from './evidence-format.ts';

export interface ReadMember {
  readonly name: string;
  readonly bytes: Buffer;
}

type Chunks = AsyncIterable<Uint8Array>;

/** Takes a stream apart. Holds what was asked for and one chunk. */
const createTaker = (chunks: Chunks) => {
  const source = chunks[Symbol.asyncIterator]();
  let rest: Uint8Array = new Uint8Array(0);
  /** Up to `bytes` of them: fewer at the end of the stream only. */
  const take = async (bytes: number): Promise<Buffer> => {
    const parts: Uint8Array[] = [];
    let missing = bytes;
    while (missing > 0) {
      if (rest.length === 0) {
        const { done, value } = await source.next();
        if (done === true) break;
        rest = value;
        continue;
      }
      const part = rest.subarray(0, missing);
      rest = rest.subarray(part.length);
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts);
  };
  return { take, stop: async () => void (await source.return?.()) };
};

const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

/** The names that may come next, `at` members being there. */
const expectedAt = (at: number): readonly string[] => {
  const first = [MEMBERS.readme, MEMBERS.about, MEMBERS.vkey, MEMBERS.checkpoint][at];
  return first === undefined ? [entriesMember(at - 3), MEMBERS.manifest] : [first];
};

/**
 * The members of an evidence bundle, one at a time in memory. Only the very archive that Edict writes is read: so there is
 * no name that leaves a folder, no link, no second member of a name, no size that lies. Throws `evidence_invalid` that
 * names the member.
 */
export const readEvidence = async function* (chunks: Chunks): AsyncGenerator<ReadMember> {
  const { take, stop } = createTaker(chunks);
  try {
    for (let at = 0, isLast = false; !isLast; at += 1) {
      const names = expectedAt(at);
      const [wanted = ''] = names;
      const header = await take(BLOCK_BYTES);
      if (header.length < BLOCK_BYTES) throw evidenceInvalid(wanted, 'the file ends before it');
      const size = /^[0-7]{11}\0$/.exec(header.toString('latin1', 124, 136))?.[0] ?? '';
      const bytes = Number.parseInt(size, 8);
      const name = names.find((each) => tarHeader(each, bytes || 0).equals(header));
      if (name === undefined) throw evidenceInvalid(wanted, 'another member, or another header, stands in its place');
      if (bytes > MAX_MEMBER_BYTES)
        throw evidenceInvalid(name, `has ${bytes} bytes; at most ${MAX_MEMBER_BYTES} are read`);
      const content = await take(bytes);
      const padding = await take(paddingOf(bytes));
      if (content.length < bytes || padding.length < paddingOf(bytes))
        throw evidenceInvalid(name, 'the file ends in the middle of it');
      if (!isZero(padding)) throw evidenceInvalid(name, 'bytes stand behind its end');
      yield { name, bytes: content };
      isLast = name === MEMBERS.manifest;
    }
    const end = await take(END_BYTES + 1);
    if (end.length !== END_BYTES || !isZero(end))
      throw evidenceInvalid(MEMBERS.manifest, 'two empty blocks do not end the file behind it');
  } finally {
    // Whatever the source says when it is stopped is no news of the bundle.
    await stop().catch(errorMessage);
  }
};

const NEWLINE = 0x0a;

/** The lines of a member, each with its end; throws `evidence_invalid` for a last one without. */
export const linesOf = function* ({ name, bytes }: ReadMember): Generator<Buffer> {
  if (bytes.length === 0 || bytes.at(-1) !== NEWLINE) throw evidenceInvalid(name, 'does not end with a line');
  for (let from = 0; from < bytes.length;) {
    const to = bytes.indexOf(NEWLINE, from);
    yield bytes.subarray(from, to);
    from = to + 1;
  }
};
