import fc from 'fast-check';
import { completeTo, streamKey } from '../../../services/audit/core/ingest-stream.ts';
import { generateSigningKey } from '../../../services/shared/contracts/signatures.ts';
import { createEmitter, ingest, newLedger, payloadOf, type Ledger, type MadeEvent } from './ingest-fixtures.ts';

const kinds = (ledger: Ledger, tenant: string): readonly string[] =>
  (ledger.entries.get(tenant) ?? []).map(({ kind }) => kind);
const stream = (ledger: Ledger, emitter: string, tenant = 'acme', boot = '1') =>
  ledger.state.streams.get(`${emitter}/${boot}/${tenant}`);
const holes = (ledger: Ledger, emitter: string, tenant = 'acme', boot = '1') =>
  (stream(ledger, emitter, tenant, boot)?.holes ?? []).map(({ from, to }) => [Number(from), Number(to)]);

describe('a valid event', () => {
  it.each([
    ['edict.decision.v1', 'acme', 'decision'],
    ['edict.refusals.v1', 'acme', 'refusals'],
    ['edict.heartbeat.v1', 'acme', 'heartbeat'],
    ['edict.start.v1', 'edict', 'emitter'],
    ['edict.activation.v1', 'acme', 'activation'],
    ['edict.artifact.v1', 'acme', 'artifact'],
    ['edict.fulfilment.v1', 'acme', 'fulfilment'],
  ])('%s of %s becomes a %s entry that copies its place', (type, tenant, kind) => {
    const ledger = newLedger();
    const emitter = createEmitter();
    const event = emitter.event(tenant, { type });
    ingest(ledger, [event]);
    expect(ledger.entries.get(tenant)).toEqual([
      expect.objectContaining({
        kind,
        eventId: event.id,
        topic: 'edict.decisions.v1',
        partition: 0,
        offset: 0n,
        emitter: emitter.id,
        boot: 1n,
        emitterSeq: 1n,
        contentType: 'application/cloudevents+json',
        payload: event.bytes,
      }),
    ]);
  });

  it('binds the policy set in decisions and activations only', () => {
    const ledger = newLedger();
    const emitter = createEmitter();
    ingest(ledger, [
      emitter.event('acme'),
      emitter.event('acme', { type: 'edict.activation.v1' }),
      emitter.event('acme', { type: 'edict.heartbeat.v1', data: { policy: { set: `sha256:${'ee'.repeat(32)}` } } }),
    ]);
    const digests = ledger.entries.get('acme')?.map((entry) => Buffer.from(entry.policySetDigest).toString('hex'));
    expect(digests).toEqual(['ab'.repeat(32), 'cd'.repeat(32), '00'.repeat(32)]);
  });

  it('of a decision is kept under its subject and found by its search row', () => {
    const ledger = newLedger();
    ingest(ledger, [createEmitter().event('acme')]);
    const subject = { issuer: 'https://issuer.test', type: 'user', id: 'alice' };
    expect(ledger.entries.get('acme')?.[0]).toMatchObject({
      subject,
      search: {
        decision: 'deny',
        reasons: ['agent_not_entitled'],
        subject,
        agent: 'analytics-agent',
        action: 'read',
        resourceType: 'dataset',
        resource: 'hr.salaries',
        purpose: 'headcount-report',
        session: 's-1',
        requestId: 'r-1',
        caller: 'gw-1',
      },
    });
  });

  it('with masked members is kept under the mask, with characters that no database takes made harmless', () => {
    const ledger = newLedger();
    const masked = { masked: 'aa'.repeat(32), key: 'k1' };
    const input = {
      subject: { type: 'user', id: masked, verified: false, claims: { iss: 'not verified' } },
      action: { name: 'a\0b\ud800' },
      resource: masked,
      context: {},
    };
    ingest(ledger, [createEmitter().event('acme', { data: { input } })]);
    expect(ledger.entries.get('acme')?.[0]).toMatchObject({
      subject: { issuer: '', type: 'user', id: `masked:${'aa'.repeat(32)}` },
      search: { action: 'a\uFFFDb\uFFFD', resource: `masked:${'aa'.repeat(32)}` },
    });
  });

  it('of a newer schema is stored as its kind, whatever its members have become', () => {
    const ledger = newLedger();
    const emitter = createEmitter();
    ingest(ledger, [
      emitter.event('acme', { data: { schema_version: 2, input: 7, answer: null, policy: 'p', nonce: 1 } }),
      emitter.event('acme', { type: 'edict.heartbeat.v1', data: { schema_version: 3, state: 'dreaming' } }),
    ]);
    expect(kinds(ledger, 'acme')).toEqual(['decision', 'heartbeat']);
    expect(completeTo(stream(ledger, emitter.id) ?? { highest: 0n, holes: [] })).toBe(2n);
  });
});

