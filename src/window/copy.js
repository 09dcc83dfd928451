/** Copies texts; also the buttons `<button data-copy="id of its element">`. */

const LABEL_MS = 2_000;

document.addEventListener('click', ({ target }) => {
  const button = target instanceof Element && target.closest('[data-copy]');
  if (!(button instanceof HTMLElement)) return;
  const source = /** @type {HTMLElement} */ (document.getElementById(button.dataset.copy ?? ''));
  copyFrom(button, source.textContent ?? '', source);
});

/**
 * Copies a text and says so on the button.
 * @param {HTMLElement} button
 * @param {string} text
 * @param {HTMLElement} source the element that shows it
 */
export async function copyFrom(button, text, source) {
  button.textContent = (await copy(text, source)) ? 'Copied' : 'Press Ctrl+C';
  setTimeout(() => (button.textContent = 'Copy'), LABEL_MS);
}

async function copy(text, source) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard without TLS: the older way, or at least the selection.
    getSelection()?.selectAllChildren(source);
    const onCopy = (/** @type {ClipboardEvent} */ event) => {
      event.clipboardData?.setData('text/plain', text);
      event.preventDefault();
    };
    document.addEventListener('copy', onCopy);
    const isCopied = document.execCommand('copy');
    document.removeEventListener('copy', onCopy);
    return isCopied;
  }
}
