import { isObject } from '../../shared/contracts/json.ts';
import { isTenant } from '../../shared/contracts/tenant.ts';
import { parsePatch } from './json-patch.ts';
import { formatPointer, parsePointer } from './json-pointer.ts';
import type { DataChange } from './pushed-data.ts';

/** One push as it stands in the stream: JSON `{v: 1, id, tenant, not_after?, op, path, value | patch}`. */
export interface DataRecord {
  /** A UUIDv7: a broker may store a message twice. */
  readonly id: string;
  readonly tenant: string;
  /** Unix ms: stored later it has no effect, for who pushed it was told that it failed. */
  readonly notAfterMs?: number;
  readonly change: DataChange;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

const contentOf = (change: DataChange): object => {
  switch (change.op) {
    case 'put':
      return { value: change.value };
    case 'patch':
      return {
        patch: change.operations.map((operation) => ({
          ...operation,
          path: formatPointer(operation.path),
          ...('from' in operation ? { from: formatPointer(operation.from) } : {}),
        })),
      };
    case 'delete':
      return {};
    default:
      return change satisfies never;
  }
};

export const encodeRecord = ({ id, tenant, notAfterMs, change }: DataRecord): string =>
  JSON.stringify({
    v: 1,
    id,
    tenant,
    // Left out when undefined.
    not_after: notAfterMs,
    op: change.op,
    path: formatPointer(change.path),
    ...contentOf(change),
  });

const changeOf = (value: Readonly<Record<string, unknown>>): DataChange | undefined => {
  const path = typeof value['path'] === 'string' ? parsePointer(value['path']) : undefined;
  if (path === undefined) return undefined;
  switch (value['op']) {
    case 'put':
      return Object.hasOwn(value, 'value') ? { op: 'put', path, value: value['value'] } : undefined;
    case 'patch': {
      const parsed = parsePatch(value['patch']);
      return parsed.ok ? { op: 'patch', path, operations: parsed.operations } : undefined;
    }
    case 'delete':
      return { op: 'delete', path };
    default:
      return undefined;
  }
};

/** A parsed record; undefined for anything else. */
export const recordOf = (value: unknown): DataRecord | undefined => {
  if (!isObject(value) || value['v'] !== 1) return undefined;
  const { id, tenant, not_after: notAfterMs } = value;
  if (typeof id !== 'string' || !UUID.test(id) || typeof tenant !== 'string' || !isTenant(tenant)) return undefined;
  const change = changeOf(value);
  if (change === undefined) return undefined;
  if (notAfterMs === undefined) return { id, tenant, change };
  return typeof notAfterMs === 'number' && Number.isSafeInteger(notAfterMs)
    ? { id, tenant, notAfterMs, change }
    : undefined;
};