describe('a message that is no event', () => {
  const emitter = createEmitter();
  const good = emitter.event('acme');
  const broken = (bytes: Buffer | string) => ({ ...good, bytes: Buffer.from(bytes) });
  const text = good.bytes.toString();
  it.each([
    ['too_large', broken(Buffer.alloc(1024 * 1024 + 1, 0x20))],
    ['not_utf8', broken(Buffer.from([0x7b, 0xff, 0x7d]))],
    ['not_json', broken('{')],
    ['not_json', broken('')],
    ['ambiguous_json', broken(text.replace('"specversion"', '"id":"x","specversion"'))],
    ['ambiguous_json', broken(text.replace('"specversion"', '"\\u0069d":"x","specversion"'))],
    ['ambiguous_json', broken(text.replace('"agent":', `"deep":${'['.repeat(200)}${']'.repeat(200)},"agent":`))],
    ['not_cloudevent', broken('[]')],
    ['not_cloudevent', broken(text.replace('"1.0"', '"0.3"'))],
    ['not_cloudevent', createEmitter().event('acme', { envelope: { time: 'yesterday' } })],
    ['not_cloudevent', createEmitter().event('acme', { id: 'not-a-uuid' })],
    ['unknown_type', createEmitter().event('acme', { type: 'edict.surprise.v1' })],
    ['malformed_event', createEmitter().event('acme', { data: { nonce: 'short' } })],
    ['malformed_event', createEmitter().event('acme', { data: { policy: {} } })],
    ['malformed_event', createEmitter().event('acme', { data: { answer: { decision: 'maybe' } } })],
    ['malformed_event', createEmitter().event('acme', { type: 'edict.start.v1' })],
    [
      'malformed_event',
      createEmitter().event('acme', { type: 'edict.lost.v1', data: { lost: [{ boot: '2', from: '1', to: '1' }] } }),
    ],
    ['headers_disagree', { ...good, headers: { ...good.headers, sequence: '2' } }],
    ['headers_disagree', { ...good, headers: { ...good.headers, tenant: 'edict' } }],
    ['headers_disagree', createEmitter().event('acme', { envelope: { source: '0'.repeat(32) } })],
    ['headers_missing', { ...good, headers: { tenant: 'acme' } }],
    [
      'too_many_headers',
      {
        ...good,
        headers: { ...good.headers, ...Object.fromEntries(Array.from({ length: 61 }, (_, i) => [`h${i}`, ''])) },
      },
    ],
    [
      'signature_invalid',
      createEmitter().event('edict', { type: 'edict.start.v1', signedBy: generateSigningKey().key }),
    ],
  ])('is quarantined once as %s, with its bytes', (reason, message) => {
    const ledger = newLedger();
    ingest(ledger, [message, message]);
    ingest(ledger, [message]);
    const log = message.headers['tenant'] ?? 'acme';
    const [entry, ...more] = ledger.entries.get(log) ?? [];
    expect(more).toEqual([]);
    expect(entry).toMatchObject({ kind: 'quarantine', offset: 0n, emitter: '0'.repeat(32), boot: 0n, emitterSeq: 0n });
    expect(payloadOf(entry)).toMatchObject({
      reason,
      headers: Object.entries(message.headers),
      bytes_base64: message.bytes.toString('base64'),
    });
    expect(ledger.counts).toEqual({ quarantined: 1, duplicates: 2 });
  });

  it('counts as received only when its headers name emitter, boot and sequence', () => {
    const ledger = newLedger();
    ingest(ledger, [broken('{')]);
    expect(stream(ledger, emitter.id)).toMatchObject({ highest: 1n, holes: [] });
    const other = newLedger();
    ingest(other, [{ bytes: Buffer.from('{'), headers: { tenant: 'acme', emitter: emitter.id } }]);
    expect(other.state.streams.size).toBe(0);
  });

  it('does not keep the genuine event with its number out', () => {
    const ledger = newLedger();
    ingest(ledger, [broken('{'), good]);
    expect(kinds(ledger, 'acme')).toEqual(['quarantine', 'decision']);
  });

  it('goes to the system ledger when its header names no tenant at all', () => {
    const ledger = newLedger();
    ingest(ledger, [{ bytes: Buffer.from('junk'), headers: {} }]);
    expect(kinds(ledger, 'edict')).toEqual(['quarantine']);
  });
});

