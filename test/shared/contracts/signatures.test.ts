import { ackKey, parseAck, signAck } from '../../../services/shared/contracts/ack.ts';
import { attestedKey, isEventSignedBy, signEvent } from '../../../services/shared/contracts/events.ts';
import {
  emitterId,
  formatVkey,
  generateSigningKey,
  parseVkey,
  signingKeyFromPem,
} from '../../../services/shared/contracts/signatures.ts';

describe('verifier keys', () => {
  // The example key of the C2SP signed-note specification.
  const EXAMPLE = 'example.com/foo+530dda0f+AaW0KNxKJwDJ9c3HOZ/KHxkvCyDxoyUMAoKmSHRDKMgh';

  it('read and write a line in the form of C2SP signed-note', () => {
    const { key } = generateSigningKey();
    const line = formatVkey('edict.example/default/0/1', key.publicKey);
    const parsed = parseVkey(`${line}\n`);
    expect(parsed.name).toBe('edict.example/default/0/1');
    expect(parsed.publicKey.equals(key.publicKey)).toBe(true);
  });

  it.each([
    ['no key', 'name'],
    ['a wrong key id', EXAMPLE.replace('530dda0f', '00000000')],
    ['a cut key', 'name+00000000+AQ=='],
    ['a name with a space', `a ${EXAMPLE}`],
    ['another algorithm', `name+00000000+${Buffer.concat([Buffer.from([4]), Buffer.alloc(32)]).toString('base64')}`],
  ])('refuse %s', (_name, line) => {
    expect(() => parseVkey(line)).toThrow(/key/);
  });

  it('survive the way through a PEM file', () => {
    const { key, pem } = generateSigningKey();
    expect(signingKeyFromPem(pem).publicKey.equals(key.publicKey)).toBe(true);
  });
});

describe('acks', () => {
  const { key } = generateSigningKey();
  const trusted = parseVkey(formatVkey('audit', key.publicKey));
  const ack = signAck(key, {
    emitter: '0'.repeat(32),
    boot: '3',
    tenant: 'default',
    complete_to: '41',
    holes: [['42', '44']],
    covered_to: '40',
    origin: 'local-0/default/0/1',
    tree_size: '77',
  });

  it('come back as they were signed', () => {
    expect(parseAck(JSON.parse(JSON.stringify(ack)), [trusted])).toEqual(ack);
    expect(ackKey(ack)).toBe(`${'0'.repeat(32)}/3/default`);
  });

  it.each([
    ['a changed mark', { ...ack, complete_to: '42' }],
    ['a changed hole', { ...ack, holes: [['42', '45']] }],
    ['a number in place of text', { ...ack, boot: 3 }],
    ['a negative counter', { ...ack, covered_to: '-1' }],
    ['too many holes', { ...ack, holes: Array.from({ length: 65 }, () => ['1', '1']) }],
    ['an emitter that is none', { ...ack, emitter: 'x' }],
    ['no object', null],
  ])('are refused with %s', (_name, value) => {
    expect(parseAck(value, [trusted])).toBeUndefined();
  });

  it('are refused under a key that is not trusted', () => {
    const other = parseVkey(formatVkey('audit', generateSigningKey().key.publicKey));
    expect(parseAck(ack, [other])).toBeUndefined();
    expect(parseAck(ack, [])).toBeUndefined();
  });
});

describe('signed events', () => {
  const { key } = generateSigningKey();
  const source = emitterId(key.publicKey);
  const unsigned = {
    specversion: '1.0',
    id: '01970000-0000-7000-8000-000000000000',
    source,
    type: 'edict.start.v1',
    time: '2026-01-01T00:00:00.000Z',
    datacontenttype: 'application/json',
    data: { tenant: 'edict', public_key: key.publicKey.toString('base64'), software: 'edict/0.1.0' },
  };
  const event = { ...unsigned, data: { ...unsigned.data, signature: signEvent(key, unsigned) } };

  it('attest the key of a start event that signs itself', () => {
    expect(attestedKey(JSON.parse(JSON.stringify(event)))?.equals(key.publicKey)).toBe(true);
    expect(isEventSignedBy(event, key.publicKey)).toBe(true);
  });

  it.each([
    ['a changed member', { ...event, time: '2026-01-01T00:00:00.001Z' }],
    ['changed data', { ...event, data: { ...event.data, tenant: 'acme' } }],
    ['an added member', { ...event, extra: 1 }],
    ['another source', { ...event, source: '0'.repeat(32) }],
    ['no signature', unsigned],
    ['a signature that is no text', { ...event, data: { ...event.data, signature: 1 } }],
    ['data that is no object', { ...event, data: null }],
  ])('attest nothing with %s', (_name, value) => {
    expect(attestedKey(value)).toBeUndefined();
  });
});
