import { fail, type Reader } from './wasm-reader.ts';

/** What follows an opcode. */
type Immediates = 'none' | 'one' | 'two' | 'f32' | 'f64' | 'types';

const OPCODES: readonly (Immediates | undefined)[] = (() => {
  const table = Array.from<Immediates | undefined>({ length: 256 });
  const set = (from: number, to: number, what: Immediates): void => {
    for (let code = from; code <= to; code += 1) table[code] = what;
  };
  // unreachable, nop; block, loop, if with a type; else; end; br, br_if; return; call; call_indirect.
  set(0x00, 0x01, 'none');
  set(0x02, 0x04, 'one');
  set(0x05, 0x05, 'none');
  set(0x0b, 0x0b, 'none');
  set(0x0c, 0x0d, 'one');
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

/** A loop, with those inside it, that calls nothing and takes no memory: nobody else takes from the counter meanwhile. */
export interface QuietLoop {
  /** Its own instruction, and what follows its end. */
  readonly from: number;
  readonly to: number;
  /** Where its passes, and those of the loops in it, begin. */
  readonly starts: readonly number[];
  /** Instructions that may leave it, or end everything. */
  readonly exits: readonly number[];
}

export interface FunctionCode {
  /** The function itself first, then its loops in the order in which they begin. */
  readonly regions: readonly Region[];
  /** The outermost of them, in their order. */
  readonly quietLoops: readonly QuietLoop[];
  /** Where it asks for more memory. */
  readonly grows: readonly number[];
  /** How many local variables it declares, its parameters not counted. */
  readonly locals: number;
}

const UNREACHABLE = 0x00;
const BLOCK = 0x02;
const LOOP = 0x03;
const IF = 0x04;
const END = 0x0b;
const BR = 0x0c;
const BR_IF = 0x0d;
const BR_TABLE = 0x0e;
const RETURN = 0x0f;
const CALL = 0x10;
const CALL_INDIRECT = 0x11;
const MEMORY_GROW = 0x40;

/** A jump, and how many blocks are open around what it goes to, that one included; 0: the function. */
interface Jump {
  readonly at: number;
  readonly depth: number;
}

interface OpenLoop {
  /** Its own instruction. */
  readonly from: number;
  /** How many blocks are open around its inside, itself included. */
  readonly depth: number;
  /** How many quiet loops were found before it. */
  readonly before: number;
  isQuiet: boolean;
}

interface Open {
  /** What the block's end goes back to. */
  readonly outer: Region;
  readonly loop: OpenLoop | undefined;
}

interface Span {
  readonly from: number;
  readonly to: number;
  readonly depth: number;
}

/** Spans, jumps and starts in the order in which they stand; no span is in another. One look at each. */
const quietLoopsOf = (
  spans: readonly Span[],
  jumps: readonly Jump[],
  regions: readonly Region[],
): readonly QuietLoop[] => {
  let jump = 0;
  let region = 1;
  return spans.map(({ from, to, depth }) => {
    const starts: number[] = [];
    const exits: number[] = [];
    for (let next = regions[region]; next !== undefined && next.start <= to; next = regions[(region += 1)])
      if (next.start > from) starts.push(next.start);
    for (let next = jumps[jump]; next !== undefined && next.at < to; next = jumps[(jump += 1)])
      if (next.at > from && next.depth < depth) exits.push(next.at);
    return { from, to, starts, exits };
  });
};

/** Goes on behind the local variables of a function's body, to its instructions, and gives their number. */
export const skipLocals = (body: Reader): number => {
  let locals = 0;
  for (let groups = body.u32(); groups > 0; groups -= 1) {
    locals += body.u32();
    body.skip(1);
  }
  return locals;
};

/** The outermost of the labels of a jump. */
const outermostLabel = (opcode: number, code: Reader): number => {
  if (opcode !== BR_TABLE) return code.u32();
  let outermost = 0;
  for (let left = code.u32() + 1; left > 0; left -= 1) outermost = Math.max(outermost, code.u32());
  return outermost;
};

/** Goes on behind an instruction and gives its opcode. Throws `MeterError`. */
export const skipInstruction = (body: Reader): number => {
  const opcode = body.byte();
  if (opcode === EXTENDED) skipExtended(body);
  else if (opcode === BR_TABLE) outermostLabel(opcode, body);
  else skipImmediates(body, OPCODES[opcode] ?? fail(`instruction 0x${opcode.toString(16)} is not known`));
  return opcode;
};

/** Walks through a function's body. Throws `MeterError`. */
export const functionCode = (body: Reader): FunctionCode => {
  const locals = skipLocals(body);
  const region = (): Region => ({ start: body.at, instructions: 0, indirect: 0, calls: [] });
  let current = region();
  const regions = [current];
  const open: Open[] = [];
  const loops: OpenLoop[] = [];
  const jumps: Jump[] = [];
  const grows: number[] = [];
  const quiet: Span[] = [];

  const close = (): void => {
    const ended = open.pop();
    if (ended === undefined) return;
    current = ended.outer;
    if (ended.loop === undefined) return;
    loops.pop();
    const { from, depth, before, isQuiet } = ended.loop;
    const around = loops.at(-1);
    if (!isQuiet) {
      if (around !== undefined) around.isQuiet = false;
      return;
    }
    quiet.length = before;
    quiet.push({ from, to: body.at, depth });
  };

  while (body.at < body.end) {
    const { at } = body;
    const opcode = body.byte();
    current.instructions += 1;
    if (opcode === EXTENDED) skipExtended(body);
    else if (opcode === CALL) current.calls.push(body.u32());
    else if (opcode === BR || opcode === BR_IF || opcode === BR_TABLE)
      jumps.push({ at, depth: open.length - outermostLabel(opcode, body) });
    else skipImmediates(body, OPCODES[opcode] ?? fail(`instruction 0x${opcode.toString(16)} is not known`));
    if (opcode === CALL_INDIRECT) current.indirect += 1;
    if (opcode === UNREACHABLE || opcode === RETURN) jumps.push({ at, depth: 0 });
    if (opcode === MEMORY_GROW) grows.push(at);
    const around = loops.at(-1);
    if (around !== undefined && (opcode === CALL || opcode === CALL_INDIRECT || opcode === MEMORY_GROW))
      around.isQuiet = false;
    if (opcode === BLOCK || opcode === IF) open.push({ outer: current, loop: undefined });
    else if (opcode === LOOP) {
      const outer = current;
      current = region();
      regions.push(current);
      const loop = { from: at, depth: open.length + 1, before: quiet.length, isQuiet: true };
      loops.push(loop);
      open.push({ outer, loop });
    } else if (opcode === END) close();
  }
  return { regions, quietLoops: quietLoopsOf(quiet, jumps, regions), grows, locals };
};
