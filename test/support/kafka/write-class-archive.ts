// Starts a broker once and stops it cleanly, so that the JVM writes an archive of the classes it loaded: every later
// start takes a third less time. Usage: node --import tsx test/support/kafka/write-class-archive.ts FILE
import { startKafka } from '../kafka.ts';

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('name the file to write');
const broker = await startKafka({ writeClassArchive: file });
await broker.stop();
await broker.close();
