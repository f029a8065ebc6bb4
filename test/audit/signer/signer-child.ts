/** A signer that kills itself: `signer-child.ts URL KEYS MEMORY MASTER_KEY STEP`. */
import { createPostgresPayloadKeys } from '../../../services/audit/keys/postgres-payload-keys.ts';
import { connectPostgres } from '../../../services/audit/postgres/connect.ts';
import { createSignerStore } from '../../../services/audit/postgres/meta-store.ts';
import { signerIn } from './signing-fixture.ts';

const [url = '', keysUrl = '', keyFolder = '', memoryFolder = '', masterKey = '', step = ''] = process.argv.slice(2);

/** The statement at which it dies, counted from 1; whatever was sent before it has happened. */
let left = Number(step);
const dieAtLast = (): void => {
  left -= 1;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
};

const database = connectPostgres(url, { poolSize: 1 });
const keys = createPostgresPayloadKeys(connectPostgres(keysUrl, { poolSize: 1 }), {
  masterKey: Buffer.from(masterKey, 'hex'),
});
const store = createSignerStore({
  database: {
    query: (...statement) => {
      dieAtLast();
      return database.query(...statement);
    },
  },
  keys,
  transaction: async (work) => {
    await database.transaction((sql) =>
      work({
        query: (...statement) => {
          dieAtLast();
          return sql.query(...statement);
        },
      }).then(dieAtLast),
    );
    dieAtLast();
  },
});
await signerIn(keyFolder, memoryFolder, store).signAll();
process.exit(0);
