// The theme, before the first paint; modules run too late for that.
(() => {
  const KEY = 'hookcast.theme';
  const themes = ['system', 'light', 'dark'];
  let theme = themes[0];
  try {
    theme = localStorage.getItem(KEY) ?? theme;
  } catch {
    // Nothing can be kept here.
  }

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
      show();
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // It lasts until the next load.
      }
    });
  });
})();
