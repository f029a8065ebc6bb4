import type { IncomingMessage, ServerResponse } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { LIMITS, type Durability } from '../../shared/contracts/decision.ts';
import { isAppError, type ErrorCode } from '../../shared/contracts/errors.ts';
import { httpStatus, PROBLEM_TYPE } from '../../shared/runtime/problem.ts';
import type { Logger } from '../../shared/runtime/logger.ts';
import type { Caller } from '../../shared/settings/schema.ts';
import type { Decide, Decided, DecidingPolicy } from '../core/decide.ts';
import type { InputLimits } from '../core/input-limits.ts';
import type { CountRefusal } from '../core/record.ts';
import { requestIdOf, traceparentOf, typeProblem, type Admit } from './admission.ts';
import { BATCH_DEPTH, MAX_BATCH_MEMBERS, checkBatch, type Batch } from './batch.ts';
import { answerBody, deniedItem, faultBody, JSON_TYPE } from './bodies.ts';
import type { BodyReader } from './body.ts';
import type { HttpMetrics } from './metrics.ts';
import type { Refuse, RefusedRequest } from './refuse.ts';
import { checkRequest } from './request-problems.ts';
import { parseStrictJson } from './strict-json.ts';
import { createTurnEnd } from './turn.ts';

export interface DecideEndpointOptions {
  readonly decide: Decide;
  /**
   * The set that decides for a tenant now; undefined while there is none. `held`: the same set as that, whether or not it
   * decides for others by now, with the data that it has now; undefined when the tenant is denied meanwhile.
   */
  readonly policyFor: (tenant: string, held?: DecidingPolicy) => DecidingPolicy | undefined;
  /** Where that is because an engine is being made: resolves when it is, or when that takes too long. */
  readonly readyFor: (tenant: string) => Promise<void> | undefined;
  /** A code for that `undefined`. */
  readonly whyNot: (tenant: string) => string;
  /** What a request of the tenant may be now. */
  readonly inputLimits: (tenant: string) => InputLimits;
  readonly waitForData: (tenant: string, revision: number) => Promise<void>;
  readonly admit: Admit;
  readonly charge: (caller: Caller, count: number) => void;
  /** 0, or the seconds until the tenant's policies may be evaluated again. */
  readonly fuelWaitS: (tenant: string) => number;
  readonly refuse: Refuse;
  readonly countRefusal: CountRefusal;
  readonly bodies: BodyReader;
  readonly metrics: HttpMetrics;
  readonly logger: Logger;
  readonly monotonicMs: () => number;
  readonly maxInFlight: number;
}

export interface DecideEndpoint {
  single(request: IncomingMessage, response: ServerResponse, startedMs: number): Promise<void>;
  batch(request: IncomingMessage, response: ServerResponse, startedMs: number): Promise<void>;
  inFlight(): number;
}

const RETRY = { 'retry-after': '1' } as const;
/** How long a batch may keep the event loop before others get their turn. */
const BATCH_SLICE_MS = 5;
/** Faults of the policy are logged at most so often a code; each is an event and counted anyway. */
const FAULT_LOG_MS = 10_000;
const BATCH_DENIED = [{ code: 'batch_item_denied', message: 'at least one request of the batch is denied' }];

const REQUEST_INVALID = { code: 'request_invalid', status: 400 } as const;
const FUEL_EXHAUSTED = { code: 'fuel_exhausted', status: 429 } as const;
/** An item of a batch whose tenant has no fuel left; those before it used it up. */
const OUT_OF_FUEL = {
  ok: false,
  problems: [{ pointer: '', code: FUEL_EXHAUSTED.code, message: 'the tenant has used its fuel; ask again later' }],
} as const;
/** What stands for the rest of a batch whose tenant is denied by now. */
const NO_POLICY = [{ pointer: '', code: 'policy_unavailable', message: 'no policy can be used for the tenant now' }];

/** One admitted request. */
interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly caller: Caller;
  readonly requestId: string | undefined;
  readonly traceparent: string | undefined;
  readonly startedMs: number;
  readonly limits: InputLimits;
  /** Whether an event of it exists. */
  hasEvent: boolean;
}

