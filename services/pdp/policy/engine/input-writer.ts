/*
 * An input is read by the host: its values are built where the module expects them, as its own reader builds them, in
 * a third of the time. Layout of values: OPA, wasm/src/value.h. Nothing that OPA compiles frees a part of an input or
 * adds to it, so the parts have no heads for the allocator, and may be shared.
 */
import {
  BACKSLASH,
  CLOSE_ARRAY,
  CLOSE_OBJECT,
  COLON,
  COMMA,
  ESCAPED,
  KINDS,
  MINUS,
  OPEN_ARRAY,
  OPEN_OBJECT,
  PLAIN,
  QUOTE,
  ZERO,
  isDigit,
} from './json-bytes.ts';
import { bucketsFor } from './object-table.ts';
import {
  ARRAY,
  BOOLEAN,
  HASH_BEGIN,
  HASH_PRIME,
  INTEGER,
  NO_BYTES,
  NO_WORDS,
  NULL,
  OBJECT,
  REFERENCE,
  STRING,
  TRUE,
} from './value-layout.ts';

/** What reading costs: each byte of the text, each key held against another of its bucket and each 8 bytes of them. */
const BYTE_UNITS = 3;
const COMPARE_UNITS = 8;
const COMPARED_LOG2 = 3;

const SMALL_BYTES = 4;
const STRING_BYTES = 12;
const INT_BYTES = 16;
const REF_BYTES = 24;
const CONTAINER_BYTES = 16;
const ARRAY_ITEM_BYTES = 8;
const OBJECT_ITEM_BYTES = 12;
/** Digits of an integer that is surely one of 32 bits. */
const INT_DIGITS = 9;

/** The module reads what is deeper; this reader recurses. */
const MAX_DEPTH = 256;
/** Most of what one step writes beside the elements of a container. */
const STEP_BYTES = 64;

/** Why there is no value. */
export type NotWritten = 'left to the module' | 'no room' | 'no fuel';

/** A place in `memory`, where the text lies already. */
export interface InputText {
  readonly at: number;
  readonly length: number;
  /** It was made of a string, so it is well-formed UTF-8. */
  readonly isWellFormed: boolean;
}

/** What was read last. */
export interface InputWriter {
  /** Address of the value. */
  readonly value: number;
  /** Where the memory that it takes ends. */
  readonly end: number;
  /** What reading took, all of it at most what was given. */
  readonly units: number;
  /**
   * Reads JSON text and builds its value behind it. What is no JSON, is nested deeper than 256 or is odd (surrogates
   * that are no pair) is left to the module, which has its own ways with such text. The value points into the text.
   */
  readonly write: (memory: Uint8Array, words: Int32Array, text: InputText, units: number) => NotWritten | undefined;
}

