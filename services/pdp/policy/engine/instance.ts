import { OutOfFuel } from './builtin.ts';
import type { BuiltinCalls, ValueMemory } from './builtin-calls.ts';
import { createInputWriter } from './input-writer.ts';
import { FUEL_EXPORT } from './meter.ts';
import { fitTable } from './object-table.ts';
import { FEW, ORDER_CHAR, READ_TEXT_BYTE, READ_VALUE_BYTE, WRITE_BYTE } from './prices.ts';
import { createResultPrinter } from './result-text.ts';
import { INTERNED_STRING, STRING } from './value-layout.ts';
import { parseValue, printValue, textSize } from './value-text.ts';
import type { Value } from './value.ts';
import { wasmApi, type WasmMemory, type WasmModule } from './wasm.ts';

/** Thrown through the module by its `opa_abort`: a conflict, no memory left, ill-formed text. */
export class PolicyAbort extends Error {}

/** OPA's ABI 1.2 and later, as far as it is used (https://www.openpolicyagent.org/docs/wasm), and the counter. */
interface PolicyExports {
  opa_eval_ctx_new(): number;
  opa_eval_ctx_set_input(context: number, value: number): void;
  opa_eval_ctx_set_data(context: number, value: number): void;
  opa_eval_ctx_set_entrypoint(context: number, entrypoint: number): void;
  opa_eval_ctx_get_result(context: number): number;
  eval(context: number): number;
  opa_malloc(bytes: number): number;
  opa_free(address: number): void;
  opa_value_free(value: number): void;
  /** 0 when done. Every container on the path must be an object; those that are missing are made. */
  opa_value_add_path(data: number, path: number, value: number): number;
  opa_value_remove_path(data: number, path: number): number;
  opa_heap_blocks_stash(): void;
  opa_heap_blocks_restore(): void;
  opa_value_parse(address: number, bytes: number): number;
  opa_value_dump(value: number): number;
  opa_json_dump(value: number): number;
  opa_heap_ptr_get(): number;
  opa_heap_ptr_set(address: number): void;
  builtins(): number;
  entrypoints(): number;
  readonly opa_wasm_abi_version: { readonly value: number };
  readonly opa_wasm_abi_minor_version: { readonly value: number };
  readonly [FUEL_EXPORT]: { value: number };
}

export const NEEDED_EXPORTS = [
  'opa_eval_ctx_new',
  'opa_eval_ctx_set_input',
  'opa_eval_ctx_set_data',
  'opa_eval_ctx_set_entrypoint',
  'opa_eval_ctx_get_result',
  'eval',
  'opa_malloc',
  'opa_value_parse',
  'opa_value_dump',
  'opa_json_dump',
  'opa_heap_ptr_get',
  'opa_heap_ptr_set',
  'builtins',
  'entrypoints',
  'opa_wasm_abi_version',
  'opa_wasm_abi_minor_version',
] as const;

/** Of ABI 1.3: what changing the data in place needs. */
export const PATCH_EXPORTS = [
  'opa_free',
  'opa_value_free',
  'opa_value_add_path',
  'opa_value_remove_path',
  'opa_heap_blocks_stash',
  'opa_heap_blocks_restore',
] as const;

/** One change of the data: what stands at `path` from now on. */
export interface DataPatch {
  /** Names of members from the outermost on, at least one; whatever is there on the way is an object. */
  readonly path: readonly string[];
  /** JSON text; undefined: nothing stands there. */
  readonly json: string | undefined;
}

