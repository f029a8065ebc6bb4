/*
 * WebAssembly cannot be interrupted from its own thread, so a module is rewritten once, before it is compiled: each
 * pass of a loop takes one unit of a counter, and a counter below zero traps. Loops are enough: Rego has no recursion,
 * and the runtime's own recursion is bounded by the depth of its input. Format: WebAssembly Core Specification, 5.
 */

/** Where the counter is exported. */
export const FUEL_EXPORT = 'edict_fuel';
/** What the module's own start function may use. */
const START_FUEL = 50_000_000;

/** The bytes are no module, or one with instructions that are not known here. */
export class MeterError extends Error {}

const HEADER = Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
const IMPORTS = 2;
const GLOBALS = 6;
const EXPORTS = 7;
const CODE = 10;
const I32 = 0x7f;
const LOOP = 0x03;
const KIND_GLOBAL = 3;

const fail = (message: string): never => {
  throw new MeterError(message);
};

const unsigned = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return bytes;
};

const signed = (value: number): number[] => {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7) {
    const byte = rest & 0x7f;
    const sign = (byte & 0x40) !== 0;
    if ((rest >> 7 === 0 && !sign) || (rest >> 7 === -1 && sign)) return [...bytes, byte];
    bytes.push(byte | 0x80);
  }
};