/** Thrown by the reader only, and caught there. */
class Stop extends Error {
  readonly why: NotWritten;
  constructor(why: NotWritten) {
    super(why);
    this.why = why;
  }
}
const LEFT = new Stop('left to the module');
const NO_ROOM = new Stop('no room');
const NO_FUEL = new Stop('no fuel');
const doubled = (words: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> => {
  const larger = new Int32Array(words.length * 2);
  larger.set(words);
  return larger;
};

/** Reads inputs, one after the other. */
export const createInputWriter = (): InputWriter => {
  let bytes: Uint8Array = NO_BYTES;
  let words = NO_WORDS;
  let at = 0;
  let textEnd = 0;
  let isWellFormed = false;
  /** Where the next part goes, a multiple of 4. */
  let heap = 0;
  let room = 0;
  let left = 0;
  let nullAt = 0;
  let trueAt = 0;
  let falseAt = 0;
  /** Numbers of elements, shared by all arrays: their addresses. */
  let indexes = new Int32Array(64);
  let indexCount = 0;
  /** Elements of containers that are open. */
  let stack = new Int32Array(256);
  let top = 0;

  const reserve = (size: number): void => {
    if (heap + size > room) throw NO_ROOM;
  };
  const push = (part: number): void => {
    if (top === stack.length) stack = doubled(stack);
    stack[top++] = part;
  };

  const hexAt = (from: number): number => {
    if (from + 4 > textEnd) throw LEFT;
    let unit = 0;
    for (let digit = from; digit < from + 4; digit += 1) {
      const byte = bytes[digit] ?? 0;
      const low = byte | 0x20;
      if (isDigit(byte)) unit = unit * 16 + byte - ZERO;
      else if (low >= 0x61 && low <= 0x66) unit = unit * 16 + low - 0x57;
      else throw LEFT;
    }
    return unit;
  };

  const putCodePoint = (point: number): void => {
    if (point < 0x80) bytes[heap++] = point;
    else {
      if (point < 0x800) bytes[heap++] = 0xc0 | (point >> 6);
      else {
        if (point < 0x10000) bytes[heap++] = 0xe0 | (point >> 12);
        else {
          bytes[heap++] = 0xf0 | (point >> 18);
          bytes[heap++] = 0x80 | ((point >> 12) & 0x3f);
        }
        bytes[heap++] = 0x80 | ((point >> 6) & 0x3f);
      }
      bytes[heap++] = 0x80 | (point & 0x3f);
    }
  };

  /** A string with escapes, from its first character on: its text goes behind its head, and is shorter than it was. */
  const escapedString = (from: number): number => {
    const head = heap;
    let end = from;
    for (;;) {
      if (end >= textEnd) throw LEFT;
      const byte = bytes[end];
      if (byte === QUOTE) break;
      end += byte === BACKSLASH ? 2 : 1;
    }
    reserve(STEP_BYTES + end - from);
    heap += STRING_BYTES;
    for (let next = from; next < end;) {
      const byte = bytes[next] ?? 0;
      if (byte !== BACKSLASH) {
        if (byte < 0x20 || (byte > 0x7e && !isWellFormed)) throw LEFT;
        bytes[heap++] = byte;
        next += 1;
        continue;
      }
      const letter = bytes[next + 1] ?? 0;
      const meant = ESCAPED.get(letter);
      if (meant !== undefined) {
        bytes[heap++] = meant;
        next += 2;
      } else if (letter === 0x75) {
        const unit = hexAt(next + 2);
        next += 6;
        if (unit < 0xd800 || unit > 0xdfff) putCodePoint(unit);
        else {
          const isPair = unit < 0xdc00 && bytes[next] === BACKSLASH && bytes[next + 1] === 0x75;
          const low = isPair ? hexAt(next + 2) : 0;
          if (low < 0xdc00 || low > 0xdfff) throw LEFT;
          putCodePoint(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
          next += 6;
        }
      } else throw LEFT;
    }
    const length = heap - head - STRING_BYTES;
    heap = (heap + 3) & ~3;
    const word = head >> 2;
    words[word] = STRING;
    words[word + 1] = length;
    words[word + 2] = head + STRING_BYTES;
    at = end + 1;
    return head;
  };

  const hashOf = (start: number, length: number): number => {
    const text = bytes;
    let own = HASH_BEGIN;
    for (let next = start; next < start + length; next += 1) own = Math.imul(own, HASH_PRIME) ^ (text[next] ?? 0);
    return own;
  };

  /** `hash` is that of its text, of a key only. */
  let hash = 0;
  const string = (isKey: boolean): number => {
    const text = bytes;
    const start = at + 1;
    let next = start;
    // Behind the text stands a quote, so this ends.
    if (isKey) {
      let own = HASH_BEGIN;
      for (; ; next += 1) {
        const byte = text[next] ?? 0;
        if (KINDS[byte] !== PLAIN && (byte < 0x7f || !isWellFormed)) break;
        own = Math.imul(own, HASH_PRIME) ^ byte;
      }
      hash = own;
    } else
      for (; ; next += 1) {
        const byte = text[next] ?? 0;
        if (KINDS[byte] !== PLAIN && (byte < 0x7f || !isWellFormed)) break;
      }
    if (text[next] !== QUOTE || next >= textEnd) {
      if (text[next] !== BACKSLASH || next >= textEnd) throw LEFT;
      const head = escapedString(start);
      if (isKey) hash = hashOf(head + STRING_BYTES, words[(head >> 2) + 1] ?? 0);
      return head;
    }
    at = next + 1;
    const head = heap;
    if (head + STEP_BYTES > room) throw NO_ROOM;
    heap = head + STRING_BYTES;
    const word = head >> 2;
    words[word] = STRING;
    words[word + 1] = next - start;
    words[word + 2] = start;
    return head;
  };

  const integer = (value: number): number => {
    reserve(STEP_BYTES);
    const head = heap;
    heap = head + INT_BYTES;
    const word = head >> 2;
    words[word] = INTEGER;
    words[word + 2] = value;
    words[word + 3] = value >> 31;
    return head;
  };

  const digits = (from: number): number => {
    let next = from;
    while (next < textEnd && isDigit(bytes[next] ?? 0)) next += 1;
    if (next === from) throw LEFT;
    return next;
  };

  const number = (): number => {
    const start = at;
    const isNegative = bytes[start] === MINUS;
    const first = isNegative ? start + 1 : start;
    let value = 0;
    let next = first;
    for (; next < textEnd; next += 1) {
      const byte = bytes[next] ?? 0;
      if (!isDigit(byte)) break;
      if (next - first < INT_DIGITS) value = value * 10 + byte - ZERO;
    }
    const count = next - first;
    if (count === 0 || (bytes[first] === ZERO && count > 1)) throw LEFT;
    const behind = next < textEnd ? (bytes[next] ?? 0) : 0;
    if (behind !== 0x2e && behind !== 0x65 && behind !== 0x45 && count <= INT_DIGITS && !(isNegative && value === 0)) {
      at = next;
      return integer(isNegative ? -value : value);
    }
    if (behind === 0x2e) next = digits(next + 1);
    const exponent = next < textEnd ? (bytes[next] ?? 0) : 0;
    if (exponent === 0x65 || exponent === 0x45) {
      const sign = bytes[next + 1];
      next = digits(next + (sign === 0x2b || sign === MINUS ? 2 : 1));
    }
    at = next;
    reserve(STEP_BYTES);
    const head = heap;
    heap = head + REF_BYTES;
    const word = head >> 2;
    words[word] = REFERENCE;
    words[word + 2] = start;
    words[word + 3] = next - start;
    words[word + 4] = 0;
    return head;
  };

  const skip = (): number => {
    for (; at < textEnd; at += 1) {
      const byte = bytes[at] ?? 0;
      if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) return byte;
    }
    return 0;
  };

  const word = (expected: string, address: number): number => {
    for (let index = 0; index < expected.length; index += 1)
      if (at + index >= textEnd || bytes[at + index] !== expected.charCodeAt(index)) throw LEFT;
    at += expected.length;
    return address;
  };

  const array = (depth: number): number => {
    const base = top;
    at += 1;
    if (skip() === CLOSE_ARRAY) at += 1;
    else
      for (;;) {
        push(value(depth));
        const byte = skip();
        at += 1;
        if (byte === CLOSE_ARRAY) break;
        if (byte !== COMMA) throw LEFT;
      }
    const count = top - base;
    while (indexCount < count) {
      if (indexCount === indexes.length) indexes = doubled(indexes);
      indexes[indexCount] = integer(indexCount);
      indexCount += 1;
    }
    reserve(STEP_BYTES + count * ARRAY_ITEM_BYTES);
    const head = heap;
    heap = head + CONTAINER_BYTES + count * ARRAY_ITEM_BYTES;
    let to = head >> 2;
    words[to] = ARRAY;
    words[to + 1] = count === 0 ? 0 : head + CONTAINER_BYTES;
    words[to + 2] = count;
    words[to + 3] = count;
    to += CONTAINER_BYTES >> 2;
    for (let index = 0; index < count; index += 1, to += 2) {
      words[to] = indexes[index] ?? 0;
      words[to + 1] = stack[base + index] ?? 0;
    }
    top = base;
    return head;
  };

  /** As the module compares strings. */
  const compare = (a: number, b: number): number => {
    const aLength = words[(a >> 2) + 1] ?? 0;
    const aStart = words[(a >> 2) + 2] ?? 0;
    const bLength = words[(b >> 2) + 1] ?? 0;
    const bStart = words[(b >> 2) + 2] ?? 0;
    const common = Math.min(aLength, bLength);
    left -= COMPARE_UNITS + (common >> COMPARED_LOG2);
    if (left < 0) throw NO_FUEL;
    for (let index = 0; index < common; index += 1) {
      const difference = (bytes[aStart + index] ?? 0) - (bytes[bStart + index] ?? 0);
      if (difference !== 0) return difference;
    }
    return aLength - bLength;
  };

  /** Into its bucket, which is sorted by key; what was there with the same key gets the value. Whether it is new. */
  const insert = (bucket: number, element: number): boolean => {
    const own = element >> 2;
    const key = words[own] ?? 0;
    let link = bucket;
    for (let other = words[link] ?? 0; other !== 0; other = words[link] ?? 0) {
      const order = compare(key, words[other >> 2] ?? 0);
      if (order === 0) {
        words[(other >> 2) + 1] = words[own + 1] ?? 0;
        return false;
      }
      if (order < 0) break;
      link = (other >> 2) + 2;
    }
    words[own + 2] = words[link] ?? 0;
    words[link] = element;
    return true;
  };

  /** Puts the elements from `base` of the stack on into a table of so many buckets: how many have keys of their own. */
  const fill = (table: number, buckets: number, base: number): number => {
    const first = table >> 2;
    for (let index = first; index < first + buckets; index += 1) words[index] = 0;
    let count = 0;
    for (let index = base; index < top; index += 2) {
      if (insert(first + ((stack[index + 1] ?? 0) & (buckets - 1)), stack[index] ?? 0)) count += 1;
    }
    return count;
  };

  const object = (depth: number): number => {
    const base = top;
    at += 1;
    if (skip() === CLOSE_OBJECT) at += 1;
    else
      for (;;) {
        if (skip() !== QUOTE) throw LEFT;
        const key = string(true);
        const ownHash = hash;
        const element = heap;
        heap = element + OBJECT_ITEM_BYTES;
        if (skip() !== COLON) throw LEFT;
        at += 1;
        words[element >> 2] = key;
        words[(element >> 2) + 1] = value(depth);
        push(element);
        push(ownHash);
        const byte = skip();
        at += 1;
        if (byte === CLOSE_OBJECT) break;
        if (byte !== COMMA) throw LEFT;
      }
    let buckets = bucketsFor((top - base) >> 1);
    reserve(STEP_BYTES + buckets * 4);
    const head = heap;
    const table = head + CONTAINER_BYTES;
    let count = fill(table, buckets, base);
    // Keys that stood twice: the table is as large as for those that are left.
    if (bucketsFor(count) < buckets) {
      buckets = bucketsFor(count);
      count = fill(table, buckets, base);
    }
    heap = table + buckets * 4;
    const to = head >> 2;
    words[to] = OBJECT;
    words[to + 1] = table;
    words[to + 2] = buckets;
    words[to + 3] = count;
    top = base;
    return head;
  };

  const value = (depth: number): number => {
    if (depth > MAX_DEPTH) throw LEFT;
    const byte = skip();
    switch (byte) {
      case QUOTE:
        return string(false);
      case OPEN_OBJECT:
        return object(depth + 1);
      case OPEN_ARRAY:
        return array(depth + 1);
      case 0x74:
        return word('true', trueAt);
      case 0x66:
        return word('false', falseAt);
      case 0x6e:
        return word('null', nullAt);
      default:
        return number();
    }
  };

  const written = { value: 0, end: 0, units: 0 };
  const write: InputWriter['write'] = (memory, memoryWords, text, units) => {
    bytes = memory;
    words = memoryWords;
    ({ at, isWellFormed } = text);
    textEnd = text.at + text.length;
    heap = (textEnd + 8) & ~7;
    room = memory.length;
    left = units - text.length * BYTE_UNITS;
    top = 0;
    indexCount = 0;
    try {
      if (left < 0) throw NO_FUEL;
      reserve(STEP_BYTES);
      bytes[textEnd] = QUOTE;
      nullAt = heap;
      trueAt = nullAt + SMALL_BYTES;
      falseAt = trueAt + SMALL_BYTES;
      heap = falseAt + SMALL_BYTES;
      words[nullAt >> 2] = NULL;
      words[trueAt >> 2] = TRUE;
      words[falseAt >> 2] = BOOLEAN;
      written.value = value(0);
      skip();
      if (at < textEnd) throw LEFT;
      written.end = heap;
      written.units = units - left;
      return undefined;
    } catch (stop) {
      if (stop instanceof Stop) return stop.why;
      throw stop;
    } finally {
      [bytes, words] = [NO_BYTES, NO_WORDS]; // What is given up must not be held here.
    }
  };
  return Object.assign(written, { write });
};
