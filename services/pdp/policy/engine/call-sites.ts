import { skipInstruction, skipLocals } from './wasm-code.ts';
import { MeterError, Reader } from './wasm-reader.ts';

const HEADER_BYTES = 8;
const CUSTOM = 0;
const IMPORTS = 2;
const CODE = 10;
const FUNCTION_NAMES = 1;
const CALL = 0x10;
const I32_CONST = 0x41;
/** The compiler pushes the number of the built-in, a context that is not used, and the arguments. */
const BEFORE_ARGUMENTS = 2;
const MOST_ARGUMENTS = 4;
/** `g0.` and the path of the rule or function; the number is another one where `with` replaces something. */
const PLANNED = /^g\d+\.(data\.[^\p{C}]{1,300})$/u;

const textOf = (bytes: Buffer, reader: Reader): string => {
  const length = reader.u32();
  const start = reader.at;
  reader.skip(length);
  return bytes.toString('utf8', start, start + length);
};

interface Imported {
  readonly functions: number;
  /** Numbers of arguments of the functions that call built-ins, by function index. */
  readonly dispatchers: ReadonlyMap<number, number>;
}

const importedOf = (bytes: Buffer, section: Reader): Imported => {
  const dispatchers = new Map<number, number>();
  let functions = 0;
  for (let left = section.u32(); left > 0; left -= 1) {
    section.name();
    const [, args] = /^opa_builtin([0-4])$/.exec(textOf(bytes, section)) ?? [];
    const kind = section.byte();
    if (kind === 0) {
      section.leb();
      if (args !== undefined) dispatchers.set(functions, Number(args));
      functions += 1;
    } else if (kind === 2) section.limits();
    else throw new MeterError('an import of a kind that OPA does not write');
  }
  return { functions, dispatchers };
};

/** What a custom section `name` calls the functions (WebAssembly Core Specification, appendix, Name Section). */
const readNames = (bytes: Buffer, section: Reader, names: Map<number, string>): void => {
  if (textOf(bytes, section) !== 'name') return;
  while (section.at < section.end) {
    const isFunctions = section.byte() === FUNCTION_NAMES;
    const part = section.part();
    for (let left = isFunctions ? part.u32() : 0; left > 0; left -= 1) {
      const index = part.u32();
      const [, path] = PLANNED.exec(textOf(bytes, part)) ?? [];
      if (path !== undefined) names.set(index, path);
    }
  }
};

/** Numbers of the built-ins that a function body calls. */
const calledIn = (bytes: Buffer, body: Reader, { dispatchers }: Imported): ReadonlySet<number> => {
  const called = new Set<number>();
  const last: { readonly opcode: number; readonly from: number; readonly to: number }[] = [];
  skipLocals(body);
  while (body.at < body.end) {
    const from = body.at + 1;
    const opcode = skipInstruction(body);
    if (opcode === CALL) {
      const args = dispatchers.get(new Reader(bytes, from, body.at).u32());
      const pushed = args === undefined ? undefined : last.at(-args - BEFORE_ARGUMENTS);
      // A constant is a signed LEB128; the compiler numbers built-ins from 0, so its sign adds nothing.
      if (pushed?.opcode === I32_CONST) called.add(new Reader(bytes, pushed.from, pushed.to).u32());
    }
    last.push({ opcode, from, to: body.at });
    if (last.length > MOST_ARGUMENTS + BEFORE_ARGUMENTS) last.shift();
  }
  return called;
};

/**
 * The rules and functions of a policy module that call each built-in of the host, as paths below `data`, sorted, by the
 * built-in's number. They are told by the module's name section; where it has none, nothing is known. `wasm` is a module
 * that could be metered.
 */
export const builtinCallers = (wasm: Uint8Array): ReadonlyMap<number, readonly string[]> => {
  const bytes = Buffer.from(wasm.buffer, wasm.byteOffset, wasm.byteLength);
  const names = new Map<number, string>();
  const calls: (readonly [index: number, called: ReadonlySet<number>])[] = [];
  try {
    const module = new Reader(bytes, HEADER_BYTES, bytes.length);
    let imported: Imported = { functions: 0, dispatchers: new Map() };
    while (module.at < module.end) {
      const id = module.byte();
      const section = module.part();
      if (id === CUSTOM) readNames(bytes, section, names);
      else if (id === IMPORTS) imported = importedOf(bytes, section);
      else if (id === CODE) {
        const count = section.u32();
        for (let at = 0; at < count; at += 1)
          calls.push([imported.functions + at, calledIn(bytes, section.part(), imported)]);
      }
    }
  } catch (cause) {
    if (!(cause instanceof MeterError)) throw cause;
    // Names that cannot be read name nothing.
  }
  const callers = new Map<number, Set<string>>();
  for (const [index, called] of calls) {
    const name = names.get(index);
    if (name === undefined) continue;
    for (const id of called) callers.set(id, (callers.get(id) ?? new Set()).add(name));
  }
  return new Map([...callers].map(([id, paths]) => [id, [...paths].sort()]));
};