/** Reads a module's bytes. Throws `MeterError` at their end. */
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

  name(): void {
    this.skip(this.u32());
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

/** What follows an opcode. */
type Immediates = 'none' | 'one' | 'two' | 'byte' | 'f32' | 'f64' | 'labels' | 'types';

const OPCODES: readonly (Immediates | undefined)[] = (() => {
  const table = Array.from<Immediates | undefined>({ length: 256 });
  const set = (from: number, to: number, what: Immediates): void => {
    for (let code = from; code <= to; code += 1) table[code] = what;
  };
  // unreachable, nop; block, loop, if with a type; else; end; br, br_if; br_table; return; call; call_indirect.
  set(0x00, 0x01, 'none');
  set(0x02, 0x04, 'one');
  set(0x05, 0x05, 'none');
  set(0x0b, 0x0b, 'none');
  set(0x0c, 0x0d, 'one');
  set(0x0e, 0x0e, 'labels');
  set(0x0f, 0x0f, 'none');
  set(0x10, 0x10, 'one');
  set(0x11, 0x11, 'two');
  // drop, select; select with types; locals and globals; tables; loads and stores; memory.size, memory.grow.
  set(0x1a, 0x1b, 'none');
  set(0x1c, 0x1c, 'types');
  set(0x20, 0x24, 'one');
  set(0x25, 0x26, 'one');
  set(0x28, 0x3e, 'two');
  set(0x3f, 0x40, 'one');
  // Constants; all of comparison, arithmetic and conversion, sign extension among them.
  set(0x41, 0x42, 'one');
  set(0x43, 0x43, 'f32');
  set(0x44, 0x44, 'f64');
  set(0x45, 0xc4, 'none');
  // ref.null, ref.is_null, ref.func.
  set(0xd0, 0xd0, 'byte');
  set(0xd1, 0xd1, 'none');
  set(0xd2, 0xd2, 'one');
  return table;
})();

const EXTENDED = 0xfc;
/** Saturating truncation; memory.init, data.drop, memory.copy, memory.fill; the same of tables. */
const EXTENDED_IMMEDIATES = [0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1] as const;

const skipImmediates = (code: Reader, what: Immediates): void => {
  switch (what) {
    case 'none':
      return;
    case 'one':
      return code.leb();
    case 'two':
      code.leb();
      return code.leb();
    case 'byte':
      return code.skip(1);
    case 'f32':
      return code.skip(4);
    case 'f64':
      return code.skip(8);
    case 'labels':
      // The default label is one more than the count says.
      for (let left = code.u32() + 1; left > 0; left -= 1) code.leb();
      return;
    case 'types':
      return code.skip(code.u32());
    default:
      what satisfies never;
  }
};

const skipExtended = (code: Reader): void => {
  const opcode = code.u32();
  const count = EXTENDED_IMMEDIATES[opcode] ?? fail(`instruction 0xfc ${opcode} is not known`);
  for (let left: number = count; left > 0; left -= 1) code.leb();
};

/** Goes on behind the local variables of a function body, to its instructions. */
export const skipLocals = (body: Reader): void => {
  for (let groups = body.u32(); groups > 0; groups -= 1) {
    body.leb();
    body.skip(1);
  }
};

/** Goes on behind an instruction and gives its opcode. */
export const skipInstruction = (body: Reader): number => {
  const opcode = body.byte();
  if (opcode === EXTENDED) skipExtended(body);
  else skipImmediates(body, OPCODES[opcode] ?? fail(`instruction 0x${opcode.toString(16)} is not known`));
  return opcode;
};

/** Ends of the block types of all loops in a function body, where the charge goes in. */
const loopEntries = (body: Reader): readonly number[] => {
  skipLocals(body);
  const entries: number[] = [];
  while (body.at < body.end) if (skipInstruction(body) === LOOP) entries.push(body.at);
  return entries;
};

/** global − 1 → global; below zero: trap. */
const chargeOf = (fuel: number): Buffer => {
  const index = unsigned(fuel);
  const taken = [0x23, ...index, 0x41, 0x01, 0x6b, 0x24, ...index];
  return Buffer.from([...taken, 0x23, ...index, 0x41, 0x00, 0x48, 0x04, 0x40, 0x00, 0x0b]);
};

const importsOf = (section: Reader): { readonly globals: number; readonly memoryPages: number } => {
  let globals = 0;
  let memoryPages = 0;
  for (let left = section.u32(); left > 0; left -= 1) {
    section.name();
    section.name();
    const kind = section.byte();
    if (kind === 0) section.leb();
    else if (kind === 1) {
      section.skip(1);
      section.limits();
    } else if (kind === 2) memoryPages = section.limits();
    else if (kind === KIND_GLOBAL) {
      section.skip(2);
      globals += 1;
    } else fail('an import of a kind that is not known');
  }
  return { globals, memoryPages };
};

const section = (id: number, parts: readonly Uint8Array[]): Buffer => {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([Buffer.from([id, ...unsigned(length)]), ...parts]);
};

/** The section with one entry more at its end. */
const appended = (bytes: Uint8Array, id: number, content: Reader, entry: readonly number[]): Buffer => {
  const count = content.u32();
  const old = bytes.subarray(content.at, content.end);
  return section(id, [Buffer.from(unsigned(count + 1)), old, Buffer.from(entry)]);
};

const meteredCode = (bytes: Uint8Array, content: Reader, charge: Buffer): Buffer => {
  const count = content.u32();
  const parts: Uint8Array[] = [Buffer.from(unsigned(count))];
  for (let left = count; left > 0; left -= 1) {
    const body = content.part();
    const start = body.at;
    const entries = loopEntries(body);
    parts.push(Buffer.from(unsigned(body.end - start + entries.length * charge.length)));
    let from = start;
    for (const entry of entries) {
      parts.push(bytes.subarray(from, entry), charge);
      from = entry;
    }
    parts.push(bytes.subarray(from, body.end));
  }
  return section(CODE, parts);
};

export interface MeteredModule {
  readonly wasm: Uint8Array;
  /** The least memory that the module can be given, pages of 64 KiB. */
  readonly memoryPages: number;
}

/**
 * The module with a counter at each loop, exported as `FUEL_EXPORT` (a mutable i32): what the next loops may cost.
 * Throws `MeterError` when the bytes are no module or hold an instruction that is not known here: a loop might hide
 * behind it.
 */
export const meterModule = (wasm: Uint8Array): MeteredModule => {
  const bytes = Buffer.from(wasm.buffer, wasm.byteOffset, wasm.byteLength);
  if (!bytes.subarray(0, HEADER.length).equals(HEADER)) return fail('no WebAssembly module of version 1');
  const module = new Reader(bytes, HEADER.length, bytes.length);
  const parts: Uint8Array[] = [HEADER];
  const seen = new Set<number>();
  let globals = 0;
  let memoryPages = 0;
  while (module.at < module.end) {
    const start = module.at;
    const id = module.byte();
    const content = module.part();
    if (id !== 0 && seen.has(id)) fail(`section ${id} appears twice`);
    seen.add(id);
    const own = new Reader(bytes, content.at, content.end);
    if (id === IMPORTS) {
      const imports = importsOf(new Reader(bytes, content.at, content.end));
      ({ globals, memoryPages } = imports);
    }
    if (id === GLOBALS) {
      globals += new Reader(bytes, content.at, content.end).u32();
      parts.push(appended(bytes, id, own, [I32, 0x01, 0x41, ...signed(START_FUEL), 0x0b]));
    } else if (id === EXPORTS) {
      if (!seen.has(GLOBALS)) fail('the module has no globals');
      const name = [...Buffer.from(FUEL_EXPORT, 'latin1')];
      parts.push(appended(bytes, id, own, [...unsigned(name.length), ...name, KIND_GLOBAL, ...unsigned(globals)]));
    } else if (id === CODE) {
      if (!seen.has(EXPORTS)) fail('the module exports nothing');
      parts.push(meteredCode(bytes, own, chargeOf(globals)));
    } else parts.push(bytes.subarray(start, content.end));
  }
  if (!seen.has(CODE)) fail('the module has no code');
  return { wasm: Buffer.concat(parts), memoryPages };
};