describe('events of a tenant without a ledger', () => {
  it('leave headers and digest in the system ledger, once, and become ordinary entries when there is one', () => {
    const ledger = newLedger(['edict']);
    const emitter = createEmitter();
    const events = [emitter.event('acme'), emitter.event('acme')];
    ingest(ledger, [...events, ...events]);
    expect(kinds(ledger, 'edict')).toEqual(['quarantine', 'quarantine']);
    expect(payloadOf(ledger.entries.get('edict')?.[0])).not.toHaveProperty('bytes_base64');
    expect(ledger.state.streams.size).toBe(0);
    ledger.state = { ...ledger.state, tenants: new Set(['edict', 'acme']) };
    ingest(ledger, events);
    expect(kinds(ledger, 'acme')).toEqual(['decision', 'decision']);
    expect(kinds(ledger, 'edict')).toHaveLength(2);
    expect(stream(ledger, emitter.id)).toMatchObject({ highest: 2n, holes: [] });
  });
});

describe('pinned emitters', () => {
  it('alone count: others are quarantined, once, and their numbers stay open', () => {
    const ledger = newLedger();
    const [ours, theirs] = [createEmitter(), createEmitter()];
    const event = theirs.event('acme');
    ingest(ledger, [ours.event('acme'), event, event], { pinned: new Set([ours.id]) });
    expect(kinds(ledger, 'acme')).toEqual(['decision', 'quarantine']);
    expect(stream(ledger, theirs.id)).toBeUndefined();
  });
});

describe('conflicts', () => {
  it('keeps the same id with other bytes, and the same number under another id, beside the first', () => {
    const ledger = newLedger();
    const emitter = createEmitter();
    const first = emitter.event('acme');
    const sameId = emitter.event('acme', { id: first.id });
    const sameNumber = emitter.event('acme', { sequence: 1n });
    ingest(ledger, [first, sameId, sameNumber, sameId, sameNumber]);
    expect(kinds(ledger, 'acme')).toEqual(['decision', 'conflict', 'conflict']);
    expect(ledger.entries.get('acme')?.slice(1).map(payloadOf)).toMatchObject([
      { reason: 'id_reused', first_event_id: first.id, bytes_base64: sameId.bytes.toString('base64') },
      { reason: 'position_reused', first_event_id: first.id },
    ]);
    expect(stream(ledger, emitter.id)).toMatchObject({ highest: 2n, holes: [] });
  });

  it.each([[[0, 1]], [[1, 0]]])('alerts when an event names another one before it, in order %j', (order) => {
    const ledger = newLedger();
    const emitter = createEmitter();
    const events = [emitter.event('acme'), emitter.event('acme', { previous: 'ee'.repeat(32) })];
    ingest(
      ledger,
      order.map((index) => events[index] as MadeEvent),
    );
    expect(kinds(ledger, 'acme').toSorted()).toEqual(['alert', 'decision', 'decision']);
  });
});

