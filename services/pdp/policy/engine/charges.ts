import { fail } from './wasm-reader.ts';
import type { Region } from './wasm-code.ts';

/** How many instructions one unit of fuel stands for, at most. */
export const UNIT_INSTRUCTIONS = 64;
/** A function that runs more than that outside of its loops takes a charge of its own. */
const MAX_UNCHARGED = 192;

/** What goes in where: units at the start of a region. */
export interface Charge {
  readonly at: number;
  readonly units: number;
  /** The first argument is a number of bytes, which cost as well. */
  readonly isSized?: boolean;
}

export interface ModuleShape {
  readonly functions: readonly (readonly Region[])[];
  /** How many functions come before them in the numbers of functions; they charge what they cost themselves. */
  readonly imported: number;
  /** Numbers of functions that are called through a table. */
  readonly inTable: ReadonlySet<number>;
  /** The number of the function that gives memory. */
  readonly allocator?: number | undefined;
}

const unitsOf = (instructions: number): number => Math.max(1, Math.ceil(instructions / UNIT_INSTRUCTIONS));

/**
 * What each function of a module must be charged, so that no more than `UNIT_INSTRUCTIONS` run for a unit, whatever
 * way they take. Loops are charged for each pass. What a function runs outside of them counts for its callers, as if
 * every branch were taken, until it is too much: then the function is charged when it is entered, and costs its callers
 * nothing. Without that, functions that call each other twice, and those twice, would run for hours on no fuel. Of each
 * circle of calls at least one function is charged; calls through a table may lead to any function in it, so all of
 * those that call are.
 *
 * The allocator is charged by what is asked of it: the first use of a page of memory costs more than what is done there.
 */
export const chargesOf = ({ functions, imported, inTable, allocator }: ModuleShape): readonly (readonly Charge[])[] => {
  /** Instructions that a call costs the caller; undefined: not known yet. */
  const uncharged = Array.from<number | undefined>({ length: functions.length });
  const charged = new Uint8Array(functions.length);
  const busy = new Uint8Array(functions.length);

  const callCost = (index: number): number => {
    const own = index - imported;
    if (own < 0) return 0;
    if (own >= functions.length) return fail(`a call of function ${index}, which is not there`);
    return charged[own] === 1 ? 0 : (uncharged[own] ?? 0);
  };
  const costOf = ({ instructions, indirect, calls }: Region): number =>
    calls.reduce((sum, index) => sum + callCost(index), instructions + indirect * MAX_UNCHARGED);

  const isCalling = (regions: readonly Region[]): boolean =>
    regions.some(({ calls, indirect }) => calls.length > 0 || indirect > 0);
  for (const [own, regions] of functions.entries())
    if (own + imported === allocator || (inTable.has(own + imported) && isCalling(regions))) charged[own] = 1;

  /** Callees before callers, without recursion: a module chooses how deep they call each other. */
  const settle = (root: number): void => {
    const path: { readonly own: number; readonly calls: readonly number[]; next: number }[] = [];
    const enter = (own: number): void => {
      busy[own] = 1;
      path.push({ own, calls: (functions[own] ?? []).flatMap(({ calls }) => calls), next: 0 });
    };
    enter(root);
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const callee = top.calls[top.next];
      top.next += 1;
      if (callee === undefined) {
        const { own } = top;
        const [outside] = functions[own] ?? [];
        const cost = outside === undefined ? 0 : costOf(outside);
        if (cost > MAX_UNCHARGED) charged[own] = 1;
        uncharged[own] = cost;
        busy[own] = 0;
        path.pop();
        continue;
      }
      const own = callee - imported;
      if (own < 0 || own >= functions.length || uncharged[own] !== undefined) continue;
      // A circle.
      if (busy[own] === 1) charged[own] = 1;
      else enter(own);
    }
  };
  for (let own = 0; own < functions.length; own += 1) if (uncharged[own] === undefined) settle(own);

  return functions.map((regions, own) =>
    regions.flatMap((region, index): readonly Charge[] => {
      const charge = { at: region.start, units: unitsOf(costOf(region)) };
      if (index > 0) return [charge];
      if (charged[own] !== 1) return [];
      return [own + imported === allocator ? { ...charge, isSized: true } : charge];
    }),
  );
};
