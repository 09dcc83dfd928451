/** Copies texts. A button with `data-copy` copies the text of the element with that id. */

const LABEL_MS = 2_000;

document.addEventListener('click', ({ target }) => {
  const button = target instanceof Element && target.closest('[data-copy]');
  if (!(button instanceof HTMLElement)) return;
  const source = /** @type {HTMLElement} */ (document.getElementById(button.dataset.copy ?? ''));
  copyFrom(button, source.textContent ?? '', source);
});

/**
 * Copies a text and reports the result on the button.
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
    // Without TLS there is no clipboard API. If the older command fails, the text is at least selected.
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
