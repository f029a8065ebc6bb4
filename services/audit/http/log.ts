import type { Request, RequestHandler, Response } from 'express';
import { AppError } from '../../shared/contracts/errors.ts';
import {
  encodeBundle,
  isTileIn,
  parseTilePath,
  TILE_WIDTH,
  type PublishedLog,
  type TileReader,
} from '../../shared/tlog/tiles.ts';
import type { MetaReader } from '../core/meta-log.ts';
import { auditorOf } from './access.ts';

/** Answers depend on the credential, so no shared cache keeps them. */
const FOR_EVER = 'private, max-age=31536000, immutable';
const NUMBER = /^(0|[1-9]\d{0,8})$/;

/** The log that a request names. */
export type FindLog = (request: Request, response: Response) => Promise<PublishedLog | undefined>;

const numberIn = (text: unknown): number | undefined => (NUMBER.test(String(text)) ? Number(text) : undefined);

/** Under `/log/{tenant}/{shard}/{incarnation}/`. */
export const tenantLog =
  ({ published }: TileReader): FindLog =>
  async ({ params }, response) => {
    const [shard, incarnation] = [numberIn(params['shard']), numberIn(params['incarnation'])];
    if (shard === undefined || incarnation === undefined) return undefined;
    return published(auditorOf(response).tenant, shard, incarnation);
  };

/** Under `/log/-/meta/{incarnation}/`: its entries are hashes and name no tenant, so every auditor may read it. */
export const metaLog =
  ({ published }: MetaReader): FindLog =>
  async ({ params }) => {
    const incarnation = numberIn(params['incarnation']);
    return incarnation === undefined ? undefined : published(incarnation);
  };

const foundLog = async (find: FindLog, request: Request, response: Response): Promise<PublishedLog> => {
  const log = await find(request, response);
  if (log === undefined) throw new AppError('not_found', 'there is no such log, or no checkpoint of it yet');
  return log;
};

/** `GET …/checkpoint`: the newest, as it was signed; that of the meta log with its cosignatures. */
export const checkpointHandler =
  (find: FindLog): RequestHandler =>
  async (request, response) => {
    const { note } = await foundLog(find, request, response);
    response.set({ 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'private, no-cache' });
    response.end(note);
  };

/**
 * `GET …/tile/{L}/{N}[.p/{W}]` and `…/tile/entries/{N}[.p/{W}]` (C2SP tlog-tiles): only what the newest checkpoint
 * covers, so no answer ever changes.
 */
export const tileHandler =
  (find: FindLog, tiles: Pick<TileReader, 'hashes' | 'entries'>): RequestHandler =>
  async (request, response) => {
    const { path } = request.params;
    const tile = parseTilePath(Array.isArray(path) ? path.join('/') : String(path));
    if (tile === undefined) throw new AppError('not_found', 'this is no tile’s path');
    const log = await foundLog(find, request, response);
    if (!isTileIn(tile, log.size)) throw new AppError('not_found', 'the newest checkpoint has no such tile');
    const from = tile.index * BigInt(TILE_WIDTH);
    const body =
      tile.content === 'entries'
        ? encodeBundle(await tiles.entries(log.id, from, tile.width))
        : Buffer.concat(await tiles.hashes(log.id, tile.level, from, tile.width));
    response.set({ 'content-type': 'application/octet-stream', 'cache-control': FOR_EVER });
    response.end(body);
  };
