/*
 * WebAssembly cannot be interrupted from its own thread, so a module is rewritten once, before it is compiled: each
 * pass of a loop, and each call of a function that does much, takes units of a counter, and a counter below zero traps.
 * `charges.ts` says how many. Format: WebAssembly Core Specification, 5.
 */
import { chargesOf, type Charge, type ModuleShape } from './charges.ts';
import { functionCode, type FunctionCode } from './wasm-code.ts';
import { fail, Reader } from './wasm-reader.ts';

/** Where the counter is exported. */
export const FUEL_EXPORT = 'edict_fuel';
/** What the start function of a module may use: OPA’s puts its constants into memory, some units each. */
const START_FUEL = 5_000_000;

/** Memory that a unit pays for: 16 bytes. */
const BYTES_PER_UNIT_LOG2 = 4;
const ALLOCATOR = 'opa_malloc';
/** What asking for more memory costs, however little: some microseconds, and more the more there is. */
const GROW_UNITS = 4_096;
const GROW_UNITS_PER_PAGE_LOG2 = 3;
/** Loops of a whole module; each takes some memory while they are looked at. OPA's own runtime has some hundred. */
const MAX_LOOPS = 500_000;

const HEADER = Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);
const TYPES = 1;
const IMPORTS = 2;
const FUNCTIONS = 3;
const MEMORIES = 5;
const GLOBALS = 6;
const EXPORTS = 7;
const ELEMENTS = 9;
const CODE = 10;
const I32 = 0x7f;
const KIND_GLOBAL = 3;

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

/** A quiet loop's counter is a local variable, which is faster: it goes back to the global one where the loop is left. */
const restoreCode = (fuel: number, local: number): readonly number[] => [
  0x20,
  ...unsigned(local),
  0x24,
  ...unsigned(fuel),
];
const borrowCode = (fuel: number, local: number): readonly number[] => [
  0x23,
  ...unsigned(fuel),
  0x21,
  ...unsigned(local),
];

/** local − units → local; below zero: trap. */
const quietChargeCode = (fuel: number, local: number, { units }: Charge): readonly number[] => {
  const index = unsigned(local);
  const taken = [0x20, ...index, 0x41, ...signed(units), 0x6b, 0x22, ...index];
  return [...taken, 0x41, 0x00, 0x48, 0x04, 0x40, ...restoreCode(fuel, local), 0x00, 0x0b];
};

/** global − units → global; below zero: trap. */
const chargeCode = (fuel: number, { units, isSized = false }: Charge): readonly number[] => {
  const index = unsigned(fuel);
  // local.get 0, i32.const, i32.shr_u, i32.sub
  const sized = isSized ? [0x20, 0x00, 0x41, ...signed(BYTES_PER_UNIT_LOG2), 0x76, 0x6b] : [];
  const taken = [0x23, ...index, 0x41, ...signed(units), 0x6b, ...sized, 0x24, ...index];
  return [...taken, 0x23, ...index, 0x41, 0x00, 0x48, 0x04, 0x40, 0x00, 0x0b];
};

/** What asking for more memory takes from the counter: a fixed price, and one for each page that is there already. */
const growCode = (fuel: number): readonly number[] => {
  const index = unsigned(fuel);
  // memory.size, i32.const, i32.shl, i32.const, i32.add
  const price = [0x3f, 0x00, 0x41, ...signed(GROW_UNITS_PER_PAGE_LOG2), 0x74, 0x41, ...signed(GROW_UNITS), 0x6a];
  const taken = [0x23, ...index, ...price, 0x6b, 0x24, ...index];
  return [...taken, 0x23, ...index, 0x41, 0x00, 0x48, 0x04, 0x40, 0x00, 0x0b];
};

interface Imports {
  readonly functions: number;
  readonly globals: number;
  readonly memoryPages: number;
}

