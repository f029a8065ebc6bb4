import { LIMITS } from '../../shared/contracts/decision.ts';
import type { DecisionRequest } from '../../shared/contracts/decision.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { InputLimits } from '../core/input-limits.ts';
import {
  checkRequest,
  isRequestMember,
  MAX_PROBLEMS,
  pointerSegment,
  type RequestProblem,
} from './request-problems.ts';
import { countMembers, isDeeper } from './strict-json.ts';

/** Members of a whole batch body. */
export const MAX_BATCH_MEMBERS = 150_000;
/** The batch adds an object and a list around each request. */
export const BATCH_DEPTH = 2;

export type BatchItem =
  | { readonly ok: true; readonly request: DecisionRequest }
  | { readonly ok: false; readonly problems: readonly RequestProblem[] };

/** What a batch holds, before its items are looked at one by one. */
export interface Batch {
  readonly length: number;
  /** Merges and checks the item at `index`. */
  item(index: number, caller: { readonly requires_agent: boolean }): BatchItem;
  /** The highest data revision that an item asks for. */
  readonly atLeast: number | undefined;
}

export type CheckedBatch =
  | { readonly ok: true; readonly batch: Batch }
  | { readonly ok: false; readonly status: 400 | 413; readonly problems: readonly RequestProblem[] };

const jsonBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));
/** Quotes, colon and comma of a member. */
const MEMBER_OVERHEAD_BYTES = 4;
const memberBytes = (name: string, value: unknown): number =>
  Buffer.byteLength(name) + jsonBytes(value) + MEMBER_OVERHEAD_BYTES;

const atLeastOf = (requests: readonly unknown[], defaults: Readonly<Record<string, unknown>>): number | undefined => {
  let highest: number | undefined;
  for (const request of requests) {
    const wanted = isObject(request) && Object.hasOwn(request, 'at_least') ? request['at_least'] : defaults['at_least'];
    const revision = isObject(wanted) ? wanted['data_revision'] : undefined;
    if (typeof revision === 'number' && revision > (highest ?? -1)) highest = revision;
  }
  return highest;
};

const bodyProblems = (value: unknown, { maxDepth }: InputLimits): readonly RequestProblem[] => {
  if (!isObject(value)) return [{ pointer: '', code: 'wrong_type', message: 'must be object' }];
  const problems: RequestProblem[] = Object.keys(value)
    .filter((name) => name !== 'defaults' && name !== 'requests')
    .map((name) => ({
      pointer: pointerSegment(name),
      code: 'unknown_member',
      message: 'is not a member of this object',
    }));
  const { defaults, requests } = value;
  if (defaults !== undefined && !isObject(defaults))
    problems.push({ pointer: '/defaults', code: 'wrong_type', message: 'must be object' });
  if (isObject(defaults)) {
    for (const name of Object.keys(defaults))
      if (!isRequestMember(name))
        problems.push({
          pointer: `/defaults${pointerSegment(name)}`,
          code: 'unknown_member',
          message: 'is not a member of a request',
        });
    if (isDeeper(defaults, maxDepth))
      problems.push({
        pointer: '/defaults',
        code: 'too_deep',
        message: `is nested more than ${maxDepth} deep`,
      });
  }
  if (requests === undefined) problems.push({ pointer: '/requests', code: 'missing', message: 'is required' });
  else if (!Array.isArray(requests))
    problems.push({ pointer: '/requests', code: 'wrong_type', message: 'must be array' });
  else if (requests.length === 0 || requests.length > LIMITS.batchItems)
    problems.push({
      pointer: '/requests',
      code: 'wrong_value',
      message: `must have 1 to ${LIMITS.batchItems} items`,
    });
  return problems.slice(0, MAX_PROBLEMS);
};

/**
 * Checks the body of a batch: `{defaults, requests}`. Defaults replace whole members. What is wrong with one item only
 * is told when that item is asked for; a batch whose merged items are too much together is refused whole.
 */
export const checkBatch = (
  value: unknown,
  body: { readonly bytes: number; readonly members: number },
  limits: InputLimits,
): CheckedBatch => {
  const { maxBytes, maxMembers } = limits;
  const problems = bodyProblems(value, limits);
  if (problems.length > 0 || !isObject(value)) return { ok: false, status: 400, problems };
  const defaults = isObject(value['defaults']) ? value['defaults'] : {};
  const requests = value['requests'] as readonly unknown[];
  const defaultBytes = new Map(Object.entries(defaults).map(([name, member]) => [name, memberBytes(name, member)]));
  const allDefaultBytes = [...defaultBytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  // Whatever is in an item came in the body, so a small body needs no measuring.
  const mayBeLarge = body.bytes + allDefaultBytes > maxBytes;
  const mergedBytes = (item: Readonly<Record<string, unknown>>): number => {
    const own = Object.entries(item).reduce((sum, [name, member]) => sum + memberBytes(name, member), 2);
    return [...defaultBytes].reduce((sum, [name, bytes]) => (Object.hasOwn(item, name) ? sum : sum + bytes), own);
  };
  if (body.bytes + requests.length * allDefaultBytes > LIMITS.batchMergedBytes) {
    const total = requests.reduce<number>((sum, item) => sum + (isObject(item) ? mergedBytes(item) : 0), 0);
    if (total > LIMITS.batchMergedBytes) {
      const message = `the requests with their defaults are more than ${LIMITS.batchMergedBytes} bytes together`;
      return { ok: false, status: 413, problems: [{ pointer: '/requests', code: 'too_large', message }] };
    }
  }
  const item = (index: number, caller: { readonly requires_agent: boolean }): BatchItem => {
    const own = requests[index];
    if (!isObject(own))
      return { ok: false, problems: [{ pointer: '', code: 'wrong_type', message: 'must be object' }] };
    if (mayBeLarge && mergedBytes(own) > maxBytes) {
      const message = `with its defaults it is more than ${maxBytes} bytes`;
      return { ok: false, problems: [{ pointer: '', code: 'too_large', message }] };
    }
    const merged = { ...defaults, ...own };
    if (body.members > maxMembers && countMembers(merged) > maxMembers) {
      const message = `has more than ${maxMembers} members`;
      return { ok: false, problems: [{ pointer: '', code: 'too_many_members', message }] };
    }
    return checkRequest(merged, caller);
  };
  return { ok: true, batch: { length: requests.length, item, atLeast: atLeastOf(requests, defaults) } };
};
