import { fail, type Reader } from './wasm-reader.ts';

/** What follows an opcode. */
type Immediates = 'none' | 'one' | 'two' | 'f32' | 'f64' | 'labels' | 'types';

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
  // drop, select; select with types; locals and globals; loads and stores; memory.size, memory.grow.
  set(0x1a, 0x1b, 'none');
  set(0x1c, 0x1c, 'types');
  set(0x20, 0x24, 'one');
  set(0x28, 0x3e, 'two');
  set(0x3f, 0x40, 'one');
  // Constants; all of comparison, arithmetic and conversion, sign extension among them.
  set(0x41, 0x42, 'one');
  set(0x43, 0x43, 'f32');
  set(0x44, 0x44, 'f64');
  set(0x45, 0xc4, 'none');
  return table;
})();

const EXTENDED = 0xfc;
/**
 * Saturating truncation. What copies or fills memory takes time for which nobody was charged, and what changes tables
 * makes others than those known be called: OPA's compiler uses neither.
 */
const EXTENDED_KNOWN = 7;

const skipImmediates = (code: Reader, what: Immediates): void => {
  switch (what) {
    case 'none':
      return;
    case 'one':
      return code.leb();
    case 'two':
      code.leb();
      return code.leb();
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
  if (opcode > EXTENDED_KNOWN) fail(`instruction 0xfc ${opcode} is not known`);
};

/** A stretch of code that runs at most once for each charge: a function outside of its loops, or a loop's body. */
export interface Region {
  /** Where its charge goes in: the first instruction. */
  readonly start: number;
  instructions: number;
  /** Calls through a table. */
  indirect: number;
  /** Indexes of the functions that it calls, one for each place. */
  readonly calls: number[];
}

const BLOCK = 0x02;
const LOOP = 0x03;
const IF = 0x04;
const END = 0x0b;
const CALL = 0x10;
const CALL_INDIRECT = 0x11;

/** The function itself first, then its loops in the order in which they begin. Throws `MeterError`. */
export const regionsOf = (body: Reader): readonly Region[] => {
  for (let groups = body.u32(); groups > 0; groups -= 1) {
    body.leb();
    body.skip(1);
  }
  const region = (): Region => ({ start: body.at, instructions: 0, indirect: 0, calls: [] });
  let current = region();
  const regions = [current];
  /** What each open block goes back to. */
  const open: Region[] = [];
  while (body.at < body.end) {
    const opcode = body.byte();
    current.instructions += 1;
    if (opcode === EXTENDED) skipExtended(body);
    else if (opcode === CALL) current.calls.push(body.u32());
    else skipImmediates(body, OPCODES[opcode] ?? fail(`instruction 0x${opcode.toString(16)} is not known`));
    if (opcode === CALL_INDIRECT) current.indirect += 1;
    if (opcode === BLOCK || opcode === LOOP || opcode === IF) open.push(current);
    if (opcode === LOOP) {
      current = region();
      regions.push(current);
    } else if (opcode === END) current = open.pop() ?? current;
  }
  return regions;
};