const importsOf = (section: Reader): Imports => {
  let functions = 0;
  let globals = 0;
  let memoryPages = 0;
  for (let left = section.u32(); left > 0; left -= 1) {
    section.name();
    section.name();
    const kind = section.byte();
    if (kind === 0) {
      section.leb();
      functions += 1;
    } else if (kind === 1) {
      section.skip(1);
      section.limits();
    } else if (kind === 2) memoryPages = section.limits();
    else if (kind === KIND_GLOBAL) {
      section.skip(2);
      globals += 1;
    } else fail('an import of a kind that is not known');
  }
  return { functions, globals, memoryPages };
};

/** The functions that a table may hold: of segments as OPA's compiler writes them, and of no other kind. */
const tableFunctions = (section: Reader): ReadonlySet<number> => {
  const found = new Set<number>();
  for (let left = section.u32(); left > 0; left -= 1) {
    if (section.u32() !== 0) fail('a segment of a table of a kind that is not known');
    // i32.const, an offset, end.
    if (section.byte() !== 0x41) fail('a segment of a table whose place is not a number');
    section.leb();
    if (section.byte() !== 0x0b) fail('a segment of a table whose place is not a number');
    for (let count = section.u32(); count > 0; count -= 1) found.add(section.u32());
  }
  return found;
};

