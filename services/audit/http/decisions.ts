import type { RequestHandler } from 'express';
import { AppError } from '../../shared/contracts/errors.ts';
import { parseDecisionQuery, searchCriteria, type DecisionFilter, type SearchCriteria } from '../core/query.ts';
import { readCursor, writeCursor } from '../core/query-cursor.ts';
import type { LedgerReader } from '../core/query-reader.ts';
import { showCovered, showDecision, type ShownDecision } from '../core/query-show.ts';
import type { NameSubject } from '../core/pseudonym.ts';
import type { PublishedLog, TileReader } from '../../shared/tlog/tiles.ts';
import { auditorOf, parametersOf } from './access.ts';

export interface DecisionsDeps {
  readonly reader: Pick<LedgerReader, 'logs' | 'decisions'>;
  readonly tiles: Pick<TileReader, 'newest'>;
  /** 32 bytes; `home/keys/cursor.key`. */
  readonly cursorKey: Uint8Array;
  /** Pseudonyms of the search table. */
  readonly nameSubject: NameSubject;
  /** The tenant's key of masked members; undefined when it has none. */
  readonly maskKey: (tenant: string) => Uint8Array | undefined;
  /** Whose verified subjects a query by subject finds. Default: none. */
  readonly issuers?: () => readonly string[];
}

/** The filter as this tenant's search table knows it. */
export const criteriaOf = (
  { nameSubject, maskKey, issuers }: Omit<DecisionsDeps, 'reader' | 'tiles' | 'cursorKey'>,
  tenant: string,
  filter: DecisionFilter,
): SearchCriteria =>
  searchCriteria(filter, tenant, { nameSubject, maskKey: maskKey(tenant), issuers: issuers?.() ?? [] });

/** The newest checkpoint of a log, each asked for once, so that one answer says the same of all its rows. */
export const newestCheckpoints = ({ newest }: DecisionsDeps['tiles']): TileReader['newest'] => {
  const known = new Map<number, PublishedLog | undefined>();
  return async (logId) => {
    if (!known.has(logId)) known.set(logId, await newest(logId));
    return known.get(logId);
  };
};

/** `GET /v1/decisions`: one page. */
export const decisionsHandler =
  (deps: DecisionsDeps): RequestHandler =>
  async (request, response) => {
    const { tenant, caller } = auditorOf(response);
    const parameters = [...parametersOf(request.originalUrl)].filter(([name]) => name !== 'tenant');
    const { filter, order, limit, cursor: text } = parseDecisionQuery(parameters);
    const scope = { tenant, caller, filter, order };
    const cursor = text === undefined ? undefined : readCursor(deps.cursorKey, scope, text);
    const logs = await deps.reader.logs(tenant);
    const log = cursor === undefined ? logs[0] : logs.find(({ id }) => id === cursor.asOf.logId);
    if (log === undefined) throw new AppError('ledger_missing', `tenant ${tenant} has no ledger`);
    const asOf = cursor?.asOf ?? { logId: log.id, size: log.size };
    const newestOf = newestCheckpoints(deps.tiles);
    const checkpoint = await newestOf(log.id);
    const shown: ShownDecision[] = [];
    let after = cursor?.after;
    let hasMore = false;
    const found = deps.reader.decisions(tenant, criteriaOf(deps, tenant, filter), {
      order,
      asOf,
      ...(after === undefined ? {} : { after }),
      limit: limit + 1,
    });
    for await (const decision of found) {
      hasMore = shown.length === limit;
      if (hasMore) break;
      shown.push(showDecision(tenant, decision, deps.nameSubject, (await newestOf(decision.log.id))?.size ?? 0n));
      after = { logId: decision.log.id, seq: decision.seq };
    }
    response.json({
      tenant,
      as_of: { log: log.origin, size: String(asOf.size) },
      ...showCovered(
        checkpoint === undefined
          ? undefined
          : {
              log: log.origin,
              size: String(checkpoint.size),
              checkpoint: Buffer.from(checkpoint.note).toString('utf8'),
            },
      ),
      filter,
      order,
      decisions: shown,
      next_cursor: hasMore && after !== undefined ? writeCursor(deps.cursorKey, scope, { after, asOf }) : null,
    });
  };
