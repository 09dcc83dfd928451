// The theme, before the first paint: not a module, those run too late. Light, dark, or the system's.
(() => {
  const key = 'hookcast.theme';
  const themes = ['system', 'light', 'dark'];
  const root = document.documentElement;
  let theme = 'system';
  try {
    theme = localStorage.getItem(key) ?? theme;
  } catch {
    // Nothing can be kept here: the system's theme.
  }

  const apply = () => {
    root.dataset.theme = theme;
    const button = document.getElementById('theme');
    if (button) button.textContent = `Theme: ${theme}`;
  };

  apply();
  addEventListener('DOMContentLoaded', () => {
    apply();
    document.getElementById('theme')?.addEventListener('click', () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      apply();
      try {
        localStorage.setItem(key, theme);
      } catch {
        // It lasts until the next load.
      }
    });
  });
})();
