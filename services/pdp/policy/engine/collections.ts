import { array, BuiltinError, BuiltinHalt, type Builtins, flag, MAX_ITEMS, members, object, text } from './builtin.ts';
import { patchJson } from './json-patch.ts';
import { identityOf } from './value-identity.ts';
import { compareValues, isArray, RegoObject, RegoSet, type Value } from './value.ts';
import { MADE, type Spend } from './prices.ts';

const isList = (value: Value | undefined): value is readonly Value[] =>
  value !== undefined && value !== null && typeof value === 'object' && isArray(value);

const isEqual = (a: Value | undefined, b: Value | undefined): boolean =>
  a !== undefined && b !== undefined && compareValues(a, b) === 0;

/** Whether one list stands within the other, in linear time (Knuth, Morris and Pratt). */
const isWithin = (list: readonly Value[], part: readonly Value[]): boolean => {
  if (part.length === 0) return true;
  const borders = [-1];
  for (let i = 0, border = -1; i < part.length; i += 1) {
    while (border >= 0 && !isEqual(part[border], part[i])) border = borders[border] ?? -1;
    border += 1;
    borders.push(border);
  }
  let matched = 0;
  for (const item of list) {
    while (matched >= 0 && !isEqual(part[matched], item)) matched = borders[matched] ?? -1;
    matched += 1;
    if (matched === part.length) return true;
  }
  return false;
};

const isSubset = (all: RegoSet, part: RegoSet): boolean => part.items.every((item) => all.has(item));

const isMemberWithin = (all: Value | undefined, part: Value): boolean => {
  if (all === undefined) return false;
  if (all instanceof RegoObject && part instanceof RegoObject) return isObjectWithin(all, part);
  if (all instanceof RegoSet && part instanceof RegoSet) return isSubset(all, part);
  if (isList(all) && isList(part)) return isWithin(all, part);
  return compareValues(all, part) === 0;
};

const isObjectWithin = (all: RegoObject, part: RegoObject): boolean =>
  part.entries.every(([key, member]) => isMemberWithin(all.get(key), member));

/** As OPA counts: a member that the list holds twice stands for two, and in an empty list nothing is found. */
const hasMembers = (list: readonly Value[], wanted: RegoSet): boolean => {
  let missing = wanted.items.length;
  return list.some((item) => {
    if (wanted.has(item)) missing -= 1;
    return missing === 0;
  });
};

const objectSubset = (all: Value | undefined, part: Value | undefined): boolean => {
  if (all instanceof RegoObject && part instanceof RegoObject) return isObjectWithin(all, part);
  if (all instanceof RegoSet && part instanceof RegoSet) return isSubset(all, part);
  if (isList(all) && isList(part)) return isWithin(all, part);
  if (isList(all) && part instanceof RegoSet) return hasMembers(all, part);
  throw new BuiltinError('two values of one type, or an array and a set, expected');
};

const edgesOf = (value: Value): readonly Value[] => {
  if (value instanceof RegoSet) return value.items;
  return isList(value) ? value : [];
};

/** One node of the path that is walked, and where in its edges the walk is. */
interface Step {
  readonly identity: string;
  readonly edges: readonly Value[];
  next: number;
}

/** All paths from the roots that end at a node without edges, before one that is no node, or before a circle. */
const reachablePaths = (spend: Spend, graph: RegoObject, roots: readonly Value[]): Value => {
  const paths: Value[] = [];
  let written = 0;
  const commit = (path: readonly Value[]): void => {
    // A graph of few nodes has paths without number.
    written += path.length + 1;
    spend((path.length + 1) * MADE.pathNode);
    if (written > MAX_ITEMS) throw new BuiltinHalt('too many paths');
    paths.push([...path]);
  };
  const walk = (root: Value, rootEdges: readonly Value[]): void => {
    const path = [root];
    const steps: Step[] = [{ identity: identityOf(root), edges: rootEdges, next: 0 }];
    const passed = new Set([identityOf(root)]);
    for (let step = steps.at(-1); step !== undefined; step = steps.at(-1)) {
      const neighbour = step.edges[step.next];
      step.next += 1;
      if (neighbour === undefined) {
        steps.pop();
        path.pop();
        if (steps[0]?.identity !== step.identity) passed.delete(step.identity);
        continue;
      }
      const identity = identityOf(neighbour);
      // OPA does not look back at the first step: a root that is its own neighbour is walked through twice.
      const edges = steps.length > 1 && passed.has(identity) ? undefined : graph.get(neighbour);
      if (edges === undefined) commit(path);
      else if (edgesOf(edges).length === 0) commit([...path, neighbour]);
      else {
        path.push(neighbour);
        steps.push({ identity, edges: edgesOf(edges), next: 0 });
        passed.add(identity);
      }
    }
  };
  for (const root of roots) {
    const edges = graph.get(root);
    if (edges === undefined) continue;
    if (edgesOf(edges).length === 0) commit([root]);
    else walk(root, edgesOf(edges));
  }
  return RegoSet.of(paths);
};

const nothing = (value: Value | undefined): null => {
  if (value !== null) throw new BuiltinError('null expected');
  return value;
};

const given = (value: Value | undefined): Value => {
  if (value === undefined) throw new BuiltinError('a value expected');
  return value;
};

const asSet = (value: Value | undefined): RegoSet => (value instanceof RegoSet ? value : RegoSet.of(array(value)));

export const collectionBuiltins: Builtins = {
  cast_array: (_context, value) => members(value),
  cast_boolean: (_context, value) => flag(value),
  cast_null: (_context, value) => nothing(value),
  cast_object: (_context, value) => object(value),
  cast_set: (_context, value) => asSet(value),
  cast_string: (_context, value) => text(value),
  'graph.reachable_paths': ({ spend }, graph, roots) => reachablePaths(spend, object(graph), members(roots)),
  'internal.print': () => true,
  'json.patch': ({ spend }, value, operations) => patchJson(spend, given(value), array(operations)),
  'object.subset': (_context, all, part) => objectSubset(all, part),
  // Nothing of this process is shown to policies.
  'opa.runtime': () => RegoObject.of([]),
  trace: (_context, note) => {
    text(note);
    return true;
  },
};