/** Where a string has its length and its text. */
const STRING_LENGTH_AT = 4;
const STRING_TEXT_AT = 8;
/** Most bytes of UTF-8 that one UTF-16 unit becomes. */
const BYTES_PER_UNIT = 3;
const MAX_FUEL = 0x7fffffff;
/** OPA's aborts name a place in the sources and what went wrong there. */
const MAX_ABORT_BYTES = 64 * 1024;
/** What is copied without a pause: a fifth of a millisecond. */
const STEP_BYTES = 256 * 1024;
/** What an instance has beside its code and data, unless its limit is nearer. */
export const ROOM_BYTES = 8 * 1024 * 1024;
/** What the allocator's addresses are multiples of. */
const HEAP_STEP_BYTES = 16;
/** What the allocator takes with it: its notes on a block, and the rest of a page. */
const ROOM_SPARE_BYTES = 128 * 1024;
/** What is added at least when values find no room. */
const MIN_MORE_BYTES = 1024 * 1024;
/** A size beyond the allocator's fixed ones (OPA, wasm/src/malloc.c). */
const VARYING_BYTES = 129;
/** What may be owed for arguments before it is taken; one call takes what little it has read at once. */
const MAX_OWED = 4_096;
/**
 * What reading an input may cost, beside the budget: a large request is no runaway, but keys that all fall into one
 * bucket of a hash table are.
 */
const READING_FUEL_PER_BYTE = 32;
const READING_FUEL = 4_096;

/** Whether a module keeps values as this host builds them is tried with all kinds of them, and tables that grew. */
const LAYOUT_PROBE = JSON.stringify({
  words: [null, true, false],
  numbers: [0, -1, 123_456_789, 1_234_567_890, 0.5, 1e21, -1.5e-7],
  texts: ['', 'a', 'ä€\u{1f600}', '\n"\\'],
  nested: { empty: {}, none: [], deep: [[{}]] },
  ...Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`key-${at}`, at])),
});

/** Shared by all instances: nothing of an evaluation is left in it for the next. */
const writer = createInputWriter();
const printResult = createResultPrinter();

/** What an instance is made of again: its memory with the data in it, up to the heap. */
export interface Image {
  readonly bytes: Uint8Array;
  /** The memory's size then; the module's allocator counts on it. */
  readonly memoryBytes: number;
  readonly data: number;
  readonly heap: number;
  /** Its values lie in memory as the host knows them: it may build and print them. */
  readonly isKnownLayout: boolean;
}

/** One instance of a policy module. After anything was thrown out of it, it must not be used again. */
export class PolicyInstance implements ValueMemory {
  readonly memory: WasmMemory;
  /** What the last evaluation might cost. */
  fuelLimit = 0;
  /** Of the arguments of the call that is going on. */
  bytesRead = 0;
  #owed = 0;
  readonly #exports: PolicyExports;
  #bytes: Buffer;
  #words: Int32Array;
  #data = 0;
  #heap = 0;
  readonly #maxBytes: number;
  #isKnownLayout = false;
  /** What reading the input took. */
  #readUnits = 0;

