/**
 * What of a policy's input its answer can depend on: `true` is the value and all below it; else the members by name,
 * and of each again. An empty map: only whether something is there, and whether that is an object.
 */
export type InputReads = true | ReadonlyMap<string, InputReads>;

/** What an answer depends on that depends on both. */
export const unionReads = (a: InputReads, b: InputReads): InputReads => {
  if (a === true || b === true) return true;
  const all = new Map(a);
  for (const [name, reads] of b) {
    const known = all.get(name);
    all.set(name, known === undefined ? reads : unionReads(known, reads));
  }
  return all;
};

/** JSON Pointers of what is read, sorted; the empty pointer is the whole input. */
export const readPointers = (reads: InputReads): readonly string[] => {
  const walk = (at: InputReads, path: string): readonly string[] =>
    at === true || at.size === 0
      ? [path]
      : [...at].flatMap(([name, below]) => walk(below, `${path}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`));
  return [...walk(reads, '')].sort();
};

/**
 * A text that is the same for two inputs exactly when they agree in all that is read. Each part tells where it ends: it
 * is JSON, `!` where nothing is, `?` for what has no members, or its members in parentheses.
 */
export const readsText = (reads: InputReads, value: unknown): string => {
  if (value === undefined) return '!';
  if (reads === true) return JSON.stringify(value);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return '?';
  const members = value as Readonly<Record<string, unknown>>;
  let text = '(';
  for (const [name, below] of reads)
    text += `${readsText(below, Object.hasOwn(members, name) ? members[name] : undefined)},`;
  return `${text})`;
};
