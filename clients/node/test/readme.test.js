/** The README's examples: they run, and print what stands there. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';

test('the examples print what they say', async () => {
  const folder = new URL('..', import.meta.url);
  const text = readFileSync(new URL('README.md', folder), 'utf8');
  const code = [...text.matchAll(/^```js\n(.*?)^```$/gms)].map(([, block]) => block).join('\n');
  const stated = [...code.matchAll(/^ *\/\/ => (.*)$/gm)].map(([, line]) => line);
  const run = ['--input-type=module', '--eval', code];
  const { stdout } = await promisify(execFile)(process.execPath, run, { cwd: folder, timeout: 300_000 });
  assert.deepEqual(stdout.trimEnd().split('\n'), stated);
});
