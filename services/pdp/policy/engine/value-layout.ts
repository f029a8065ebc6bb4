/** Tags of values in a module's memory (OPA, wasm/src/value.h). */
export const NULL = 1;
export const BOOLEAN = 2;
export const NUMBER = 3;
export const STRING = 4;
export const ARRAY = 5;
export const OBJECT = 6;
export const SET = 7;
export const INTERNED_STRING = 8;
export const INTERNED_BOOLEAN = 9;
/** The byte behind the tag of a number: whether it is one of 64 bits, or has its text elsewhere. */
export const NUMBER_INT = 1;
export const NUMBER_REF = 2;
/** The hash of a key: FNV-1 of 32 bits, over its UTF-8. */
export const HASH_BEGIN = 0x811c9dc5 | 0;
export const HASH_PRIME = 0x01000193;
/** Tags with what stands in the byte behind them. */
export const TRUE = BOOLEAN | (1 << 8);
export const INTEGER = NUMBER | (NUMBER_INT << 8);
export const REFERENCE = NUMBER | (NUMBER_REF << 8);

/** Views of no memory. */
export const NO_BYTES: Buffer = Buffer.alloc(0);
export const NO_WORDS: Int32Array = new Int32Array(0);
