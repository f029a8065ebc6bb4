import { BuiltinError } from './builtin.ts';

/** Identifier octets of ASN.1 (X.690); `context` and `constructed` make the context-specific ones. */
export const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  t61String: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
  context: (number: number): number => 0x80 | number,
  constructed: (number: number): number => 0xa0 | number,
} as const;

export interface DerElement {
  readonly tag: number;
  /** The element with its header. */
  readonly whole: Buffer;
  readonly content: Buffer;
}

export interface BitString {
  readonly bytes: Buffer;
  /** Bits of the last byte that do not count. */
  readonly padding: number;
}

export const malformed = (what: string): never => {
  throw new BuiltinError(`malformed ${what}`);
};

/**
 * Reads DER from front to back, as strictly as Go's cryptobyte: minimal lengths and integers, single-octet tags, no
 * indefinite lengths. Every method throws `BuiltinError` on what is not the wanted element. Never recurses.
 */
export class Der {
  private rest: Buffer;
  constructor(bytes: Buffer) {
    this.rest = bytes;
  }

  get empty(): boolean {
    return this.rest.length === 0;
  }

  peek(tag: number): boolean {
    return this.rest[0] === tag;
  }

  element(): DerElement {
    const [tag, first] = this.rest;
    if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f) return malformed('DER element');
    let length = first;
    let header = 2;
    if (first >= 0x80) {
      const octets = first & 0x7f;
      if (octets === 0 || octets > 4 || this.rest.length < 2 + octets) return malformed('DER length');
      length = this.rest.readUIntBE(2, octets);
      header += octets;
      if (length < 0x80 || length < 2 ** (8 * (octets - 1))) return malformed('DER length');
    }
    if (header + length > this.rest.length) return malformed('DER length');
    const whole = this.rest.subarray(0, header + length);
    this.rest = this.rest.subarray(header + length);
    return { tag, whole, content: whole.subarray(header) };
  }

  read(tag: number): DerElement {
    return this.peek(tag) ? this.element() : malformed('DER element');
  }

  /** The content of the next element, when that has the tag. */
  optional(tag: number): Buffer | undefined {
    return this.peek(tag) ? this.element().content : undefined;
  }

  /** A reader of the content of the next element. */
  enter(tag: number): Der {
    return new Der(this.read(tag).content);
  }

  integer(tag: number = Tag.integer): bigint {
    return derInteger(this.read(tag).content);
  }

  /** An integer that fits 64 bits with its sign. */
  int64(tag: number = Tag.integer): bigint {
    const value = this.integer(tag);
    return BigInt.asIntN(64, value) === value ? value : malformed('integer');
  }

  boolean(): boolean {
    const { content } = this.read(Tag.boolean);
    if (content.length === 1 && (content[0] === 0 || content[0] === 0xff)) return content[0] === 0xff;
    return malformed('boolean');
  }

  oid(): readonly number[] {
    return derOid(this.read(Tag.oid).content);
  }

  bitString(): BitString {
    const { content } = this.read(Tag.bitString);
    const padding = content[0];
    const last = content.at(-1) ?? 0;
    if (padding === undefined || padding > 7) return malformed('bit string');
    if (padding > 0 && (content.length === 1 || (last & ((1 << padding) - 1)) !== 0)) return malformed('bit string');
    return { bytes: content.subarray(1), padding };
  }
}

const derInteger = (content: Buffer): bigint => {
  const [first, second] = content;
  if (first === undefined) return malformed('integer');
  if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)))
    return malformed('integer');
  // A number of megabytes would cost quadratic time wherever it is printed.
  if (content.length > 16 * 1024) return malformed('integer: too large');
  return BigInt.asIntN(8 * content.length, BigInt(`0x${content.toString('hex')}`));
};

/** The arcs of an object identifier; each fits 31 bits. */
const derOid = (content: Buffer): readonly number[] => {
  const arcs: number[] = [];
  let arc = 0;
  let octets = 0;
  for (const octet of content) {
    if ((octets === 0 && octet === 0x80) || octets === 5 || arc >= 2 ** 24) return malformed('object identifier');
    arc = arc * 128 + (octet & 0x7f);
    octets += 1;
    if (octet >= 0x80) continue;
    if (arcs.length > 0) arcs.push(arc);
    else if (arc < 80) arcs.push(Math.floor(arc / 40), arc % 40);
    else arcs.push(2, arc - 80);
    arc = 0;
    octets = 0;
  }
  return octets > 0 || arcs.length === 0 ? malformed('object identifier') : arcs;
};

/** The bits moved so that the padding comes first: a number. */
export const rightAlign = ({ bytes, padding }: BitString): Buffer => {
  if (padding === 0) return bytes;
  return Buffer.from(bytes.map((byte, index) => (byte >> padding) | ((bytes[index - 1] ?? 0) << (8 - padding))));
};

/** Bit `index` of a bit string, counted from its front; 0 beyond its end. */
export const bitAt = ({ bytes, padding }: BitString, index: number): boolean =>
  index < 8 * bytes.length - padding && (((bytes[index >> 3] ?? 0) >> (7 - (index & 7))) & 1) === 1;
