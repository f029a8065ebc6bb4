import type { RequestHandler } from 'express';
import { isArtifactDigest } from '../../shared/contracts/artifact.ts';
import { AppError } from '../../shared/contracts/errors.ts';
import type { LedgerReader } from '../core/query-reader.ts';
import { auditorOf, parametersOf, sendProblem } from './access.ts';

/** Answers that are put together at the same time: each holds an artifact, and what it unpacks to, in memory. */
const MAX_AT_ONCE = 2;

/** `GET /v1/artifacts/{digest}`: the bytes, tested against the digest, or why there are none. */
export const artifactHandler = ({ artifact }: Pick<LedgerReader, 'artifact'>): RequestHandler => {
  let atOnce = 0;
  return async (request, response) => {
    const { tenant } = auditorOf(response);
    for (const name of parametersOf(request.originalUrl).keys())
      if (name !== 'tenant') throw new AppError('request_invalid', `${name.slice(0, 64)}: unknown parameter`);
    const digest = String(request.params['digest']);
    if (!isArtifactDigest(digest))
      throw new AppError('request_invalid', 'digest: is not sha256: and 64 hex digits in lower case');
    if (atOnce >= MAX_AT_ONCE)
      return sendProblem(response, 503, 'overloaded', 'artifacts are being put together already; try again');
    atOnce += 1;
    try {
      const found = await artifact(tenant, digest.slice('sha256:'.length));
      if (found === undefined)
        throw new AppError('not_found', `the ledger of tenant ${tenant} has nothing of ${digest}`);
      const { have, parts, mediaType } = found.copy;
      if (found.state === 'incomplete')
        return sendProblem(response, 409, 'artifact_incomplete', `${have} of ${parts} parts are in the ledger so far`);
      if (found.state === 'damaged')
        return sendProblem(response, 409, 'artifact_damaged', `the ledger has no whole copy: ${found.why}`);
      // What an emitter calls it must start nothing in a browser.
      response.set('content-disposition', 'attachment');
      response.setHeader('content-type', mediaType);
      response.end(found.bytes);
    } finally {
      atOnce -= 1;
    }
  };
};
