/** Pictures and figures for people. */

import { mkdirSync } from 'node:fs';

const DIRECTORY = new URL('../../../artefacts/', import.meta.url).pathname;

/** The path of a file in artefacts/, which exists. */
export function artefact(name) {
  mkdirSync(DIRECTORY, { recursive: true });
  return DIRECTORY + name;
}
