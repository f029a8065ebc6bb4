import type { InputReads } from '../../core/input-reads.ts';
import { Cursor, ModuleUnknown, readPolicyModule, unknownModule, type PolicyModule } from './policy-module.ts';

/*
 * Finds in the code of a policy module which members of the input it can depend on. Nothing is taken on trust from
 * whoever built the bundle, and no bundle needs to be built for it.
 *
 * OPA compiles a reference such as `input.subject.id` to calls of `opa_value_get(value, key)` whose keys are strings
 * of the module, and hands the input from one function to the next as an argument. So each function is walked with what
 * its parameters and locals may hold: nothing of the input, or certain parts of it. A part may be
 *
 * - kept in a local, dropped, tested for being there (`i32.eqz`, `br_if`, `if`),
 * - asked for the member of a constant name: another part,
 * - handed to a function of the policy, which is walked too.
 *
 * Anything else that happens to it (a call of the runtime or of the host, a load or store, arithmetic, a result, a
 * call through a table) counts as reading all of it. So does whatever cannot be told: an instruction that is not known
 * here or a module without names makes it the whole input. What a local may hold only grows, over all its assignments
 * and all calls of the function, until nothing changes any more.
 */

/** A part of the input, or what holds it. */
interface Part {
  readonly members: Map<string, Part>;
  readonly depth: number;
  isWhole: boolean;
}

/** Nothing of the input; a constant; parts of the input, any of them. */
type Held = undefined | number | ReadonlySet<Part>;

interface Frame {
  readonly height: number;
  readonly isDead: boolean;
}

const MAX_DEPTH = 16;
const MAX_PARTS = 1_024;
/** Instructions: some seconds' worth; no policy comes near. */
const MAX_STEPS = 50_000_000;
/** How long others may have to wait. */
const SLICE_MS = 4;
/** Functions of the policy: `g0.data.edict.decide`. All others are the runtime's. */
const POLICY_FUNCTION = /^g\d+\./;
const GET = 'opa_value_get';
const VOID = 0x40;
/** Where `eval`'s only argument has the input; the data, the result and the entrypoint follow (`opa_eval_ctx_t`). */
const INPUT_AT = 0;
const CONTEXT_OFFSETS: readonly number[] = [4, 8, 12];

const UNARY = 1;
const BINARY = 2;
/** How many operands an instruction without immediates takes, of those that give one result. */
const OPERANDS: readonly (number | undefined)[] = (() => {
  const table = Array.from<number | undefined>({ length: 256 });
  const set = (from: number, to: number, count: number): void => {
    for (let code = from; code <= to; code += 1) table[code] = count;
  };
  // Comparisons, without `i32.eqz`; bits and arithmetic; conversions.
  set(0x46, 0x4f, BINARY);
  set(0x50, 0x50, UNARY);
  set(0x51, 0x66, BINARY);
  set(0x67, 0x69, UNARY);
  set(0x6a, 0x78, BINARY);
  set(0x79, 0x7b, UNARY);
  set(0x7c, 0x8a, BINARY);
  set(0xa7, 0xc4, UNARY);
  return table;
})();

class ReadsFinder {
  readonly root: Part = { members: new Map(), depth: 0, isWhole: false };
  readonly #context: Part = { members: new Map(), depth: 0, isWhole: false };
  readonly #module: PolicyModule;
  readonly #get: number;
  /** What the locals of a function may hold, its parameters first. */
  readonly #locals = new Map<number, Set<Part>[]>();
  readonly #queue = new Set<number>();
  #parts = 0;
  #steps = 0;

  constructor(module: PolicyModule) {
    this.#module = module;
    const gets = [...module.names].filter(([, name]) => name === GET);
    const [get] = gets[0] ?? unknownModule(`no function is named ${GET}`);
    if (gets.length > 1 || module.functions[get]?.params !== 2) unknownModule(`${GET} is another function`);
    this.#get = get;
    const start = module.exported.get('eval') ?? unknownModule('no function is exported as eval');
    if (module.functions[start]?.params !== 1) unknownModule('eval is another function');
    this.#hand(start, [new Set([this.#context])]);
  }

