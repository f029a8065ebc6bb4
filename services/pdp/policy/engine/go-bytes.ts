import { isUtf8 } from 'node:buffer';

const sequenceLength = (lead: number): number => {
  if (lead < 0x80) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
};

/** Bytes as text; each byte that is no UTF-8 becomes U+FFFD, as Go reads it (WHATWG's decoder merges some). */
export const goText = (bytes: Buffer): string => {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let out = '';
  for (let at = 0; at < bytes.length;) {
    const sequence = bytes.subarray(at, at + sequenceLength(bytes[at] ?? 0));
    if (isUtf8(sequence)) {
      out += sequence.toString('utf8');
      at += sequence.length;
    } else {
      out += '\ufffd';
      at += 1;
    }
  }
  return out;
};
