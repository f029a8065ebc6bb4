import { randomBytes } from 'node:crypto';
import { BuiltinError, type BuiltinContext, type Builtins } from './builtin.ts';
import { priceOf, type Price, type Spend } from './prices.ts';
import { parseValue, printValue } from './value-text.ts';
import type { Value } from './value.ts';

/** What a call needs of the instance that makes it; addresses are those of its memory. */
export interface ValueMemory {
  /** The value at an address. Charges for it, and counts it in `bytesRead`. */
  read(address: number): Value;
  /** Puts a value into memory and returns its address. Charges for it. */
  write(value: Value): number;
  bytesRead: number;
  readonly spend: Spend;
}

/** What the built-ins of one evaluation drew, by name and arguments; undefined when nothing. */
export type Drawn = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** One evaluation's side of its built-ins. */
export interface BuiltinCalls {
  /** A new evaluation begins: its clock, its memo, and what it need not draw. */
  begin(nowMs: number, given?: Drawn): void;
  /** An address, 0 for undefined. Throws what ends the evaluation. */
  call(memory: ValueMemory, id: number, addresses: readonly number[]): number;
  drawn(): Drawn | undefined;
}

/** Give the same value for the same arguments all through an evaluation. */
const DRAWING: ReadonlySet<string> = new Set(['rand.intn', 'uuid.rfc4122']);
/** The same; but their arguments are secrets, or their values would be no help to a replay, so nothing is kept. */
const MEMOIZED: ReadonlySet<string> = new Set([...DRAWING, 'io.jwt.encode_sign', 'io.jwt.encode_sign_raw']);
const NS_PER_MS = 1_000_000n;

/** `names` are those of the module, by their numbers in it; all must be in `table`. */
export const createBuiltinCalls = (names: ReadonlyMap<number, string>, table: Builtins): BuiltinCalls => {
  let nowMs = 0;
  let context: BuiltinContext | undefined;
  let memo: Map<string, Value | undefined> | undefined;
  const prices = new Map<number, Price>();
  const priceOfNumber = (id: number, name: string): Price => {
    const known = prices.get(id);
    if (known !== undefined) return known;
    const price = priceOf(name);
    prices.set(id, price);
    return price;
  };
  let spender: ValueMemory | undefined;
  const spend: Spend = (units) => spender?.spend(units);
  let drawn: Record<string, Record<string, string>> | undefined;
  let given: Drawn | undefined;

  const result = (name: string, args: readonly Value[]): Value | undefined => {
    const builtin = table[name];
    if (builtin === undefined) throw new TypeError(`no built-in ${name}`);
    context ??= { nowNs: BigInt(nowMs) * NS_PER_MS, randomBytes, spend };
    try {
      return builtin(context, ...args);
    } catch (error) {
      if (error instanceof BuiltinError) return undefined;
      throw error;
    }
  };

  const remembered = (name: string, args: readonly Value[]): Value | undefined => {
    const text = printValue(args);
    const key = `${name}\0${text}`;
    memo ??= new Map();
    if (memo.has(key)) return memo.get(key);
    const known = DRAWING.has(name) ? given?.[name]?.[text] : undefined;
    const value = known === undefined ? result(name, args) : parseValue(known);
    memo.set(key, value);
    if (value !== undefined && DRAWING.has(name)) {
      drawn ??= {};
      (drawn[name] ??= {})[text] = printValue(value);
    }
    return value;
  };

  return {
    begin(now, drawnBefore) {
      nowMs = now;
      given = drawnBefore;
      context = undefined;
      memo = undefined;
      drawn = undefined;
    },
    call(memory, id, addresses) {
      const name = names.get(id);
      if (name === undefined) throw new TypeError(`no built-in of number ${id}`);
      memory.bytesRead = 0;
      const args = addresses.map((address) => memory.read(address));
      const { call, byte } = priceOfNumber(id, name);
      memory.spend(call + byte * memory.bytesRead);
      spender = memory;
      const value = MEMOIZED.has(name) ? remembered(name, args) : result(name, args);
      return value === undefined ? 0 : memory.write(value);
    },
    drawn: () => drawn,
  };
};
