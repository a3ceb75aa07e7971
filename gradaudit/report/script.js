(() => {
  'use strict';
  // Everything is readable without this script: it marks the place in the navigation, filters, and views images side by side.
  const one = (s, e = document) => e.querySelector(s), all = (s, e = document) => [...e.querySelectorAll(s)];
  const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

  const links = new Map(all('.bar a').map(a => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver(entries => entries.forEach(entry => {
    if (!entry.isIntersecting) return;
    links.forEach(a => a.removeAttribute('aria-current'));
    links.get(entry.target.id)?.setAttribute('aria-current', 'true');
  }), { rootMargin: '-20% 0px -70% 0px' });
  all('.one, main > section').forEach(s => seen.observe(s));

  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let e = target; e; e = e.parentElement) if (e.localName === 'details') e.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener('hashchange', reveal);
  reveal();

  all('.find').forEach(box => {
    const controls = box.closest('.controls'), folds = all(':scope > details', controls.nextElementSibling);
    controls.hidden = false;
    box.addEventListener('input', () => {
      const asked = box.value.trim().toLowerCase();
      let shown = 0;
      folds.forEach(fold => {
        const name = fold.querySelector('summary').textContent.toLowerCase();
        const rows = all('tbody tr', fold), hits = rows.filter(r => r.textContent.toLowerCase().includes(asked));
        const whole = !asked || name.includes(asked);
        rows.forEach(r => { r.hidden = !whole && !hits.includes(r); });
        fold.hidden = !whole && !hits.length;
        if (asked && hits.length && !whole) fold.open = true;
        shown += fold.hidden ? 0 : 1;
      });
      one('output', controls).textContent = asked ? `${shown} of ${folds.length} attributes` : '';
    });
  });

  const dialog = one('dialog'), tiles = all('.tile'), form = one('#gallery .controls');
  if (!dialog || !tiles.length) return;
  const names = new Map(all('[name=group]', form).flatMap(select => [...select.options].filter(o => o.value).map(o => [o.value, `${one('bdi', select.closest('label')).textContent} ${o.textContent}`])));
  const groups = tile => tile.dataset.groups.split(' ').filter(Boolean);
  let shown = tiles, at = 0, tray = [];

  const drawn = (tile, parts, label) => {
    const svg = one('svg', tile).cloneNode(true);
    all('use', svg).forEach(use => { const kind = use.getAttribute('href')[1]; if (!parts.includes(kind)) use.remove(); });
    svg.setAttribute('aria-label', label);
    return svg;
  };
  const pane = (title, svg) => { const box = document.createElement('div'); box.append(make('p', title), svg); return box; };
  const terms = pairs => pairs.map(([term, text]) => { const box = document.createElement('div'); box.append(make('dt', term), make('dd', text)); return box; });

  const show = index => {
    at = (index + shown.length) % shown.length;
    const tile = shown[at], panes = one('.three', dialog);
    one('h3', dialog).textContent = tile.dataset.file;
    panes.className = 'three';
    panes.replaceChildren(
      pane('Image', drawn(tile, 'p', 'the image')), pane('Heat', drawn(tile, 'ph', 'the image with its heat')),
      pane('Heat and outline', drawn(tile, 'pho', one('svg', tile).getAttribute('aria-label'))));
    one('dl', dialog).replaceChildren(...terms([['Heat', tile.dataset.heat], ['Decision', tile.dataset.decision], ['Groups', groups(tile).map(g => names.get(g)).join(', ')], ['Why it is here', tile.dataset.why]]));
    one('footer p', dialog).textContent = `${at + 1} of ${shown.length}`;
    one('[value=tray]', dialog).textContent = tray.includes(tile) ? 'Remove from comparison' : `Add to comparison (${tray.length} of 4)`;
    if (!dialog.open) dialog.showModal();
    history.replaceState(null, '', '#' + encodeURIComponent(tile.id));
  };
  const compare = () => {
    if (!tray.length) return;
    const panes = one('.three', dialog);
    panes.className = 'three four';
    one('h3', dialog).textContent = 'Comparison';
    panes.replaceChildren(...tray.map(t => pane(t.dataset.file, drawn(t, 'pho', one('svg', t).getAttribute('aria-label')))));
    one('dl', dialog).replaceChildren();
  };

  tiles.forEach((tile, index) => {
    tile.setAttribute('role', 'button');
    tile.setAttribute('aria-label', `Look closer: ${one('svg', tile).getAttribute('aria-label')}`);
    tile.tabIndex = index ? -1 : 0;
    tile.addEventListener('click', () => show(shown.indexOf(tile)));
    tile.addEventListener('keydown', event => {
      const place = shown.indexOf(tile), step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); show(place); }
      else if (step && shown[place + step]) { event.preventDefault(); tile.tabIndex = -1; const next = shown[place + step]; next.closest('details')?.setAttribute('open', ''); next.tabIndex = 0; next.focus(); }
    });
  });
  dialog.addEventListener('keydown', event => {
    if (event.key === 'ArrowRight') show(at + 1);
    if (event.key === 'ArrowLeft') show(at - 1);
  });
  dialog.addEventListener('click', event => {
    const tile = shown[at];
    ({
      next: () => show(at + 1), prev: () => show(at - 1), close: () => dialog.close(), compare,
      tray: () => { tray = tray.includes(tile) ? tray.filter(t => t !== tile) : [...tray, tile].slice(-4); show(at); },
    })[event.target.value]?.();
  });
  dialog.addEventListener('close', () => {
    const tile = shown[at];
    tile.closest('details')?.setAttribute('open', '');
    tiles.forEach(t => { t.tabIndex = t === tile ? 0 : -1; });
    tile.focus();
  });

  const apply = () => {
    const asked = new FormData(form), file = asked.get('file').toLowerCase(), wanted = asked.getAll('group').filter(Boolean), verdict = asked.get('verdict');
    shown = tiles.filter(tile => {
      const fits = wanted.every(g => groups(tile).includes(g)) && (!verdict || tile.dataset.verdict === verdict) && tile.dataset.file.toLowerCase().includes(file);
      tile.closest('li').hidden = !fits;
      return fits;
    });
    tiles.forEach(t => { t.tabIndex = t === shown[0] ? 0 : -1; });
    one('output', form).textContent = `${shown.length} of ${tiles.length} images`;
    if (file || wanted.length || verdict) tiles.filter(t => shown.includes(t)).forEach(t => t.closest('details')?.setAttribute('open', ''));
  };
  form.hidden = false;
  form.addEventListener('input', apply);
  form.addEventListener('submit', event => event.preventDefault());
  form.reset();
  apply();
})();
