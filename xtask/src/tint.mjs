// Compiles every .wgsl file of a folder by Tint, the compiler that browsers built on Chromium use: `node tint.mjs FOLDER`. It needs no
// GPU. Ends with 1 if one is refused, and prints why.
import { create, globals } from 'webgpu';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

Object.assign(globalThis, globals);
const folder = process.argv[2];
const files = readdirSync(folder).filter((name) => name.endsWith('.wgsl'));
// Dawn goes with this object, whatever else of it is in use, so that nothing may collect it.
globalThis.gpu = create(['backend=null']);
const adapter = await globalThis.gpu.requestAdapter();
const device = await adapter.requestDevice();

async function errorsOf(code) {
  // The scope keeps Dawn from printing the error and the whole text with it.
  device.pushErrorScope('validation');
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  await device.popErrorScope();
  return messages.filter((message) => message.type === 'error');
}

// What naga takes and Tint does not, or this check shows nothing.
const apart = `@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) { if i > 3u { workgroupBarrier(); } }`;
if ((await errorsOf(apart)).length === 0) {
  console.log('Tint takes a barrier that some invocations never reach');
  process.exit(1);
}

let refused = 0;
for (const file of files) {
  const code = readFileSync(join(folder, file), 'utf8');
  const errors = await errorsOf(code);
  refused += errors.length > 0;
  for (const { lineNum, linePos, message } of errors) {
    console.log(`${join(folder, file)}:${lineNum}:${linePos}: ${message}`);
    console.log(`    ${code.split('\n')[lineNum - 1]}`);
  }
}
console.log(`${files.length - refused} of ${files.length} shaders are compiled by Tint`);
// Dawn's threads would keep the process.
process.exit(refused > 0 || files.length === 0 ? 1 : 0);
