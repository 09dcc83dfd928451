// Sets the theme before the first paint. A module would run too late.
(() => {
  const KEY = 'hookcast.theme';
  const themes = ['system', 'light', 'dark'];
  /** @type {Record<string, string>} */
  let store = {};
  try {
    store = localStorage;
  } catch {
    // Storage is forbidden.
  }
  let theme = store[KEY] ?? 'system';

  const show = () => {
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById('theme');
    if (button) button.title = button.ariaLabel = `Theme: ${theme}`;
  };

  show();
  addEventListener('DOMContentLoaded', () => {
    show();
    document.getElementById('theme')?.addEventListener('click', () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      store[KEY] = theme;
      show();
    });
  });
})();
