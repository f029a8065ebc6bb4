/** The bytes are no module, or one with instructions that are not known here. */
export class MeterError extends Error {}

export const fail = (message: string): never => {
  throw new MeterError(message);
};

/** Reads the binary format (WebAssembly Core Specification, 5). Throws `MeterError` where it ends too early. */
export class Reader {
  at: number;
  readonly end: number;
  readonly #bytes: Uint8Array;
  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.at = at;
    this.end = end;
  }

  byte(): number {
    if (this.at >= this.end) fail('the module ends too early');
    const byte = this.#bytes[this.at] ?? 0;
    this.at += 1;
    return byte;
  }

  skip(count: number): void {
    if (count > this.end - this.at) fail('the module ends too early');
    this.at += count;
  }

  /** An unsigned LEB128 of at most 32 bits. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value > 0xffffffff ? fail('a number beyond 32 bits') : value;
    }
    return fail('a number beyond 32 bits');
  }

  /** Any LEB128, signed or not, of at most 64 bits. */
  leb(): void {
    for (let length = 1; length <= 10; length += 1) if (this.byte() < 0x80) return;
    fail('a number beyond 64 bits');
  }

  /** UTF-8, but only ASCII is told apart from anything else. */
  name(): string {
    const length = this.u32();
    const start = this.at;
    this.skip(length);
    return Buffer.from(this.#bytes.subarray(start, this.at)).toString('latin1');
  }

  /** The lower limit. */
  limits(): number {
    const flags = this.byte();
    if (flags > 1) fail('limits of a kind that is not known');
    const minimum = this.u32();
    if (flags === 1) this.u32();
    return minimum;
  }

  /** A part with its length before it. */
  part(): Reader {
    const length = this.u32();
    const start = this.at;
    this.skip(length);
    return new Reader(this.#bytes, start, this.at);
  }
}