const exportedFunction = (section: Reader, wanted: string): number | undefined => {
  for (let left = section.u32(); left > 0; left -= 1) {
    const name = section.name();
    const kind = section.byte();
    const index = section.u32();
    if (kind === 0 && name === wanted) return index;
  }
  return undefined;
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

/** How many parameters each type of function has. */
const typeParameters = (content: Reader): readonly number[] => {
  const counts: number[] = [];
  for (let left = content.u32(); left > 0; left -= 1) {
    if (content.byte() !== 0x60) fail('a type of a kind that is not known');
    const parameters = content.u32();
    content.skip(parameters);
    content.skip(content.u32());
    counts.push(parameters);
  }
  return counts;
};

const typesOfFunctions = (content: Reader): readonly number[] => {
  const types: number[] = [];
  for (let left = content.u32(); left > 0; left -= 1) types.push(content.u32());
  return types;
};

interface Insertion {
  readonly at: number;
  readonly code: readonly number[];
}

/** What is written into a function whose code calls nothing in some loops; `local` is a variable of its own. */
const insertionsOf = (
  { quietLoops, grows }: FunctionCode,
  charges: readonly Charge[],
  fuel: number,
  local: number,
): readonly Insertion[] => {
  const starts = new Set(quietLoops.flatMap((loop) => loop.starts));
  const restore = restoreCode(fuel, local);
  const around = quietLoops.flatMap(({ from, to, exits }): readonly Insertion[] => [
    { at: from, code: borrowCode(fuel, local) },
    ...exits.map((at) => ({ at, code: restore })),
    { at: to, code: restore },
  ]);
  const taken = charges.map((charge) => ({
    at: charge.at,
    code: starts.has(charge.at) ? quietChargeCode(fuel, local, charge) : chargeCode(fuel, charge),
  }));
  const grown = grows.map((at) => ({ at, code: growCode(fuel) }));
  // The function's own charge comes before all; where one loop ends and the next begins, the end comes first.
  return [...taken, ...around, ...grown].sort((a, b) => a.at - b.at);
};

const meteredBody = (
  bytes: Uint8Array,
  body: Reader,
  code: FunctionCode,
  charges: readonly Charge[],
  fuel: number,
  parameters: number,
): readonly Uint8Array[] => {
  const parts: Uint8Array[] = [];
  const [own] = code.regions;
  const first = own?.start ?? body.at;
  const groups = new Reader(bytes, body.at, body.end);
  const count = groups.u32();
  if (code.quietLoops.length === 0) parts.push(bytes.subarray(body.at, first));
  else parts.push(Buffer.from(unsigned(count + 1)), bytes.subarray(groups.at, first), Buffer.from([0x01, I32]));
  let from = first;
  for (const { at, code: inserted } of insertionsOf(code, charges, fuel, parameters + code.locals)) {
    parts.push(bytes.subarray(from, at), Buffer.from(inserted));
    from = at;
  }
  parts.push(bytes.subarray(from, body.end));
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return [Buffer.from(unsigned(length)), ...parts];
};

const meteredCode = (
  bytes: Uint8Array,
  content: Reader,
  shape: Omit<ModuleShape, 'functions'>,
  fuel: number,
  parameters: readonly number[],
): Buffer => {
  const bodies: Reader[] = [];
  for (let left = content.u32(); left > 0; left -= 1) bodies.push(content.part());
  let loops = 0;
  const codes = bodies.map((body) => {
    const code = functionCode(new Reader(bytes, body.at, body.end));
    loops += code.regions.length - 1;
    if (loops > MAX_LOOPS) fail(`more than ${MAX_LOOPS} loops`);
    return { body, code };
  });
  const charges = chargesOf({ ...shape, functions: codes.map(({ code }) => code.regions) });
  const metered = codes.flatMap(({ body, code }, index) =>
    meteredBody(bytes, body, code, charges[index] ?? [], fuel, parameters[index] ?? fail('a function has no type')),
  );
  return section(CODE, [Buffer.from(unsigned(bodies.length)), ...metered]);
};

export interface MeteredModule {
  readonly wasm: Uint8Array;
  /** The least memory that the module can be given, pages of 64 KiB. */
  readonly memoryPages: number;
}

/**
 * The module with a counter, exported as `FUEL_EXPORT` (a mutable i32): what it may go on to cost.
 * Throws `MeterError` when the bytes are no module or hold an instruction that is not known here: a loop might hide
 * behind it. Only of a module that was valid before does the counter stay what it is: another may name what is added.
 */
export const meterModule = (wasm: Uint8Array): MeteredModule => {
  const bytes = Buffer.from(wasm.buffer, wasm.byteOffset, wasm.byteLength);
  if (!bytes.subarray(0, HEADER.length).equals(HEADER)) return fail('no WebAssembly module of version 1');
  const module = new Reader(bytes, HEADER.length, bytes.length);
  const parts: Uint8Array[] = [HEADER];
  const seen = new Set<number>();
  let imported = 0;
  let globals = 0;
  let memoryPages = 0;
  let inTable: ReadonlySet<number> = new Set();
  let allocator: number | undefined;
  let types: readonly number[] = [];
  let parameters: readonly number[] = [];
  while (module.at < module.end) {
    const start = module.at;
    const id = module.byte();
    const content = module.part();
    if (id !== 0 && seen.has(id)) fail(`section ${id} appears twice`);
    seen.add(id);
    const own = new Reader(bytes, content.at, content.end);
    if (id === IMPORTS) {
      const imports = importsOf(new Reader(bytes, content.at, content.end));
      ({ functions: imported, globals, memoryPages } = imports);
    }
    if (id === TYPES) types = typeParameters(new Reader(bytes, content.at, content.end));
    if (id === FUNCTIONS)
      parameters = typesOfFunctions(new Reader(bytes, content.at, content.end)).map(
        (type) => types[type] ?? fail(`a function of type ${type}, which is not there`),
      );
    // OPA's modules get their memory from the host, which bounds it.
    if (id === MEMORIES) fail('the module brings a memory of its own');
    if (id === ELEMENTS) inTable = tableFunctions(new Reader(bytes, content.at, content.end));
    if (id === GLOBALS) {
      globals += new Reader(bytes, content.at, content.end).u32();
      parts.push(appended(bytes, id, own, [I32, 0x01, 0x41, ...signed(START_FUEL), 0x0b]));
    } else if (id === EXPORTS) {
      if (!seen.has(GLOBALS)) fail('the module has no globals');
      allocator = exportedFunction(new Reader(bytes, content.at, content.end), ALLOCATOR);
      const name = [...Buffer.from(FUEL_EXPORT, 'latin1')];
      parts.push(appended(bytes, id, own, [...unsigned(name.length), ...name, KIND_GLOBAL, ...unsigned(globals)]));
    } else if (id === CODE) {
      if (!seen.has(EXPORTS)) fail('the module exports nothing');
      parts.push(meteredCode(bytes, own, { imported, inTable, allocator }, globals, parameters));
    } else parts.push(bytes.subarray(start, content.end));
  }
  if (!seen.has(CODE)) fail('the module has no code');
  return { wasm: Buffer.concat(parts), memoryPages };
};
