import { isObject } from '../../shared/contracts/json.ts';
import type { Settings } from '../../shared/settings/schema.ts';

/** What one worker wants to know of all of them, itself included. */
export type Question =
  | { readonly kind: 'checks' }
  | { readonly kind: 'metrics' }
  /** What a caller of this tenant may see. */
  | { readonly kind: 'bundles'; readonly tenant: string };

/** What a worker is to be. */
export interface Orders {
  /** From 0 to `count` - 1; its successor gets the same. */
  readonly index: number;
  readonly count: number;
  /** As they were when the group started, with the callers and tenants of now. */
  readonly settings: Settings;
  readonly settingsFile: string | undefined;
}

export interface GroupStatus {
  readonly wanted: number;
  /** Those that listen. */
  readonly running: number;
  /** Since the group started. */
  readonly restarts: number;
}

/** By index; undefined of a worker that is missing, or did not answer in time. */
export interface GroupAnswers {
  readonly status: GroupStatus;
  readonly answers: readonly unknown[];
}

export type ToWorker =
  | { readonly edict: 'orders'; readonly orders: Orders }
  | { readonly edict: 'question'; readonly id: number; readonly question: Question }
  | ({ readonly edict: 'answers'; readonly id: number } & GroupAnswers)
  | { readonly edict: 'reload' }
  | { readonly edict: 'ping' }
  | { readonly edict: 'stop' };

export type ToPrimary =
  | { readonly edict: 'hello' }
  | { readonly edict: 'listening'; readonly url: string }
  | { readonly edict: 'pong' }
  | { readonly edict: 'failed'; readonly code: string; readonly message: string }
  | { readonly edict: 'ask'; readonly id: number; readonly question: Question }
  | { readonly edict: 'reply'; readonly id: number; readonly answer: unknown };

/** Both ends are this program, so the mark alone tells a message of ours from those of Node and of libraries. */
const isOurs = (message: unknown): boolean => isObject(message) && typeof message['edict'] === 'string';
export const isToWorker = (message: unknown): message is ToWorker => isOurs(message);
export const isToPrimary = (message: unknown): message is ToPrimary => isOurs(message);
