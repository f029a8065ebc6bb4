import { readFileSync } from 'node:fs';
import { AppError, errorCode, errorMessage } from '../../shared/contracts/errors.ts';
import { isObject } from '../../shared/contracts/json.ts';
import type { MetaStore, SignerStore } from '../core/meta-log.ts';
import type { SigningStore } from '../core/signing.ts';
import { decodeLink, encodeLink, MAX_LINK_BYTES, type LinkCall, type LinkFile } from './protocol.ts';

const CALL_TIMEOUT_MS = 120_000;

const unavailable = (message: string, cause?: unknown): AppError =>
  new AppError('upstream_unavailable', message, { cause });

const readLinkFile = (file: string): LinkFile => {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw unavailable(`${file}: the audit service does not run (${errorCode(cause) ?? errorMessage(cause)})`, cause);
  }
  const { url, token } = isObject(content) ? content : {};
  if (typeof url !== 'string' || typeof token !== 'string' || !/^http:\/\/127\.0\.0\.1:\d{1,5}$/.test(url))
    throw unavailable(`${file}: is not what the audit service writes`);
  return { url, token };
};

/**
 * The signer's stores of an embedded ledger, over the audit service's listener that `file` names; the file is read for
 * each call, since it changes with every start. Rejects with `upstream_unavailable`.
 */
export const createLinkedStore = (file: string): SignerStore => {
  const call = async (name: LinkCall, ...parameters: readonly unknown[]): Promise<unknown> => {
    const { url, token } = readLinkFile(file);
    let response: Response;
    let bytes: Uint8Array;
    try {
      response = await fetch(`${url}/${name}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}` },
        body: new Uint8Array(encodeLink(parameters)),
        signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      });
      bytes = new Uint8Array(await response.arrayBuffer());
    } catch (cause) {
      throw unavailable(`the audit service does not answer: ${errorMessage(cause)}`, cause);
    }
    if (bytes.length > MAX_LINK_BYTES) throw unavailable('the audit service answered too much');
    const value = decodeLink(bytes);
    if (response.status === 200) return value;
    throw unavailable(`the audit service refused: ${isObject(value) ? String(value['message']) : response.status}`);
  };
  return {
    logs: () => call('logs') as ReturnType<SigningStore['logs']>,
    rows: (...range) => call('rows', ...range) as ReturnType<SigningStore['rows']>,
    store: async (...stored) => {
      await call('store', ...stored);
    },
    raise: async (...raised) => {
      await call('raise', ...raised);
    },
    metaLog: () => call('metaLog') as ReturnType<MetaStore['metaLog']>,
    unlisted: (isThorough) => call('unlisted', isThorough) as ReturnType<MetaStore['unlisted']>,
    list: async (...leaves) => {
      await call('list', ...leaves);
    },
    leaves: (...range) => call('leaves', ...range) as ReturnType<MetaStore['leaves']>,
    storeMeta: async (...stored) => {
      await call('storeMeta', ...stored);
    },
    metaHashes: (...range) => call('metaHashes', ...range) as ReturnType<MetaStore['metaHashes']>,
    attest: async (...attestation) => {
      await call('attest', ...attestation);
    },
  };
};
