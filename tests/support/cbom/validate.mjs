// Reads a CBOM from standard input and checks it against the schema of the given version, as CycloneDX's library brings it,
// with nothing unknown allowed. Prints what is wrong and ends with 1; prints how many components there are and ends with 0.
//   node validate.mjs 1.6 < cbom.json
import { readFileSync } from 'node:fs';
import { Spec, Validation } from '@cyclonedx/cyclonedx-library';

const versions = { 1.6: Spec.Version.v1dot6, 1.7: Spec.Version.v1dot7 };
const text = readFileSync(0, 'utf8');
const faults = await new Validation.JsonStrictValidator(versions[process.argv[2]]).validate(text);
if (faults !== null) {
  console.error(JSON.stringify(faults, null, 1).slice(0, 4000));
  process.exit(1);
}
console.log(JSON.parse(text).components.length);
