/*
 * The parts of a policy module that tell what its code reads. Format: WebAssembly Core Specification, 5, and its
 * custom section `name`. Values: OPA, wasm/src/value.h.
 */

/** The bytes are nothing that OPA's compiler makes, as far as that is known here. */
export class ModuleUnknown extends Error {}

export const unknownModule = (message: string): never => {
  throw new ModuleUnknown(message);
};

export interface Signature {
  readonly params: number;
  readonly results: number;
}

export interface PolicyModule {
  /** By the index of a function type. */
  readonly types: readonly Signature[];
  /** By the index of a function, imported ones first. */
  readonly functions: readonly Signature[];
  /** The bodies of the functions that are not imported. */
  readonly bodies: ReadonlyMap<number, Uint8Array>;
  readonly names: ReadonlyMap<number, string>;
  /** Exported functions. */
  readonly exported: ReadonlyMap<string, number>;
  /** The text of a string value that is part of the module; undefined when there is none at the address. */
  readonly textAt: (address: number) => string | undefined;
}

/** Reads the binary format. Throws `ModuleUnknown` where the bytes end too early. */
export class Cursor {
  at = 0;
  readonly #bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.at >= this.#bytes.length;
  }

  byte(): number {
    const byte = this.#bytes[this.at] ?? unknownModule('it ends too early');
    this.at += 1;
    return byte;
  }

  /** An unsigned LEB128 of at most 32 bits. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return unknownModule('a number beyond 32 bits');
  }

  /** A signed LEB128 of at most 32 bits. */
  s32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return shift < 28 && (byte & 0x40) !== 0 ? value | (-1 << (shift + 7)) : value;
    }
    return unknownModule('a number beyond 32 bits');
  }

  /** Any LEB128 of at most 64 bits. */
  skipNumber(): void {
    for (let length = 1; length <= 10; length += 1) if (this.byte() < 0x80) return;
    unknownModule('a number beyond 64 bits');
  }

  take(length: number): Uint8Array {
    const start = this.at;
    if (length > this.#bytes.length - start) unknownModule('it ends too early');
    this.at += length;
    return this.#bytes.subarray(start, this.at);
  }

  text(): string {
    return Buffer.from(this.take(this.u32())).toString('utf8');
  }

  /** `count` of them, each read by `one`. */
  *vector<T>(one: (cursor: this) => T): Generator<T> {
    for (let left = this.u32(); left > 0; left -= 1) yield one(this);
  }
}

interface Segment {
  readonly start: number;
  readonly bytes: Uint8Array;
}

const SECTION = { custom: 0, types: 1, imports: 2, functions: 3, exports: 7, code: 10, data: 11 } as const;
const HEADER_BYTES = 8;
const FUNCTION = 0;
const FUNCTION_NAMES = 1;
/** Tags of values, and where their parts are. */
const STRING = 4;
const INTERNED_STRING = 8;
const STRING_BYTES = 12;
const LENGTH_AT = 4;
const TEXT_AT = 8;

const readType = (cursor: Cursor): Signature => {
  if (cursor.byte() !== 0x60) unknownModule('a type that is no function');
  return { params: cursor.take(cursor.u32()).length, results: cursor.take(cursor.u32()).length };
};

/** The type of an imported function; undefined for what is no function. */
const readImport = (cursor: Cursor): number | undefined => {
  cursor.text();
  cursor.text();
  const kind = cursor.byte();
  if (kind === FUNCTION) return cursor.u32();
  // A table has the type of its elements, a global its own and whether it changes.
  if (kind === 1 || kind === 3) cursor.byte();
  if (kind === 3) cursor.byte();
  else if (cursor.byte() === 0) cursor.u32();
  else {
    cursor.u32();
    cursor.u32();
  }
  return undefined;
};

const readSegment = (cursor: Cursor): Segment => {
  if (cursor.u32() !== 0 || cursor.byte() !== 0x41) unknownModule('data at no fixed place');
  const start = cursor.s32();
  if (cursor.byte() !== 0x0b) unknownModule('data at no fixed place');
  return { start, bytes: cursor.take(cursor.u32()) };
};

const readNames = (cursor: Cursor, names: Map<number, string>): void => {
  while (!cursor.isAtEnd) {
    const kind = cursor.byte();
    const part = new Cursor(cursor.take(cursor.u32()));
    if (kind !== FUNCTION_NAMES) continue;
    for (const [index, name] of part.vector(() => [part.u32(), part.text()] as const)) names.set(index, name);
  }
};

const textReader = (segments: readonly Segment[]): PolicyModule['textAt'] => {
  const bytesAt = (address: number, length: number): Buffer | undefined => {
    const found = segments.find(({ start, bytes }) => address >= start && address + length <= start + bytes.length);
    if (found === undefined) return undefined;
    const from = address - found.start;
    return Buffer.from(found.bytes.subarray(from, from + length));
  };
  return (address) => {
    const value = bytesAt(address, STRING_BYTES);
    if (value === undefined || (value[0] !== STRING && value[0] !== INTERNED_STRING)) return undefined;
    return bytesAt(value.readUInt32LE(TEXT_AT), value.readUInt32LE(LENGTH_AT))?.toString('utf8');
  };
};

/** Throws `ModuleUnknown`. */
export const readPolicyModule = (wasm: Uint8Array): PolicyModule => {
  const types: Signature[] = [];
  const functions: Signature[] = [];
  const bodies = new Map<number, Uint8Array>();
  const names = new Map<number, string>();
  const exported = new Map<string, number>();
  const segments: Segment[] = [];
  const typeOf = (index: number): Signature => types[index] ?? unknownModule('a type that is not there');
  const module = new Cursor(wasm);
  module.take(HEADER_BYTES);
  while (!module.isAtEnd) {
    const id = module.byte();
    const section = new Cursor(module.take(module.u32()));
    if (id === SECTION.types) types.push(...section.vector(readType));
    else if (id === SECTION.imports) {
      for (const type of section.vector(readImport)) if (type !== undefined) functions.push(typeOf(type));
    } else if (id === SECTION.functions) {
      for (const type of section.vector(() => section.u32())) functions.push(typeOf(type));
    } else if (id === SECTION.exports) {
      for (const [name, kind, index] of section.vector(() => [section.text(), section.byte(), section.u32()] as const))
        if (kind === FUNCTION) exported.set(name, index);
    } else if (id === SECTION.code) {
      const all = [...section.vector(() => section.take(section.u32()))];
      for (const [index, body] of all.entries()) bodies.set(functions.length - all.length + index, body);
    } else if (id === SECTION.data) segments.push(...section.vector(readSegment));
    else if (id === SECTION.custom && section.text() === 'name') readNames(section, names);
  }
  return { types, functions, bodies, names, exported, textAt: textReader(segments) };
};
