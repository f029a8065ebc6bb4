import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openAckKey, readAckKey } from '../../../services/audit/acks/ack-key.ts';
import { formatVkey, generateSigningKey } from '../../../services/shared/contracts/signatures.ts';

describe('the key for acknowledgements', () => {
  let folder: string;
  const file = (name: string): string => path.join(folder, name);
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'edict-ack-key-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is made once where the service keeps it itself, its verifier key beside it', () => {
    const first = openAckKey(file('ack.pem'), file('ack.vkey'));
    expect(readFileSync(file('ack.vkey'), 'utf8')).toBe(`${first.vkey}\n`);
    expect(openAckKey(file('ack.pem'), file('ack.vkey')).vkey).toBe(first.vkey);
  });

  it('is read from the operator’s files, whatever they call it, and nothing is written', () => {
    const { key, pem } = generateSigningKey();
    const other = formatVkey('older', generateSigningKey().key.publicKey);
    const own = formatVkey('acme.example/ack', key.publicKey);
    writeFileSync(file('ack.pem'), pem);
    expect(readAckKey(file('ack.pem')).key.publicKey).toEqual(key.publicKey);
    expect(readdirSync(folder)).toEqual(['ack.pem']);
    writeFileSync(file('ack.vkey'), `${other}\n${own}\n`);
    const { vkey, verifier } = readAckKey(file('ack.pem'));
    expect([vkey, verifier.name]).toEqual([own, 'acme.example/ack']);
    expect(readFileSync(file('ack.vkey'), 'utf8')).toBe(`${other}\n${own}\n`);
    expect(readdirSync(folder)).toEqual(['ack.pem', 'ack.vkey']);
  });

  it('is refused when it is missing, no key, or another than the verifier key beside it names', () => {
    const refused = (reason: RegExp): void =>
      expect(() => readAckKey(file('ack.pem'))).toThrow(
        expect.objectContaining({ code: 'settings_invalid', message: expect.stringMatching(reason) }),
      );
    refused(/ack_key_file: .*ack\.pem is missing/);
    writeFileSync(file('ack.pem'), 'no key');
    refused(/ack\.pem: is not an Ed25519 private key/);
    writeFileSync(file('ack.pem'), generateSigningKey().pem);
    writeFileSync(file('ack.vkey'), formatVkey('foreign', generateSigningKey().key.publicKey));
    refused(/ack\.vkey: is not the verifier key of .*ack\.pem/);
    writeFileSync(file('ack.vkey'), 'no line of a key');
    refused(/ack\.vkey: malformed verifier key/);
  });
});
