/** Names of members from the outermost on; empty: the whole document. */
export type DataPath = readonly string[];

/** The segments of a JSON pointer (RFC 6901), or undefined for text that is none. */
export const parsePointer = (text: string): DataPath | undefined => {
  if (text === '') return [];
  if (!text.startsWith('/') || /~(?![01])/.test(text)) return undefined;
  return text
    .slice(1)
    .split('/')
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
};

export const formatPointer = (path: DataPath): string =>
  path.map((segment) => `/${segment.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');

export const isPathPrefix = (prefix: DataPath, path: DataPath): boolean =>
  prefix.length <= path.length && prefix.every((segment, index) => segment === path[index]);
