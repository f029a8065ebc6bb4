import { Compile } from 'typebox/compile';
import { Settings as TypeBoxSettings } from 'typebox/system';
import { DecisionRequest } from '../../shared/contracts/decision.ts';
import { isObject } from '../../shared/contracts/json.ts';

/** One thing wrong with a request. */
export interface RequestProblem {
  /** RFC 6901; "" is the whole document. */
  readonly pointer: string;
  /** Stable, what a program may match on. */
  readonly code: string;
  readonly message: string;
}

/** More are not listed. */
export const MAX_PROBLEMS = 64;
const MAX_NAME_CHARS = 64;
const checker = Compile(DecisionRequest);
const MEMBERS: ReadonlySet<string> = new Set(Object.keys(DecisionRequest.properties));

export const isRequestMember = (name: string): boolean => MEMBERS.has(name);

const escapeSegment = (segment: string): string => segment.replaceAll('~', '~0').replaceAll('/', '~1');

/** A pointer's segment for a member name; a long one is cut, since it comes from outside. */
export const pointerSegment = (name: string): string =>
  `/${escapeSegment(name.length > MAX_NAME_CHARS ? `${name.slice(0, MAX_NAME_CHARS)}…` : name)}`;

/** The library's pointers hold whole member names; cut them like ours. */
const boundedPointer = (pointer: string): string =>
  pointer
    .split('/')
    .map((segment) => (segment.length > MAX_NAME_CHARS ? `${segment.slice(0, MAX_NAME_CHARS)}…` : segment))
    .join('/');

const names = (params: object, member: string): readonly string[] => {
  const value: unknown = (params as Readonly<Record<string, unknown>>)[member];
  return Array.isArray(value) ? value.map(String) : [];
};

const schemaProblems = (value: unknown): readonly RequestProblem[] => {
  // The library stops at 8 problems otherwise.
  TypeBoxSettings.Set({ maxErrors: 2 * MAX_PROBLEMS });
  return checker.Errors(value).flatMap(({ keyword, instancePath, params, message }): RequestProblem[] => {
    const pointer = boundedPointer(instancePath);
    if (keyword === 'required')
      return names(params, 'requiredProperties').map((name) => ({
        pointer: `${pointer}${pointerSegment(name)}`,
        code: 'missing',
        message: 'is required',
      }));
    // Each unknown member makes an error of its own, and all of them together one more, which is not needed.
    if (keyword === 'boolean') return [{ pointer, code: 'unknown_member', message: 'is not a member of this object' }];
    if (keyword === 'additionalProperties') return [];
    return [{ pointer, code: keyword === 'type' ? 'wrong_type' : 'wrong_value', message }];
  });
};

/** What the schema cannot say. Takes any value: problems of both kinds are listed together. */
const rules = (value: unknown, caller: { readonly requires_agent: boolean }): readonly RequestProblem[] => {
  if (!isObject(value)) return [];
  const problems: RequestProblem[] = [];
  if (caller.requires_agent && value['agent'] === undefined)
    problems.push({ pointer: '/agent', code: 'agent_required', message: 'this caller must name the acting agent' });
  if (value['tokens'] !== undefined)
    problems.push({
      pointer: '/tokens',
      code: 'tokens_unsupported',
      message: 'no issuer is configured that could verify a token, and none is ever ignored',
    });
  const context = value['context'];
  if (isObject(context) && Array.isArray(context['session_tokens']) && context['session_tokens'].length > 0)
    problems.push({
      pointer: '/context/session_tokens',
      code: 'session_token_unknown',
      message: 'no session token was ever issued here',
    });
  return problems;
};

export type CheckedRequest =
  | { readonly ok: true; readonly request: DecisionRequest }
  | { readonly ok: false; readonly problems: readonly RequestProblem[] };

/** Checks a parsed body. `problems` holds everything found, at most `MAX_PROBLEMS`. */
export const checkRequest = (value: unknown, caller: { readonly requires_agent: boolean }): CheckedRequest => {
  const against = rules(value, caller);
  if (against.length === 0 && checker.Check(value)) return { ok: true, request: value };
  const all = [...schemaProblems(value), ...against];
  const unique = new Map(all.map((problem) => [`${problem.pointer} ${problem.code} ${problem.message}`, problem]));
  return { ok: false, problems: [...unique.values()].slice(0, MAX_PROBLEMS) };
};
