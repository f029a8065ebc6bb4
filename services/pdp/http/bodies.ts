import { STATUS_CODES } from 'node:http';
import type { Durability, Reason } from '../../shared/contracts/decision.ts';
import { problem, type Problem } from '../../shared/runtime/problem.ts';
import type { Recorded } from '../core/record.ts';
import type { RequestProblem } from './request-problems.ts';

export const JSON_TYPE = 'application/json';

/** The members that make every body but an allow a deny, so that no gateway can take an error for anything else. */
export const denyMembers = (reasons: readonly Reason[]): Readonly<Record<string, unknown>> => ({
  decision: 'deny',
  allow: false,
  reasons,
  obligations: [],
  advice: [],
});

/** The deny of a problem that Express or the health checks answer. */
export const denyOfProblem = ({ code, detail }: Problem): Readonly<Record<string, unknown>> =>
  denyMembers([{ code, ...(detail === undefined ? {} : { message: detail }) }]);

const reasonOf = ({ pointer, code, message }: RequestProblem): Reason => ({
  code,
  message: `${pointer === '' ? 'the body' : pointer}: ${message}`,
});

/** The members of a bad batch item, in its place. */
export const deniedItem = (problems: readonly RequestProblem[]): string =>
  JSON.stringify({ ...denyMembers(problems.map(reasonOf)), errors: problems });

/** `application/problem+json` (RFC 9457) of a refusal: no decision was made, so there is no `decision_id`. */
export const refusalBody = (
  status: number,
  code: string,
  options: { readonly detail?: string; readonly problems?: readonly RequestProblem[] } = {},
): string => {
  const body = problem(status, code, options.detail);
  const { problems } = options;
  if (problems === undefined) return JSON.stringify({ ...body, ...denyOfProblem(body) });
  return JSON.stringify({ ...body, ...denyMembers(problems.map(reasonOf)), errors: problems });
};

const auditMember = ({ emitter, boot, sequence }: Recorded, durability: Durability): string =>
  `"audit":{"durability":"${durability}","emitter":"${emitter}","boot":"${boot}","sequence":"${sequence}"}`;

/** The body at status 200, and of an item of a batch. */
export const answerBody = (answerMembers: string, recorded: Recorded, durability: Durability): string =>
  `{${answerMembers},${auditMember(recorded, durability)}}`;

/** The body at status 500: a problem that is a recorded deny as well. */
export const faultBody = (code: string, answerMembers: string, recorded: Recorded, durability: Durability): string =>
  `{"type":"about:blank","title":"${STATUS_CODES[500] ?? ''}","status":500,"code":${JSON.stringify(code)},${answerMembers},${auditMember(recorded, durability)}}`;
