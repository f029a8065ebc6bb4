// Tries for the lock of the folder in argv[2], says whether it has it, and keeps it until it is killed.
import { acquireLock } from '../../../services/shared/spool/lock.ts';

const lock = await acquireLock(process.argv[2] ?? '');
process.stdout.write(lock === undefined ? 'refused\n' : 'held\n');
if (lock !== undefined) setInterval(() => undefined, 1000);
