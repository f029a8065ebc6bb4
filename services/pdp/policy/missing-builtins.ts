import type { BundleFile } from '../../shared/contracts/bundle-digest.ts';
import type { BuiltinUse } from './engine/load-module.ts';

/** A built-in that a policy needs and this engine lacks. */
export interface MissingBuiltin extends BuiltinUse {
  /**
   * `file:row:column` of its calls in the sources that the bundle carries. OPA formats those, and leaves the rules of
   * entrypoints out, so a row may be another one than in the author's file.
   */
  readonly places: readonly string[];
}

/** Of all sources together: a search stops the thread that decides. */
const SOURCES_BYTES = 4 * 1024 * 1024;
const MOST_BUILTINS = 20;
const NAME = /^[\w.]{1,100}$/;
const MOST_PLACES = 20;
const MOST_SHOWN = 5;

const packageOf = (source: string): string | undefined => /^package[ \t]+([^\s#]+)/m.exec(source)?.[1];

/**
 * Comments and texts are passed over, closed or not, and so cost each character once. A call inside of a template text
 * is not found.
 */
const tokensWith = (builtin: string): RegExp =>
  new RegExp(
    String.raw`#[^\n]*|"(?:\\.|[^"\\\n])*"?|` +
      String.raw`\x60[^\x60]*\x60?|(?<![\w.])(${builtin.replaceAll('.', String.raw`\.`)})\s*\(`,
    'g',
  );

const placesIn = (path: string, source: string, builtin: string): readonly string[] => {
  if (!NAME.test(builtin)) return [];
  const places: string[] = [];
  let row = 1;
  let rowStart = 0;
  for (const { 1: call, index } of source.matchAll(tokensWith(builtin))) {
    if (call === undefined) continue;
    for (let end = source.indexOf('\n', rowStart); end !== -1 && end < index; end = source.indexOf('\n', rowStart)) {
      row += 1;
      rowStart = end + 1;
    }
    places.push(`${path}:${row}:${index - rowStart + 1}`);
    if (places.length === MOST_PLACES) break;
  }
  return places;
};

const sourcesOf = (files: readonly BundleFile[]): readonly { readonly path: string; readonly source: string }[] => {
  let room = SOURCES_BYTES;
  return files.flatMap(({ path, bytes }) => {
    if (!path.endsWith('.rego') || bytes.length > room) return [];
    room -= bytes.length;
    return [{ path, source: Buffer.from(bytes).toString('utf8') }];
  });
};

/**
 * Adds the places where the sources call it, in files whose package holds one of its rules. What a module asks for may be
 * anything, so of lists only the beginning is taken.
 */
export const locateBuiltins = (
  missing: readonly BuiltinUse[],
  files: readonly BundleFile[],
): readonly MissingBuiltin[] => {
  const sources = sourcesOf(files);
  return missing.slice(0, MOST_BUILTINS).map((use) => {
    const builtin = NAME.test(use.builtin) ? use.builtin : JSON.stringify(use.builtin.slice(0, 100));
    const rules = use.rules.slice(0, MOST_PLACES);
    const places = sources
      .filter(({ source }) => {
        const within = packageOf(source);
        return within !== undefined && rules.some((rule) => rule.startsWith(`data.${within}.`));
      })
      .flatMap(({ path, source }) => placesIn(path, source, builtin));
    return { builtin, rules, places: places.slice(0, MOST_PLACES) };
  });
};

const shown = (texts: readonly string[]): string => {
  const more = texts.length - MOST_SHOWN;
  return `${texts.slice(0, MOST_SHOWN).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
};

/** Such as `http.send in data.lib.get (in the bundle: lib/lib.rego:7:9)`; the built-in alone where a module has no names. */
export const describeMissing = ({ builtin, rules, places }: MissingBuiltin): string =>
  [builtin, ...(rules.length === 0 ? [] : [`in ${shown(rules)}`])].join(' ') +
  (places.length === 0 ? '' : ` (in the bundle: ${shown(places)})`);