/** An event that could not be appended, or not be made durable: the answer is 503, whatever was decided. */
class NotRecorded extends Error {
  readonly code: ErrorCode;
  readonly hasEvent: boolean;
  constructor(code: ErrorCode, hasEvent: boolean) {
    super(code);
    this.code = code;
    this.hasEvent = hasEvent;
  }
}

const send = (exchange: Exchange, status: number, body: string): void => {
  const { response, requestId } = exchange;
  response.writeHead(status, {
    'content-type': status === 200 ? JSON_TYPE : PROBLEM_TYPE,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(requestId === undefined ? {} : { 'x-request-id': requestId }),
  });
  response.end(body);
};

export const createDecideEndpoint = (options: DecideEndpointOptions): DecideEndpoint => {
  const { decide, policyFor, whyNot, admit, refuse, bodies, metrics, logger, monotonicMs } = options;
  let inFlight = 0;
  const loggedMs = new Map<string, number>();
  const turnEnd = createTurnEnd();

  const noteFault = (code: string, message: string | undefined, decisionId: string): void => {
    metrics.fault(code);
    const now = monotonicMs();
    if (now - (loggedMs.get(code) ?? Number.NEGATIVE_INFINITY) < FAULT_LOG_MS) return;
    loggedMs.set(code, now);
    logger.error({ code, reason: message, decision_id: decisionId }, 'decision denied by a fault');
  };

  const policyLater = async (tenant: string): Promise<DecidingPolicy | undefined> => {
    const ready = options.readyFor(tenant);
    if (ready === undefined) return undefined;
    await ready;
    return policyFor(tenant);
  };

  const turnAway = (exchange: Exchange, refused: RefusedRequest): void =>
    refuse(exchange.request, exchange.response, {
      caller: exchange.caller,
      requestId: exchange.requestId,
      ...refused,
    });

  /** Throws `NotRecorded`. */
  const decideOne = (
    exchange: Exchange,
    request: Parameters<Decide>[0]['request'],
    policy: DecidingPolicy,
  ): Decided => {
    const { caller, requestId, traceparent, startedMs } = exchange;
    try {
      const decided = decide({ request, caller, policy, requestId, traceparent, startedMs });
      exchange.hasEvent = true;
      if (decided.fault !== undefined) noteFault(decided.fault, decided.faultMessage, decided.decisionId);
      return decided;
    } catch (error) {
      if (isAppError(error) && httpStatus(error.code) === 503) throw new NotRecorded(error.code, false);
      // A fault of ours: what it decided, if anything, has no event, and so is not given.
      logger.error({ err: error }, 'a decision could not be recorded');
      throw new NotRecorded('internal', false);
    }
  };

  /** Throws `NotRecorded`. */
  const durabilityOf = async ({ recorded }: Decided): Promise<Durability> => {
    try {
      return await recorded.durable;
    } catch (error) {
      throw new NotRecorded(isAppError(error) ? error.code : 'event_not_durable', true);
    }
  };

  const answerNotRecorded = (exchange: Exchange, { code, hasEvent }: NotRecorded, body: Buffer): void =>
    turnAway(exchange, {
      status: 503,
      code,
      detail: 'the decision could not be recorded as configured, so it is not given',
      headers: RETRY,
      body,
      isCounted: !hasEvent,
    });

  const count = (exchange: Exchange, { allow }: Decided): void =>
    metrics.decided(exchange.caller.tenant, allow, (monotonicMs() - exchange.startedMs) / 1_000);

  const answerSingle = async (exchange: Exchange, body: Buffer): Promise<void> => {
    const parsed = parseStrictJson(body, exchange.limits);
    if (!parsed.ok)
      return turnAway(exchange, { status: 400, code: 'request_invalid', problems: parsed.problems, body });
    const checked = checkRequest(parsed.value, exchange.caller);
    if (!checked.ok)
      return turnAway(exchange, { status: 400, code: 'request_invalid', problems: checked.problems, body });
    const revision = checked.request.at_least?.data_revision;
    if (revision !== undefined) await options.waitForData(exchange.caller.tenant, revision);
    // All bodies of the turn are read before the first is decided; see `createTurnEnd`.
    await Promise.resolve();
    const { tenant } = exchange.caller;
    const policy = policyFor(tenant) ?? (await policyLater(tenant));
    if (policy === undefined) return turnAway(exchange, { status: 503, code: whyNot(tenant), headers: RETRY, body });
    // Those that were let in together must not all go on when the first of them used the fuel up.
    const waitS = options.fuelWaitS(exchange.caller.tenant);
    if (waitS > 0) return turnAway(exchange, { ...FUEL_EXHAUSTED, headers: { 'retry-after': String(waitS) }, body });
    const decided = decideOne(exchange, checked.request, policy);
    const level = await durabilityOf(decided);
    const { fault, answerMembers, recorded } = decided;
    if (fault === undefined) send(exchange, 200, answerBody(answerMembers, recorded, level));
    else send(exchange, 500, faultBody(fault, answerMembers, recorded, level));
    count(exchange, decided);
  };

  type Slot = Decided | string;

  /** Throws `NotRecorded`. Bad items become the text of their denial, and a refusal of the body they came in. */
  const decideAll = async (
    exchange: Exchange,
    body: Buffer,
    batch: Batch,
    first: DecidingPolicy,
    slots: Slot[],
  ): Promise<void> => {
    const { caller } = exchange;
    const denyItem = (
      { code, status }: { readonly code: string; readonly status: number },
      problems: Parameters<typeof deniedItem>[0],
    ): void => {
      metrics.refused(code, status);
      options.countRefusal({ tenant: caller.tenant, caller: caller.id, code, status, bytes: body.length, body });
      slots.push(deniedItem(problems));
    };
    let policy: DecidingPolicy | undefined = first;
    let sliceStartMs = monotonicMs();
    for (let index = 0; index < batch.length; index += 1) {
      if (policy === undefined) {
        denyItem({ code: whyNot(caller.tenant), status: 503 }, NO_POLICY);
        continue;
      }
      const item = options.fuelWaitS(caller.tenant) > 0 ? OUT_OF_FUEL : batch.item(index, caller);
      if (item.ok) {
        const decided = decideOne(exchange, item.request, policy);
        // Awaited only when all are decided; until then a rejection must not count as unhandled.
        decided.recorded.durable.catch(ignore);
        slots.push(decided);
      } else denyItem(item === OUT_OF_FUEL ? FUEL_EXHAUSTED : REQUEST_INVALID, item.problems);
      const isLate = monotonicMs() - sliceStartMs >= BATCH_SLICE_MS;
      if (isLate) await nextTurn();
      // An engine that a fault took may need some time.
      const isReady = policyFor(caller.tenant) !== undefined;
      if (!isReady) await options.readyFor(caller.tenant);
      if (isReady && !isLate) continue;
      // The same set; data that was pushed meanwhile is in its engines already, and the items say so.
      policy = policyFor(caller.tenant, policy);
      sliceStartMs = monotonicMs();
    }
  };

  const answerBatch = async (exchange: Exchange, body: Buffer): Promise<void> => {
    const { limits } = exchange;
    const json = { maxDepth: limits.maxDepth + BATCH_DEPTH, maxMembers: MAX_BATCH_MEMBERS };
    const parsed = parseStrictJson(body, json);
    if (!parsed.ok)
      return turnAway(exchange, { status: 400, code: 'request_invalid', problems: parsed.problems, body });
    const checked = checkBatch(parsed.value, { bytes: body.length, members: parsed.members }, limits);
    if (!checked.ok) {
      const code = checked.status === 413 ? 'too_large' : 'request_invalid';
      return turnAway(exchange, { status: checked.status, code, problems: checked.problems, body });
    }
    const revision = checked.batch.atLeast;
    if (revision !== undefined) await options.waitForData(exchange.caller.tenant, revision);
    const { tenant } = exchange.caller;
    const policy = policyFor(tenant) ?? (await policyLater(tenant));
    if (policy === undefined) return turnAway(exchange, { status: 503, code: whyNot(tenant), headers: RETRY, body });
    options.charge(exchange.caller, checked.batch.length - 1);
    const slots: Slot[] = [];
    await decideAll(exchange, body, checked.batch, policy, slots);
    const texts: string[] = [];
    for (const slot of slots)
      texts.push(
        typeof slot === 'string' ? slot : answerBody(slot.answerMembers, slot.recorded, await durabilityOf(slot)),
      );
    const allow = slots.every((slot) => typeof slot !== 'string' && slot.allow);
    const head = `"decision":"${allow ? 'allow' : 'deny'}","allow":${allow},"reasons":${JSON.stringify(allow ? [] : BATCH_DENIED)}`;
    send(exchange, 200, `{${head},"responses":[${texts.join(',')}]}`);
    for (const slot of slots) if (typeof slot !== 'string') count(exchange, slot);
  };

  const readAndAnswer = async (
    exchange: Exchange,
    limitBytes: number,
    answer: (exchange: Exchange, body: Buffer) => Promise<void>,
  ): Promise<void> => {
    const { request } = exchange;
    if (request.headers.expect !== undefined && Number(request.headers['content-length'] ?? 0) <= limitBytes)
      exchange.response.writeContinue();
    const body = await bodies.read(request, limitBytes);
    await turnEnd();
    switch (body.kind) {
      case 'aborted':
        return metrics.refused('aborted', 0);
      case 'slow':
        return turnAway(exchange, { status: 408, code: 'body_timeout', body: body.bytes });
      case 'too_large': {
        const detail = `a body may have ${limitBytes} bytes`;
        return turnAway(exchange, {
          status: 413,
          code: 'too_large',
          detail,
          body: body.bytes,
          lengthBytes: body.lengthBytes,
        });
      }
      case 'whole':
        break;
      default:
        return body satisfies never;
    }
    const detail = typeProblem(request);
    if (detail !== undefined)
      return turnAway(exchange, { status: 415, code: 'unsupported_type', detail, body: body.bytes });
    try {
      await answer(exchange, body.bytes);
    } catch (error) {
      if (error instanceof NotRecorded) return answerNotRecorded(exchange, error, body.bytes);
      logger.error({ err: error }, 'decide failed');
      if (exchange.response.headersSent) return;
      // 500 says that there is an event of it, any other status that it counts as a refusal.
      const { hasEvent } = exchange;
      turnAway(exchange, {
        status: hasEvent ? 500 : 503,
        code: 'internal',
        body: body.bytes,
        isCounted: !hasEvent,
        ...(hasEvent ? {} : { headers: RETRY }),
      });
    }
  };

  const handle = async (
    request: IncomingMessage,
    response: ServerResponse,
    startedMs: number,
    bodyLimit: (limits: InputLimits) => number,
    answer: (exchange: Exchange, body: Buffer) => Promise<void>,
  ): Promise<void> => {
    const requestId = requestIdOf(request);
    const admitted = admit(request, 'decide');
    if ('refused' in admitted) return refuse(request, response, { requestId, ...admitted.refused });
    const { caller } = admitted;
    const traceparent = traceparentOf(request);
    const limits = options.inputLimits(caller.tenant);
    const exchange: Exchange = {
      request,
      response,
      caller,
      requestId,
      traceparent,
      startedMs,
      limits,
      // A spread of the others here cost five percent of a decision, and the heap a third more.
      hasEvent: false,
    };
    if (inFlight >= options.maxInFlight) return turnAway(exchange, { status: 503, code: 'overloaded', headers: RETRY });
    inFlight += 1;
    try {
      await readAndAnswer(exchange, bodyLimit(limits), answer);
    } finally {
      inFlight -= 1;
    }
  };

  return {
    single: (request, response, startedMs) =>
      handle(request, response, startedMs, (limits) => limits.maxBytes, answerSingle),
    batch: (request, response, startedMs) =>
      handle(request, response, startedMs, () => LIMITS.batchBodyBytes, answerBatch),
    inFlight: () => inFlight,
  };
};

const ignore = (): void => undefined;