  /** Walks one function; false: there is none left whose walk may find more. */
  step(): boolean {
    if (this.#queue.size === 0) return false;
    // A function comes after those that it calls, so most are walked when all that they are given is known.
    const index = Math.max(...this.#queue);
    this.#queue.delete(index);
    const locals = this.#locals.get(index);
    const body = this.#module.bodies.get(index);
    if (locals === undefined || body === undefined) return unknownModule('a function without a body');
    while (!this.root.isWhole && this.#walk(index, body, locals));
    return !this.root.isWhole;
  }

  /** All of it is read. */
  #read(held: Held): void {
    if (typeof held !== 'object') return;
    for (const part of held) {
      part.isWhole = true;
      if (part === this.#context) this.root.isWhole = true;
    }
  }

  #member(part: Part, name: string): Part {
    if (part.isWhole) return part;
    const known = part.members.get(name);
    if (known !== undefined) return known;
    this.#parts += 1;
    if (part.depth >= MAX_DEPTH || this.#parts > MAX_PARTS) {
      part.isWhole = true;
      return part;
    }
    const member = { members: new Map(), depth: part.depth + 1, isWhole: false };
    part.members.set(name, member);
    return member;
  }

  #memberOf(held: Held, key: Held): Held {
    this.#read(key);
    if (typeof held !== 'object') return undefined;
    const name = typeof key === 'number' ? this.#module.textAt(key) : undefined;
    // The module reads a text that is not well-formed as one with this character.
    if (name === undefined || name.includes('\ufffd') || held.has(this.#context)) {
      this.#read(held);
      return undefined;
    }
    return new Set([...held].map((part) => this.#member(part, name)));
  }

  #load(held: Held, offset: number): Held {
    if (typeof held !== 'object') return undefined;
    if (held.size > 1 || !held.has(this.#context)) {
      this.#read(held);
      return undefined;
    }
    if (offset === INPUT_AT) return new Set([this.root]);
    if (!CONTEXT_OFFSETS.includes(offset)) this.#read(held);
    return undefined;
  }

  #store(address: Held, value: Held): void {
    this.#read(value);
    if (typeof address === 'object' && (address.size > 1 || !address.has(this.#context))) this.#read(address);
  }

  /** Adds to what a local may hold; true when that is more now. */
  #assign(locals: Set<Part>[], index: number, held: Held): boolean {
    const local = locals[index] ?? unknownModule('a local that is not there');
    const before = local.size;
    if (typeof held === 'object') for (const part of held) local.add(part);
    return local.size > before;
  }

  /** A call of a function of the policy. */
  #hand(index: number, args: readonly Held[]): void {
    let locals = this.#locals.get(index);
    let grew = false;
    if (locals === undefined) {
      const body = this.#module.bodies.get(index) ?? unknownModule('a function without a body');
      const cursor = new Cursor(body);
      let count = args.length;
      for (const group of cursor.vector(() => [cursor.u32(), cursor.byte()] as const)) count += group[0];
      if (count > body.length + args.length) unknownModule('more locals than code');
      locals = Array.from({ length: count }, () => new Set());
      this.#locals.set(index, locals);
      grew = true;
    }
    for (const [parameter, held] of args.entries()) if (this.#assign(locals, parameter, held)) grew = true;
    if (grew) this.#queue.add(index);
  }

  #call(index: number, pop: () => Held): readonly Held[] {
    const { params, results } = this.#module.functions[index] ?? unknownModule('a function that is not there');
    const args = Array.from({ length: params }, pop).reverse();
    if (index === this.#get) return [this.#memberOf(args[0], args[1])];
    if (POLICY_FUNCTION.test(this.#module.names.get(index) ?? '')) this.#hand(index, args);
    else for (const held of args) this.#read(held);
    return Array.from({ length: results }, () => undefined);
  }

  /** True when a local may hold more than before. */
  #walk(index: number, body: Uint8Array, locals: Set<Part>[]): boolean {
    const code = new Cursor(body);
    for (let groups = code.u32(); groups > 0; groups -= 1) {
      code.u32();
      code.byte();
    }
    const stack: Held[] = [];
    const frames: Frame[] = [{ height: 0, isDead: false }];
    const results = this.#module.functions[index]?.results ?? 0;
    let isDead = false;
    let grew = false;

    const frameOf = (depth: number): Frame => frames[frames.length - 1 - depth] ?? unknownModule('a wrong label');
    const pop = (): Held => {
      if (stack.length > frameOf(0).height) return stack.pop();
      return isDead ? undefined : unknownModule('a stack that is empty');
    };
    const assign = (at: number, held: Held): void => {
      if (this.#assign(locals, at, held)) grew = true;
    };
    const open = (): void => {
      if (code.byte() !== VOID) unknownModule('a block with a result');
      frames.push({ height: stack.length, isDead });
    };
    /** What a jump takes along is a result: blocks here have none of their own. */
    const jump = (depth: number): void => {
      frameOf(depth);
      if (depth === frames.length - 1 && results > 0) this.#read(stack.at(-1));
    };
    const giveResults = (): void => {
      for (let left = results; left > 0; left -= 1) this.#read(pop());
    };

    while (!code.isAtEnd) {
      this.#steps += 1;
      if (this.#steps > MAX_STEPS) unknownModule('too much code');
      const opcode = code.byte();
      switch (opcode) {
        case 0x00: // unreachable
          isDead = true;
          break;
        case 0x01: // nop
          break;
        case 0x04: // if
          pop();
          open();
          break;
        case 0x02: // block
        case 0x03: // loop
          open();
          break;
        case 0x05: // else
          stack.length = frameOf(0).height;
          ({ isDead } = frameOf(0));
          break;
        case 0x0b: {
          // end
          if (frames.length === 1) giveResults();
          const { height, isDead: wasDead } = frames.pop() ?? unknownModule('an end of nothing');
          stack.length = height;
          isDead = wasDead;
          break;
        }
        case 0x0c: // br
          jump(code.u32());
          isDead = true;
          break;
        case 0x0d: // br_if
          pop();
          jump(code.u32());
          break;
        case 0x0e: // br_table
          this.#read(pop());
          for (const label of code.vector(() => code.u32())) jump(label);
          jump(code.u32());
          isDead = true;
          break;
        case 0x0f: // return
          giveResults();
          isDead = true;
          break;
        case 0x10: // call
          stack.push(...this.#call(code.u32(), pop));
          break;
        case 0x11: {
          // call_indirect
          const { params, results: given } =
            this.#module.types[code.u32()] ?? unknownModule('a type that is not there');
          code.u32();
          for (let left = params + 1; left > 0; left -= 1) this.#read(pop());
          for (let left = given; left > 0; left -= 1) stack.push(undefined);
          break;
        }
        case 0x1a: // drop
          pop();
          break;
        case 0x1b: {
          // select
          pop();
          const parts = [pop(), pop()].flatMap((held) => (typeof held === 'object' ? [...held] : []));
          stack.push(parts.length === 0 ? undefined : new Set(parts));
          break;
        }
        case 0x20: {
          // local.get
          const parts = locals[code.u32()] ?? unknownModule('a local that is not there');
          stack.push(parts.size === 0 ? undefined : parts);
          break;
        }
        case 0x21: // local.set
          assign(code.u32(), pop());
          break;
        case 0x22: {
          // local.tee
          const held = pop();
          assign(code.u32(), held);
          stack.push(held);
          break;
        }
        case 0x23: // global.get
          code.u32();
          stack.push(undefined);
          break;
        case 0x24: // global.set
          code.u32();
          this.#read(pop());
          break;
        case 0x28: // i32.load
          code.u32();
          stack.push(this.#load(pop(), code.u32()));
          break;
        case 0x36: {
          // i32.store
          code.u32();
          code.u32();
          const value = pop();
          this.#store(pop(), value);
          break;
        }
        case 0x41: // i32.const
          stack.push(code.s32());
          break;
        case 0x42: // i64.const
          code.skipNumber();
          stack.push(undefined);
          break;
        case 0x44: // f64.const
          code.take(8);
          stack.push(undefined);
          break;
        case 0x45: // i32.eqz: whether it is there
          pop();
          stack.push(undefined);
          break;
        default: {
          const isLoad = opcode > 0x28 && opcode <= 0x35;
          const isStore = opcode > 0x36 && opcode <= 0x3e;
          const plain = OPERANDS[opcode];
          if (isLoad || isStore) {
            code.u32();
            code.u32();
          } else if (plain === undefined) unknownModule(`instruction 0x${opcode.toString(16)} is not known`);
          for (let left = isStore ? BINARY : (plain ?? UNARY); left > 0; left -= 1) this.#read(pop());
          if (!isStore) stack.push(undefined);
        }
      }
    }
    if (frames.length > 0) unknownModule('a function without an end');
    return grew;
  }
}

const readsOf = ({ isWhole, members }: Part): InputReads =>
  isWhole ? true : new Map([...members].map(([name, part]) => [name, readsOf(part)]));

/**
 * The members of the input on which a policy module's results can depend, over all its entrypoints; the whole input
 * where that cannot be told. Others get their turn while it looks.
 */
export const findInputReads = async (wasm: Uint8Array): Promise<InputReads> => {
  try {
    const finder = new ReadsFinder(readPolicyModule(wasm));
    let since = performance.now();
    while (finder.step()) {
      if (performance.now() - since < SLICE_MS) continue;
      await new Promise((resolve) => setImmediate(resolve));
      since = performance.now();
    }
    return readsOf(finder.root);
  } catch (cause) {
    if (cause instanceof ModuleUnknown) return true;
    throw cause;
  }
};
