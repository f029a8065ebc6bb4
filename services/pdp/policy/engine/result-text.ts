/*
 * A small answer is printed by the host, from the values in the module's memory, as the module's own printer would:
 * that one calls a function for each character. Layout of values: OPA, wasm/src/value.h.
 */
import { BACKSLASH, QUOTE } from './json-bytes.ts';
import {
  ARRAY,
  BOOLEAN,
  INTERNED_BOOLEAN,
  INTERNED_STRING,
  NO_BYTES,
  NO_WORDS,
  NULL,
  NUMBER,
  NUMBER_INT,
  NUMBER_REF,
  OBJECT,
  SET,
  STRING,
} from './value-layout.ts';

/** Whoever is larger is left to the module: elements and buckets, characters of texts, depth. */
const MAX_STEPS = 1_024;
const MAX_CHARS = 4_096;
const MAX_DEPTH = 16;
/** Buckets that are looked at in a step. */
const BUCKETS_LOG2 = 3;
/** A short text is put together faster than it is asked for. */
const SHORT = 16;

/** What printing costs: a step, and each byte. */
const STEP_UNITS = 8;

/** Thrown by the printer only, and caught there. */
class Left extends Error {}
const LEFT = new Left('left to the module');

export interface Printed {
  readonly text: string;
  readonly units: number;
}

/** See `createResultPrinter`. */
export type PrintResult = (bytes: Buffer, words: Int32Array, address: number) => Printed | undefined;

/**
 * Prints JSON text of the value at an address, sets as arrays, in the order in which the module has its parts. Undefined
 * when the value is large, deep or not understood: it is the module's to print, or to fail with.
 */
export const createResultPrinter = (): PrintResult => {
  let bytes = NO_BYTES;
  let words = NO_WORDS;
  let steps = 0;
  let chars = 0;

  const step = (count: number): void => {
    steps += count;
    if (steps > MAX_STEPS) throw LEFT;
  };
  /** The word at an address, which may be any: memory has an end. */
  const wordAt = (place: number): number => {
    if ((place & 3) === 0) return words[place >>> 2] ?? 0;
    const at = place >>> 0;
    if (at + 4 > bytes.length) throw LEFT;
    return bytes.readInt32LE(at);
  };
  const charsAt = (place: number, length: number): string => {
    const start = place >>> 0;
    if (length < 0 || start + length > bytes.length) throw LEFT;
    chars += length;
    if (chars > MAX_CHARS) throw LEFT;
    let isAscii = true;
    for (let at = start; at < start + length; at += 1) {
      const byte = bytes[at] ?? 0;
      if (byte < 0x20 || byte === QUOTE || byte === BACKSLASH) throw LEFT;
      if (byte > 0x7e) isAscii = false;
    }
    if (!isAscii) return bytes.toString('utf8', start, start + length);
    if (length > SHORT) return bytes.toString('latin1', start, start + length);
    let text = '';
    for (let at = start; at < start + length; at += 1) text += String.fromCharCode(bytes[at] ?? 0);
    return text;
  };

  const number = (place: number): string => {
    const repr = bytes[(place >>> 0) + 1];
    if (repr === NUMBER_REF) return charsAt(wordAt(place + 8), wordAt(place + 12));
    const low = wordAt(place + 8);
    if (repr !== NUMBER_INT || wordAt(place + 12) !== low >> 31) throw LEFT;
    return `${low}`;
  };

  const array = (place: number, depth: number): string => {
    const elements = wordAt(place + 4);
    const length = wordAt(place + 8);
    if (length < 0 || length > MAX_STEPS) throw LEFT;
    let text = '[';
    for (let index = 0; index < length; index += 1)
      text += `${index === 0 ? '' : ','}${value(wordAt(elements + index * 8 + 4), depth)}`;
    return `${text}]`;
  };

  const isString = (place: number): boolean => {
    const tag = bytes[place >>> 0];
    return tag === STRING || tag === INTERNED_STRING;
  };

  /** The buckets of an object or a set, in turn. */
  const table = (place: number, depth: number, isObject: boolean): string => {
    const buckets = wordAt(place + 4);
    const count = wordAt(place + 8);
    if (count < 0 || count > MAX_STEPS) throw LEFT;
    step(count >> BUCKETS_LOG2);
    const next = isObject ? 8 : 4;
    let text = '';
    for (let index = 0; index < count; index += 1)
      for (let element = wordAt(buckets + index * 4); element !== 0; element = wordAt(element + next)) {
        const first = wordAt(element);
        if (isObject && !isString(first)) throw LEFT;
        const part = isObject ? `${value(first, depth)}:${value(wordAt(element + 4), depth)}` : value(first, depth);
        text = text === '' ? part : `${text},${part}`;
      }
    return isObject ? `{${text}}` : `[${text}]`;
  };

  const value = (place: number, depth: number): string => {
    step(1);
    if (depth > MAX_DEPTH) throw LEFT;
    switch (bytes[place >>> 0]) {
      case NULL:
        return 'null';
      case BOOLEAN:
      case INTERNED_BOOLEAN:
        return bytes[(place >>> 0) + 1] === 0 ? 'false' : 'true';
      case NUMBER:
        return number(place);
      case STRING:
      case INTERNED_STRING:
        return `"${charsAt(wordAt(place + 8), wordAt(place + 4))}"`;
      case ARRAY:
        return array(place, depth + 1);
      case OBJECT:
        return table(place, depth + 1, true);
      case SET:
        return table(place, depth + 1, false);
      default:
        throw LEFT;
    }
  };

  return (memory, memoryWords, address) => {
    bytes = memory;
    words = memoryWords;
    steps = 0;
    chars = 0;
    try {
      const text = value(address, 0);
      return { text, units: steps * STEP_UNITS + text.length };
    } catch (cause) {
      if (cause instanceof Left) return undefined;
      throw cause;
    } finally {
      // Memory that is given up must not be held here.
      bytes = NO_BYTES;
      words = NO_WORDS;
    }
  };
};
