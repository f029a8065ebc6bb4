import type { Spend } from './prices.ts';

/** Units that are paid at once. */
const AHEAD = 64;
/** `MachineInput.EOF` */
const END = -8;
/** What stands at a place: `Utils.EMPTY_*`. */
const BEGIN_LINE = 1;
const END_LINE = 2;
const BEGIN_TEXT = 4;
const END_TEXT = 8;
const WORD_BOUNDARY = 16;
const NO_WORD_BOUNDARY = 32;
const NEWLINE = 0x0a;

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;
const isWord = (unit: number): boolean =>
  (unit >= 0x30 && unit <= 0x39) || (unit >= 0x41 && unit <= 0x5a) || unit === 0x5f || (unit >= 0x61 && unit <= 0x7a);

/**
 * A text as RE2JS's engines read it (its `MachineInput`, which it keeps to itself), which counts how far each search
 * looks. Searches over the same text may each look to its end: one pass is free of charge, what is more is paid before
 * it is read. Steps and contexts are packed as RE2JS packs them.
 */
export class MeteredText {
  private readonly value: string;
  private readonly unitCost: number;
  private readonly spend: Spend;
  /** Units that are paid for and were not looked at yet. */
  private credit: number;
  /** Where what this search has looked at ends. */
  private reach = 0;
  private isFirst = true;

  constructor(value: string, unitCost: number, spend: Spend) {
    this.value = value;
    this.unitCost = unitCost;
    this.spend = spend;
    this.credit = value.length + 1;
  }

  /** A search begins. */
  searchFrom(at: number): void {
    this.isFirst = at === 0;
    this.reach = at;
  }

  private look(to: number): void {
    const more = Math.min(to, this.value.length) - this.reach;
    if (more <= 0) return;
    this.reach += more;
    this.credit -= more;
    if (this.credit >= 0) return;
    const units = Math.max(AHEAD, -this.credit);
    this.spend(units * this.unitCost);
    this.credit += units;
  }

  /** The code point at a place, shifted by 3, and how many units it takes. */
  step(at: number): number {
    if (at >= this.value.length) return END;
    if (at >= this.reach) this.look(at + 1);
    const unit = this.value.charCodeAt(at);
    if (!isHigh(unit) || !isLow(this.value.charCodeAt(at + 1))) return (unit << 3) | 1;
    return ((this.value.codePointAt(at) ?? 0) << 3) | 2;
  }

  context(at: number): number {
    const isBegin = at <= 0;
    const isEnd = at >= this.value.length;
    const [before, behind] = [this.value.charCodeAt(at - 1), this.value.charCodeAt(at)];
    let flags = isWord(before) === isWord(behind) ? NO_WORD_BOUNDARY : WORD_BOUNDARY;
    if (isBegin) flags |= BEGIN_TEXT;
    if (isBegin || before === NEWLINE) flags |= BEGIN_LINE;
    if (isEnd) flags |= END_TEXT;
    if (isEnd || behind === NEWLINE) flags |= END_LINE;
    return flags;
  }

  /** How far ahead the text stands that each match begins with; negative where there is none. */
  index({ prefix }: { readonly prefix: string }, at: number): number {
    const found = this.value.indexOf(prefix, at);
    this.look(found < 0 ? this.value.length : found + prefix.length);
    return found < 0 ? found : found - at;
  }

  prefixLength({ prefix }: { readonly prefix: string }): number {
    return prefix.length;
  }

  endPos(): number {
    return this.value.length;
  }

  canCheckPrefix(): boolean {
    return true;
  }

  /** Whether a text that each match needs follows. Later searches do without the look: it may go on to the end. */
  hasString({ str }: { readonly str: string }, at: number): boolean {
    return !this.isFirst || this.value.includes(str, at);
  }

  hasAnyString({ subs }: { readonly subs: readonly { readonly str: string }[] }, at: number): boolean {
    return !this.isFirst || subs.some(({ str }) => this.value.includes(str, at));
  }
}
