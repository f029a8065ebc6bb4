import { isObject } from '../../shared/contracts/json.ts';
import { describeDecision } from './ingest-search.ts';
import type { EvidenceAbout } from './evidence-format.ts';

type Filter = EvidenceAbout['filter'];

/** As many UTF-16 code units as the search compares. */
const COMPARED = 512;

/** Whether a value is the one that was asked for; a masked one may be. */
const mayBe = (value: string | undefined, wanted: string): boolean =>
  value !== undefined && (value.startsWith('masked:') || value.slice(0, COMPARED) === wanted.slice(0, COMPARED));

/** Whether the members stand in the path in this order, others perhaps between them. */
const isInOrder = (path: readonly string[], members: readonly string[]): boolean => {
  let at = 0;
  for (const member of members) {
    while (at < path.length && !mayBe(path[at], member)) at += 1;
    if (at === path.length) return false;
    at += 1;
  }
  return true;
};

/**
 * The first member of the filter that a decision's event does not meet; undefined when it meets all, as far as can be
 * told without mask key. `event`: parsed; one that is no decision meets nothing.
 */
export const unmetFilter = (
  filter: Filter,
  event: Readonly<Record<string, unknown>>,
  eventId: string,
  tenant: string,
): string | undefined => {
  const { data, time } = event;
  const timeMs = typeof time === 'string' ? Date.parse(time) : Number.NaN;
  const described = isObject(data) ? describeDecision(data, eventId, timeMs, tenant) : undefined;
  if (described === undefined || Number.isNaN(timeMs)) return 'decision';
  const { search, subject } = described;
  const path = [...(search.chain ?? []), ...(search.agent === undefined ? [] : [search.agent])];
  const is = (value: string | undefined) => (wanted: string) => mayBe(value, wanted);
  const meets: Readonly<Record<string, (wanted: string) => boolean>> = {
    from: (wanted) => timeMs >= Date.parse(wanted),
    to: (wanted) => timeMs < Date.parse(wanted),
    subject: is(subject.id),
    subject_type: is(subject.type),
    agent: is(search.agent),
    action: is(search.action),
    resource: is(search.resource),
    resource_type: is(search.resourceType),
    decision: is(search.decision),
    reason: (wanted) => search.reasons.some((code) => mayBe(code, wanted)),
    session: is(search.session),
    purpose: is(search.purpose),
    request_id: is(search.requestId),
  };
  return Object.entries(filter).find(([name, wanted]) =>
    typeof wanted === 'string'
      ? !(Object.hasOwn(meets, name) && meets[name]?.(wanted) === true)
      : !isInOrder(path, wanted),
  )?.[0];
};
