/** axe's checks of accessibility. */

import axe from 'axe-core';

const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

/** What axe finds on the page, with the beginnings of the elements concerned. */
export async function findings(page) {
  await page.evaluate(axe.source);
  const { violations, incomplete, passes } = await page.evaluate((runOnly) => globalThis.axe.run(document, { runOnly }), RULES);
  const brief = (rules) => rules.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map(({ html }) => html.slice(0, 200)) }));
  return { passes: passes.length, violations: brief(violations), incomplete: brief(incomplete) };
}