describe('attestation', () => {
  it('stores heartbeats before the start event is known and checks them afterwards', () => {
    const ledger = newLedger();
    const emitter = createEmitter();
    const forged = { type: 'edict.heartbeat.v1', signedBy: generateSigningKey().key };
    ingest(ledger, [
      emitter.event('acme', forged),
      emitter.event('edict', { type: 'edict.start.v1' }),
      emitter.event('acme', { type: 'edict.heartbeat.v1' }),
      emitter.event('acme', forged),
    ]);
    expect(kinds(ledger, 'acme')).toEqual(['heartbeat', 'heartbeat', 'quarantine']);
    expect(ledger.state.emitterKeys.get(emitter.id)).toEqual(emitter.key.publicKey);
    expect(stream(ledger, emitter.id)?.highest).toBe(3n);
  });
});

describe('streams', () => {
  it('show holes until the number comes, is announced lost by its emitter, or never', () => {
    const ledger = newLedger();
    const emitter = createEmitter();
    const events = Array.from({ length: 5 }, () => emitter.event('acme'));
    ingest(ledger, [events[0], events[2], events[4]] as MadeEvent[]);
    expect(holes(ledger, emitter.id)).toEqual([
      [2, 2],
      [4, 4],
    ]);
    ingest(ledger, [events[1] as MadeEvent]);
    expect(holes(ledger, emitter.id)).toEqual([[4, 4]]);
    ingest(ledger, [
      emitter.event('acme', { type: 'edict.lost.v1', data: { lost: [{ boot: '1', from: '4', to: '4' }] } }),
    ]);
    expect(holes(ledger, emitter.id)).toEqual([]);
  });

  it('of earlier boots are as long as a later boot says they were, so a tail that never came is a hole', () => {
    const ledger = newLedger();
    const emitter = createEmitter(2n);
    const recovered = [{ boot: '1', sequence: '9', digest: 'aa'.repeat(32) }];
    ingest(ledger, [emitter.event('acme', { type: 'edict.heartbeat.v1', data: { recovered } })]);
    expect(holes(ledger, emitter.id, 'acme', '1')).toEqual([[1, 9]]);
  });

  it('heal the gap that named a late number, once for a batch', () => {
    const ledger = newLedger();
    const emitter = createEmitter();
    const events = Array.from({ length: 5 }, () => emitter.event('acme'));
    ingest(ledger, [events[0], events[4]] as MadeEvent[]);
    const [key, open] = [...ledger.state.streams][0] ?? [];
    if (key === undefined || open === undefined) throw new Error('no stream');
    const named = { ...open, holes: open.holes.map((hole) => ({ ...hole, gapSeq: 17n })) };
    ledger.state = { ...ledger.state, streams: new Map([[key, named]]) };
    ingest(ledger, [events[1], events[2]] as MadeEvent[]);
    expect(kinds(ledger, 'acme').slice(2)).toEqual(['decision', 'decision', 'heal']);
    expect(payloadOf(ledger.entries.get('acme')?.at(-1))).toMatchObject({
      gaps: [{ gap: '17', healed: [['2', '3']] }],
    });
    ingest(ledger, [events[3] as MadeEvent]);
    expect(payloadOf(ledger.entries.get('acme')?.at(-1))).toMatchObject({
      gaps: [{ gap: '17', healed: [['4', '4']] }],
    });
  });

  it('heal all gaps of a stream by one entry, however many a lost event names', () => {
    const ledger = newLedger();
    const emitter = createEmitter(2n);
    ingest(ledger, [emitter.event('acme')]);
    const [key, open] = [...ledger.state.streams][0] ?? [];
    if (key === undefined || open === undefined) throw new Error('no stream');
    const gaps = Array.from({ length: 1_000 }, (_, index) => {
      const number = 2n * BigInt(index) + 1n;
      return { from: number, to: number, sinceMs: 0, gapSeq: BigInt(index) };
    });
    const earlier = { ...open, boot: 1n, highest: 2_000n, holes: gaps };
    ledger.state = {
      ...ledger.state,
      streams: new Map([
        [key, open],
        [streamKey(earlier), earlier],
      ]),
    };
    ingest(ledger, [
      emitter.event('acme', { type: 'edict.lost.v1', data: { lost: [{ boot: '1', from: '1', to: '2000' }] } }),
    ]);
    expect(holes(ledger, emitter.id, 'acme', '1')).toEqual([]);
    expect(kinds(ledger, 'acme').slice(1)).toEqual(['lost', 'heal']);
    const healed = payloadOf(ledger.entries.get('acme')?.at(-1)) as { readonly gaps: readonly unknown[] };
    expect(healed.gaps).toHaveLength(1_000);
  });

  it('stay right when a hostile number is as large as a number can be', () => {
    const ledger = newLedger();
    const emitter = createEmitter();
    ingest(ledger, [emitter.event('acme', { sequence: 2n ** 64n - 1n, previous: 'aa'.repeat(32) })]);
    expect(stream(ledger, emitter.id)?.holes).toMatchObject([{ from: 1n, to: 2n ** 64n - 2n }]);
  });
});