  /** `maxBytes`: what the memory may grow to. */
  constructor(module: WasmModule, memory: WasmMemory, calls: BuiltinCalls, maxBytes: number) {
    this.memory = memory;
    this.#maxBytes = maxBytes;
    const call = (id: number, ...addresses: readonly number[]): number => calls.call(this, id, addresses);
    const env = {
      memory,
      opa_abort: (address: number): never => {
        throw new PolicyAbort(this.#boundedTextAt(address, MAX_ABORT_BYTES) ?? 'for a reason that is too long');
      },
      opa_println: (): void => undefined,
      opa_builtin0: (id: number, _context: number) => call(id),
      opa_builtin1: (id: number, _context: number, a: number) => call(id, a),
      opa_builtin2: (id: number, _context: number, a: number, b: number) => call(id, a, b),
      opa_builtin3: (id: number, _context: number, a: number, b: number, c: number) => call(id, a, b, c),
      opa_builtin4: (id: number, _context: number, a: number, b: number, c: number, d: number) => call(id, a, b, c, d),
    };
    this.#bytes = Buffer.from(memory.buffer);
    this.#words = new Int32Array(memory.buffer);
    // That the exports are there was tested on the module.
    this.#exports = new wasmApi.Instance(module, { env }).exports as unknown as PolicyExports;
  }

  get abi(): readonly [major: number, minor: number] {
    return [this.#exports.opa_wasm_abi_version.value, this.#exports.opa_wasm_abi_minor_version.value];
  }

  get fuel(): number {
    return this.#exports[FUEL_EXPORT].value;
  }

  /** JSON text of the module's table of built-ins, or of entrypoints: names to numbers. */
  tableJson(which: 'builtins' | 'entrypoints'): string {
    return this.#textAt(this.#exports.opa_json_dump(this.#exports[which]()));
  }

  /** Reads the `data` document, JSON in UTF-8, and gives what further instances begin with. */
  readData(json: Uint8Array): Image {
    this.#exports[FUEL_EXPORT].value = MAX_FUEL;
    const address = this.#exports.opa_malloc(json.length);
    this.#memoryBytes().set(json, address);
    this.#data = this.#exports.opa_value_parse(address, json.length);
    this.#heap = this.#exports.opa_heap_ptr_get();
    this.#makeRoom();
    this.#isKnownLayout = this.#knowsLayout();
    return this.image();
  }

  /** Whether the module prints what the host built as it prints what it read itself. */
  #knowsLayout(): boolean {
    const policy = this.#exports;
    const at = policy.opa_malloc(LAYOUT_PROBE.length * BYTES_PER_UNIT);
    const length = this.#memoryBytes().write(LAYOUT_PROBE, at, 'utf8');
    const own = this.#textAt(policy.opa_json_dump(policy.opa_value_parse(at, length)));
    policy.opa_heap_ptr_set(at + length);
    const built = this.#build(at, length, true, MAX_FUEL);
    return built !== undefined && this.#textAt(policy.opa_json_dump(built)) === own;
  }

  /** Where evaluations begin to use memory: what lies below is code's own and the data. */
  get heap(): number {
    return this.#heap;
  }

  /** What further instances begin with. Nothing of an evaluation is in it. */
  image(): Image {
    this.#exports.opa_heap_ptr_set(this.#heap);
    const bytes = this.#memoryBytes();
    return {
      bytes: Uint8Array.prototype.slice.call(bytes, 0, this.#heap),
      memoryBytes: bytes.length,
      data: this.#data,
      heap: this.#heap,
      isKnownLayout: this.#isKnownLayout,
    };
  }

  /**
   * Takes over what another instance of the module read, a part at each step. The memory must be as large as that one's
   * was. `isUsed`: what an earlier instance left above it is wiped, too.
   */
  *restore({ bytes, data, heap, isKnownLayout }: Image, isUsed: boolean): Generator<void, void> {
    for (let at = 0; at < heap; at += STEP_BYTES) {
      this.#memoryBytes().set(bytes.subarray(at, at + STEP_BYTES), at);
      yield;
    }
    const end = isUsed ? this.#memoryBytes().length : heap;
    for (let at = heap; at < end; at += STEP_BYTES) {
      this.#memoryBytes().fill(0, at, Math.min(end, at + STEP_BYTES));
      yield;
    }
    this.#data = data;
    this.#heap = heap;
    this.#isKnownLayout = isKnownLayout;
  }

  /**
   * Changes the data in place, as the ABI prescribes: blocks of the data that became free are kept from evaluations
   * (`stash`), and given back for the next change (`restore`). In a known layout the tables are as large as in data that
   * was read anew. Throws when the module does not take it.
   */
  patch({ path, json }: DataPatch): void {
    const wasm = this.#exports;
    wasm[FUEL_EXPORT].value = MAX_FUEL;
    wasm.opa_heap_ptr_set(this.#heap);
    wasm.opa_heap_blocks_restore();
    const at = this.#parse(JSON.stringify(path));
    // What is replaced is removed first: that frees in bulk, while replacing looks for each block's place in a list.
    let code = wasm.opa_value_remove_path(this.#data, at);
    // Freed in bulk is free only when the next block of varying size is asked for.
    wasm.opa_free(wasm.opa_malloc(VARYING_BYTES));
    if (code === 0 && json !== undefined) code = wasm.opa_value_add_path(this.#data, at, this.#parse(json));
    wasm.opa_value_free(at);
    wasm.opa_heap_blocks_stash();
    this.#heap = wasm.opa_heap_ptr_get();
    this.#makeRoom();
    if (code !== 0) throw new PolicyAbort(`the module does not take a change of its data (${code})`);
    if (this.#isKnownLayout) fitTable(this.#memoryBytes(), this.#data, path.slice(0, -1));
  }

  /**
   * The text of the result set: JSON, or Rego, which tells sets from arrays; undefined when it is larger than
   * `resultMaxBytes`. Throws what ended the evaluation.
   */
  evaluate(
    entrypoint: number,
    input: string | Uint8Array,
    fuel: number,
    resultMaxBytes: number,
    format: 0 | 1,
  ): string | undefined {
    const units = input.length;
    let at = this.#heap;
    const most = typeof input === 'string' ? units * BYTES_PER_UNIT : units;
    this.fuelLimit = fuel;
    if (at + most > this.#memoryBytes().length) {
      at = this.#grow(at, most);
    }
    const bytes = this.#memoryBytes();
    let length = units;
    if (typeof input === 'string') length = bytes.write(input, at, 'utf8');
    else bytes.set(input, at);
    const policy = this.#exports;
    const counter = policy[FUEL_EXPORT];
    this.#owed = 0;
    const reading = READING_FUEL + length * READING_FUEL_PER_BYTE;
    this.fuelLimit = reading;
    const value = this.#readInput(at, length, typeof input === 'string', reading);
    // What was not needed for reading is no part of the budget.
    this.fuelLimit = Math.min(MAX_FUEL, this.#readUnits + fuel);
    counter.value = fuel;
    const context = policy.opa_eval_ctx_new();
    policy.opa_eval_ctx_set_input(context, value);
    policy.opa_eval_ctx_set_data(context, this.#data);
    policy.opa_eval_ctx_set_entrypoint(context, entrypoint);
    policy.eval(context);
    const result = policy.opa_eval_ctx_get_result(context);
    if (format === 0 && this.#isKnownLayout) {
      const bytesNow = this.#memoryBytes();
      const printed = printResult(bytesNow, this.#words, result);
      if (printed !== undefined) {
        this.spend(printed.units);
        return Buffer.byteLength(printed.text) > resultMaxBytes ? undefined : printed.text;
      }
    }
    const text = format === 0 ? policy.opa_json_dump(result) : policy.opa_value_dump(result);
    return this.#boundedTextAt(text, resultMaxBytes);
  }

  /**
   * Takes memory through the allocator, which would not learn of pages that are added from outside. Where there is none
   * the evaluation ends, and counts as all that it might have cost: reading up to here was work, too.
   */
  #grow(heap: number, bytes: number): number {
    const policy = this.#exports;
    policy.opa_heap_ptr_set(heap);
    policy[FUEL_EXPORT].value = MAX_FUEL;
    try {
      return policy.opa_malloc(bytes);
    } catch (cause) {
      policy[FUEL_EXPORT].value = 0;
      throw cause;
    }
  }

  /** The value of a text in memory, behind which all memory is free. Nothing of no text. */
  #readInput(at: number, length: number, isWellFormed: boolean, fuel: number): number {
    const built = length > 0 && this.#isKnownLayout ? this.#build(at, length, isWellFormed, fuel) : undefined;
    if (built !== undefined) return built;
    const policy = this.#exports;
    policy.opa_heap_ptr_set(at + length);
    policy[FUEL_EXPORT].value = fuel;
    const value = length === 0 ? 0 : policy.opa_value_parse(at, length);
    this.#readUnits = fuel - policy[FUEL_EXPORT].value;
    return value;
  }

  /** The same, built here; undefined: the module must read it. */
  #build(at: number, length: number, isWellFormed: boolean, fuel: number): number | undefined {
    const policy = this.#exports;
    const text = { at, length, isWellFormed };
    for (let more = MIN_MORE_BYTES; ; more *= 2) {
      const bytes = this.#memoryBytes();
      const failed = writer.write(bytes, this.#words, text, fuel);
      if (failed === 'left to the module') return undefined;
      if (failed === 'no room') {
        // It adds as much as it is asked for, whatever is free.
        const most = this.#maxBytes - bytes.length - HEAP_STEP_BYTES;
        this.#grow(bytes.length - 1, most > 0 ? Math.min(more, most) : more);
        continue;
      }
      if (failed === 'no fuel') {
        policy[FUEL_EXPORT].value = -1;
        throw new OutOfFuel();
      }
      this.#readUnits = writer.units;
      policy.opa_heap_ptr_set(writer.end);
      return writer.value;
    }
  }

  readonly spend = (units: number): void => {
    const counter = this.#exports[FUEL_EXPORT];
    const left = counter.value - Math.ceil(units) - this.#owed;
    this.#owed = 0;
    // Whoever catches this does not get on: what is below zero stays there.
    counter.value = Math.max(-1, left);
    if (left < 0) throw new OutOfFuel();
  };

  /** What is put in order takes more than reading it, the more the longer it is. */
  readonly #willOrder = (count: number, chars: number): void => {
    if (count > FEW) this.spend(chars * ORDER_CHAR * Math.ceil(Math.log2(count / FEW)));
  };

  #owe(bytes: number, perByte: number): void {
    this.bytesRead += bytes;
    this.#owed += bytes * perByte;
    if (this.#owed > MAX_OWED) this.spend(0);
  }

  read(address: number): Value {
    const bytes = this.#memoryBytes();
    const tag = bytes[address];
    if (tag !== STRING && tag !== INTERNED_STRING) {
      const dumped = this.#exports.opa_value_dump(address);
      const memory = this.#memoryBytes();
      const end = memory.indexOf(0, dumped);
      this.#owe(end - dumped, READ_VALUE_BYTE);
      return parseValue(memory.toString('utf8', dumped, end), this.#willOrder);
    }
    const length = bytes.readUInt32LE(address + STRING_LENGTH_AT);
    this.#owe(length, READ_TEXT_BYTE);
    const start = bytes.readUInt32LE(address + STRING_TEXT_AT);
    return bytes.toString('utf8', start, start + length);
  }

  write(value: Value): number {
    // Parts that values share are printed wherever they stand: what comes of that is known before.
    this.spend(textSize(value, this.fuel / WRITE_BYTE) * WRITE_BYTE);
    const text = printValue(value);
    const length = Buffer.byteLength(text, 'utf8');
    const address = this.#exports.opa_malloc(length);
    this.#memoryBytes().write(text, address, 'utf8');
    return this.#exports.opa_value_parse(address, length);
  }

  /**
   * What an evaluation commonly needs above the data: to make a large memory larger costs more than reading a small
   * input may. Through the allocator, which would not learn of pages that are added from outside.
   */
  #makeRoom(): void {
    const room = Math.min(ROOM_BYTES, this.#maxBytes - this.#heap - ROOM_SPARE_BYTES);
    const { length } = this.#memoryBytes();
    const missing = this.#heap + room - length;
    if (missing <= 0) return;
    this.#exports[FUEL_EXPORT].value = MAX_FUEL;
    // It adds as much as it is asked for, whatever is free before the end.
    this.#exports.opa_heap_ptr_set(length - HEAP_STEP_BYTES);
    this.#exports.opa_malloc(missing);
    this.#exports.opa_heap_ptr_set(this.#heap);
  }

  #parse(json: string): number {
    const length = Buffer.byteLength(json, 'utf8');
    const address = this.#exports.opa_malloc(length);
    this.#memoryBytes().write(json, address, 'utf8');
    const value = this.#exports.opa_value_parse(address, length);
    this.#exports.opa_free(address);
    if (value === 0) throw new PolicyAbort('the module does not read a value');
    return value;
  }

  /** The memory as it is now: growing makes another buffer. */
  #memoryBytes(): Buffer {
    const { buffer } = this.memory;
    if (this.#bytes.buffer !== buffer) {
      this.#bytes = Buffer.from(buffer);
      this.#words = new Int32Array(buffer);
    }
    return this.#bytes;
  }

  #boundedTextAt(address: number, maxBytes: number): string | undefined {
    const bytes = this.#memoryBytes();
    const end = bytes.indexOf(0, address);
    return end - address > maxBytes ? undefined : bytes.toString('utf8', address, end);
  }

  #textAt(address: number): string {
    const bytes = this.#memoryBytes();
    return bytes.toString('utf8', address, bytes.indexOf(0, address));
  }
}
