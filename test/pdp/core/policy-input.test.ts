import fc from 'fast-check';
import { Compile } from 'typebox/compile';
import { policyInputDocument, policyInputText } from '../../../services/pdp/core/policy-input.ts';
import type { DecisionRequest } from '../../../services/shared/contracts/decision.ts';
import { PolicyInput } from '../../../services/shared/contracts/policy-io.ts';

const caller = (believe: boolean) => ({
  id: 'gw "1"',
  tenant: 'acme',
  requires_agent: false,
  believe_unverified: believe,
  properties: { site: 'a' },
});
const check = Compile(PolicyInput);
const NOW_MS = 1_767_225_600_123;

const member = fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 });
const entity = fc.record({ type: fc.string(), id: fc.string(), properties: fc.option(member, { nil: undefined }) });
const request = fc
  .record({
    subject: entity,
    agent: fc.option(fc.tuple(entity, fc.option(fc.array(entity, { maxLength: 3 }), { nil: undefined })), {
      nil: undefined,
    }),
    action: fc.record({ name: fc.string(), properties: fc.option(member, { nil: undefined }) }),
    resource: entity,
    context: fc.option(member, { nil: undefined }),
  })
  // As it comes from a body: absent members are absent, numbers are JSON's.
  .map(({ agent, ...rest }): unknown =>
    JSON.parse(JSON.stringify({ ...rest, ...(agent && { agent: { ...agent[0], chain: agent[1] } }) })),
  );

describe('the policy input', () => {
  it('is the published document, with what the request says and nothing else', () => {
    fc.assert(
      fc.property(request, fc.boolean(), (sent, believe) => {
        const asked = sent as DecisionRequest;
        const input: unknown = JSON.parse(policyInputText(asked, caller(believe), NOW_MS));
        const party = ({ type, id, properties = {} }: DecisionRequest['subject']) => ({
          type,
          id,
          properties,
          verified: believe,
        });
        const { action, resource, agent, context = {} } = asked;
        expect(input).toEqual({
          version: 1,
          tenant: 'acme',
          caller: { id: 'gw "1"', properties: { site: 'a', believe_unverified: believe } },
          subject: party(asked.subject),
          ...(agent && { agent: { ...party(agent), chain: (agent.chain ?? []).map(party) } }),
          action: { properties: {}, ...action },
          resource: { properties: {}, ...resource },
          context,
          session: { labels: [], step: 0 },
          time: { rfc3339: '2026-01-01T00:00:00.123Z', ns: 1_767_225_600_123_000_000 },
        });
        expect(check.Check(input)).toBe(true);
        const document = policyInputDocument(asked, caller(believe), NOW_MS);
        expect(JSON.stringify(document)).toBe(JSON.stringify(input));
      }),
    );
  });

  it('holds no session token', () => {
    const asked = {
      subject: { type: 'user', id: 'a' },
      action: { name: 'read' },
      resource: { type: 'file', id: 'b' },
      context: { purpose: 'p', session_tokens: ['secret'] },
    };
    expect(JSON.parse(policyInputText(asked, caller(true), NOW_MS))).toMatchObject({ context: { purpose: 'p' } });
    expect(policyInputText(asked, caller(true), NOW_MS)).not.toContain('secret');
  });
});
