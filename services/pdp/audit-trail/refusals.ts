import { createHmac } from 'node:crypto';
import type { CountRefusal, Refusal } from '../core/record.ts';

/** The refusals of one caller in one second, ready to be written. */
export interface RefusalCount {
  readonly tenant: string;
  /** Of all codes together. */
  readonly count: number;
  /** The members of the event's `data` as JSON text without braces. */
  readonly members: string;
}

export interface RefusalCounter {
  readonly count: CountRefusal;
  /** Hands over every second that is over (`all`: the current one too) and forgets it. */
  readonly take: (nowMs: number, all?: boolean) => readonly RefusalCount[];
}

interface Code {
  readonly code: string;
  readonly status: number;
  count: number;
  largestBytes: number;
  firstBody: string | undefined;
}

interface Second {
  readonly tenant: string;
  readonly caller: string;
  readonly secondMs: number;
  readonly codes: Map<string, Code>;
}

/** Callers times seconds that wait to be written. */
const MAX_SECONDS = 4096;
/** The codes are a closed list of the program; this only keeps one event small whatever comes. */
const MAX_CODES = 64;

/**
 * Counts refusals by caller and second. A body stands in the event only as HMAC-SHA256 under the tenant's mask key,
 * the first of each code. What there is no room to count here goes to `onOverflow`.
 */
export const createRefusalCounter = (options: {
  readonly nowMs: () => number;
  readonly maskKey: (tenant: string) => { readonly key: Uint8Array };
  readonly onOverflow: (tenant: string, count: number) => void;
}): RefusalCounter => {
  const seconds = new Map<string, Second>();

  const codeOf = (refusal: Refusal): Code | undefined => {
    const secondMs = Math.floor(options.nowMs() / 1000) * 1000;
    const key = `${secondMs} ${refusal.tenant} ${refusal.caller}`;
    let second = seconds.get(key);
    if (second === undefined) {
      if (seconds.size >= MAX_SECONDS) return undefined;
      second = { tenant: refusal.tenant, caller: refusal.caller, secondMs, codes: new Map() };
      seconds.set(key, second);
    }
    const codeKey = `${refusal.status} ${refusal.code}`;
    let code = second.codes.get(codeKey);
    if (code === undefined) {
      if (second.codes.size >= MAX_CODES) return undefined;
      code = { code: refusal.code, status: refusal.status, count: 0, largestBytes: 0, firstBody: undefined };
      second.codes.set(codeKey, code);
    }
    return code;
  };

  const hmacOf = ({ tenant, body }: Refusal): string | undefined => {
    if (body === undefined) return undefined;
    try {
      return createHmac('sha256', options.maskKey(tenant).key).update(body).digest('hex');
    } catch {
      // No key for this tenant: the refusal counts all the same.
      return undefined;
    }
  };

  return {
    count(refusal) {
      const code = codeOf(refusal);
      if (code === undefined) {
        options.onOverflow(refusal.tenant, 1);
        return;
      }
      code.count += 1;
      code.largestBytes = Math.max(code.largestBytes, refusal.bytes);
      if (code.count === 1) code.firstBody = hmacOf(refusal);
    },
    take(nowMs, all = false) {
      const ready: RefusalCount[] = [];
      for (const [key, { tenant, caller, secondMs, codes }] of seconds) {
        if (!all && secondMs + 1000 > nowMs) continue;
        seconds.delete(key);
        const refusals = [...codes.values()].map(({ code, status, count, largestBytes, firstBody }) => ({
          code,
          status,
          count,
          largest_bytes: largestBytes,
          ...(firstBody === undefined ? {} : { first_body: firstBody }),
        }));
        const data = {
          caller: { id: caller },
          from: new Date(secondMs).toISOString(),
          to: new Date(secondMs + 1000).toISOString(),
          refusals,
        };
        ready.push({
          tenant,
          count: refusals.reduce((sum, { count }) => sum + count, 0),
          members: JSON.stringify(data).slice(1, -1),
        });
      }
      return ready;
    },
  };
};
