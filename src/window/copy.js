/** Buttons that copy a text: `<button data-copy="id of its element">`. */

document.addEventListener('click', async ({ target }) => {
  const button = target instanceof Element && target.closest('[data-copy]');
  if (!(button instanceof HTMLElement)) return;
  const source = document.getElementById(button.dataset.copy ?? '');
  button.textContent = (await copy(source)) ? 'Copied' : 'Press Ctrl+C';
  setTimeout(() => (button.textContent = 'Copy'), 2_000);
});

async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    // No clipboard without TLS: the older way, or at least the selection.
    getSelection()?.selectAllChildren(source);
    return document.execCommand('copy');
  }
}
