/** Buttons that copy a text: `<button data-copy="id of the element">`. */

document.addEventListener('click', async ({ target }) => {
  const button = target instanceof Element && target.closest('[data-copy]');
  if (!(button instanceof HTMLElement)) return;
  const source = document.getElementById(button.dataset.copy ?? '');
  const label = button.dataset.label ?? (button.dataset.label = button.textContent ?? '');
  button.textContent = (await copy(source)) ? 'Copied' : 'Press Ctrl+C';
  setTimeout(() => (button.textContent = label), 2_000);
});

/**
 * @param {HTMLElement | null} source
 * @returns {Promise<boolean>} false if the text is only selected
 */
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source?.textContent ?? '');
    return true;
  } catch {
    // No clipboard without TLS: the older way, or at least the selection.
    if (source) getSelection()?.selectAllChildren(source);
    return document.execCommand('copy');
  }
}
