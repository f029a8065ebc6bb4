import { AppError } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { DataPath } from '../core/json-pointer.ts';

/** The package that each bundle of a set has of its own: the one of the entrypoint. */
const OWN_ROOT = 'edict';

interface Rooted {
  readonly name: string;
  readonly roots: readonly string[];
}

const refuse = (message: string): AppError => new AppError('bundle_invalid', message);

/** The path in `data` of a root as manifests write it. */
export const rootPath = (root: string): DataPath => root.split('/').filter((part) => part !== '');

/** Whether `inner` lies at or below `outer`; the empty root holds everything. */
const holds = (outer: string, inner: string): boolean => {
  const [above, below] = [rootPath(outer), rootPath(inner)];
  return above.every((part, index) => below[index] === part);
};

/** Whether a path of `data` lies at or below a root. */
export const holdsPath = (root: string, path: DataPath): boolean =>
  rootPath(root).every((part, index) => path[index] === part);

const overlaps = (a: string, b: string): boolean => holds(a, b) || holds(b, a);

/** The roots of a manifest; OPA's default is everything. */
export const rootsOf = ({ roots }: { readonly roots?: readonly string[] }): readonly string[] => roots ?? [''];

const checkMember = (value: unknown, path: string, roots: readonly string[], file: string): void => {
  if (roots.some((root) => holds(root, path))) return;
  const isAbove = path === '' || roots.some((root) => holds(path, root));
  if (!isAbove || !isObject(value)) throw refuse(`${file}: the roots of .manifest do not permit data at /${path}`);
  for (const [key, member] of Object.entries(value))
    checkMember(member, path === '' ? key : `${path}/${key}`, roots, file);
};

/** Throws `bundle_invalid` when a document has data outside the roots, as OPA does. */
export const checkDataRoots = (document: unknown, path: string, roots: readonly string[], file: string): void =>
  checkMember(document, path, roots, file);

/** Throws `bundle_invalid` when roots of one manifest overlap, or do not hold an entrypoint. */
export const checkOwnRoots = (roots: readonly string[], entrypoints: readonly string[]): void => {
  roots.forEach((root, index) => {
    const other = roots.slice(index + 1).find((next) => overlaps(root, next));
    if (other !== undefined) throw refuse(`.manifest has roots that overlap: ${JSON.stringify([root, other])}`);
  });
  const outside = entrypoints.find((entrypoint) => !roots.some((root) => holds(root, entrypoint)));
  if (outside !== undefined) throw refuse(`the roots of .manifest do not permit the entrypoint ${outside}`);
};

const isShared = (root: string): boolean => !holds(OWN_ROOT, root);

/**
 * Throws `bundle_invalid` when two bundles of a set claim the same part of `data`. What lies below `edict` is each
 * bundle's own: every bundle has the entrypoint, and none sees the other's rules or data.
 */
export const checkSetRoots = (bundles: readonly Rooted[]): void => {
  bundles.forEach(({ name, roots }, index) => {
    for (const other of bundles.slice(index + 1))
      for (const root of roots.filter(isShared)) {
        const found = other.roots.filter(isShared).find((next) => overlaps(root, next));
        if (found === undefined) continue;
        const both = JSON.stringify([root, found]);
        throw refuse(`the roots of ${name} and ${other.name} overlap (${both}): one set cannot have both`);
      }
  });
};
