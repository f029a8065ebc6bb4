import type { RequestHandler } from 'express';
import { AppError } from '../../shared/contracts/errors.ts';
import {
  encodeBundle,
  isTileIn,
  parseTilePath,
  TILE_WIDTH,
  type PublishedLog,
  type TileReader,
} from '../../shared/tlog/tiles.ts';
import { auditorOf } from './access.ts';

/** Answers depend on the credential, so no shared cache keeps them. */
const FOR_EVER = 'private, max-age=31536000, immutable';
const NUMBER = /^(0|[1-9]\d{0,8})$/;

const publishedLog = async (
  { published }: TileReader,
  tenant: string,
  { shard, incarnation }: Readonly<Record<string, unknown>>,
): Promise<PublishedLog> => {
  const log =
    NUMBER.test(String(shard)) && NUMBER.test(String(incarnation))
      ? await published(tenant, Number(shard), Number(incarnation))
      : undefined;
  if (log === undefined) throw new AppError('not_found', 'there is no such log, or no checkpoint of it yet');
  return log;
};

/** `GET /log/{tenant}/{shard}/{incarnation}/checkpoint`: the newest, as it was signed. */
export const checkpointHandler =
  (tiles: TileReader): RequestHandler =>
  async (request, response) => {
    const { note } = await publishedLog(tiles, auditorOf(response).tenant, request.params);
    response.set({ 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'private, no-cache' });
    response.end(note);
  };

/**
 * `GET …/tile/{L}/{N}[.p/{W}]` and `…/tile/entries/{N}[.p/{W}]` (C2SP tlog-tiles): only what the newest checkpoint
 * covers, so no answer ever changes.
 */
export const tileHandler =
  (tiles: TileReader): RequestHandler =>
  async (request, response) => {
    const { path } = request.params;
    const tile = parseTilePath(Array.isArray(path) ? path.join('/') : String(path));
    if (tile === undefined) throw new AppError('not_found', 'this is no tile’s path');
    const log = await publishedLog(tiles, auditorOf(response).tenant, request.params);
    if (!isTileIn(tile, log.size)) throw new AppError('not_found', 'the newest checkpoint has no such tile');
    const from = tile.index * BigInt(TILE_WIDTH);
    const body =
      tile.content === 'entries'
        ? encodeBundle(await tiles.entries(log.id, from, tile.width))
        : Buffer.concat(await tiles.hashes(log.id, tile.level, from, tile.width));
    response.set({ 'content-type': 'application/octet-stream', 'cache-control': FOR_EVER });
    response.end(body);
  };