describe('offsets', () => {
  it('that are skipped become a gap entry of the system ledger, and those that were read are passed over', () => {
    const ledger = newLedger();
    const emitter = createEmitter();
    const events = [emitter.event('acme'), emitter.event('acme')];
    ingest(ledger, events, { offset: 5n });
    expect(kinds(ledger, 'edict')).toEqual(['gap']);
    expect(payloadOf(ledger.entries.get('edict')?.[0])).toMatchObject({ gap: 'offsets', from: '0', to: '4' });
    const again = ingest(ledger, events, { offset: 5n });
    expect(again.entries.size).toBe(0);
    expect(ledger.state.nextOffset).toBe(7n);
  });
});

describe('whatever the order and however often', () => {
  it('each event is one entry, streams are complete, and the counts are the same', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('acme', 'edict', 'beta'), { minLength: 1, maxLength: 25 }),
        fc.array(fc.nat(24), { maxLength: 40 }),
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 }),
        (tenants, repeats, random, sizes) => {
          const emitters = [createEmitter(), createEmitter(3n)] as const;
          const events = tenants.map((tenant, index) => emitters[index % 2 === 0 ? 0 : 1].event(tenant));
          const sent = [...events, ...repeats.flatMap((index) => events[index] ?? [])]
            .map((event) => ({ event, at: random.next().value as number }))
            .toSorted((a, b) => a.at - b.at)
            .map(({ event }) => event);
          const ledger = newLedger(['acme', 'edict', 'beta']);
          for (let at = 0, batch = 0; at < sent.length; batch += 1) {
            const size = sizes[batch % sizes.length] ?? 1;
            ingest(ledger, sent.slice(at, at + size));
            at += size;
          }
          const stored = [...ledger.entries.values()].flat();
          expect(stored.map(({ eventId }) => eventId).toSorted()).toEqual(events.map(({ id }) => id).toSorted());
          for (const each of ledger.state.streams.values()) expect(each.holes).toEqual([]);
          expect(ledger.counts['duplicates'] ?? 0).toBe(sent.length - events.length);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('a missing event is a hole and nothing else is', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 40 }), fc.func(fc.boolean()), fc.func(fc.nat()), (length, isLost, rank) => {
        const emitter = createEmitter();
        const events = Array.from({ length }, () => emitter.event('acme'));
        const lost = events.slice(0, -1).filter((_, index) => isLost(index));
        const sent = events
          .filter((event) => !lost.includes(event))
          .toSorted((a, b) => rank(a.sequence) - rank(b.sequence));
        const ledger = newLedger();
        for (const event of sent) ingest(ledger, [event]);
        const missing = holes(ledger, emitter.id).flatMap(([from = 0, to = 0]) =>
          Array.from({ length: to - from + 1 }, (_, index) => String(from + index)),
        );
        expect(missing).toEqual(lost.map(({ sequence }) => sequence));
      }),
      { numRuns: 100 },
    );
  });
});
