import { readdirSync } from 'node:fs';
import { errorCode } from '../../shared/contracts/errors.ts';
import type { VerifierKey } from '../../shared/contracts/signatures.ts';
import { homePaths } from '../../shared/settings/home.ts';
import { readAckFile, writeAckFile } from '../../shared/spool/ack-file.ts';
import type { AckSink } from './ack-publisher.ts';

const EMITTER = /^[0-9a-f]{32}$/;

/** Acknowledgements in `home/acks/<emitter>`, for decision points on this machine. */
export const createFileSink = (home: string, verifier: VerifierKey): AckSink => ({
  publish: (emitter, acks) => {
    writeAckFile(home, emitter, acks);
    return Promise.resolve();
  },
  published: () => {
    let names: readonly string[];
    try {
      names = readdirSync(homePaths(home).acks);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return Promise.resolve([]);
      throw error;
    }
    const emitters = names.filter((name) => EMITTER.test(name));
    return Promise.resolve(emitters.flatMap((emitter) => readAckFile(home, emitter, [verifier])?.acks ?? []));
  },
  failure: () => undefined,
  close: () => Promise.resolve(),
});
