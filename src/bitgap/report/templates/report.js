// Pictures become charts, switches switch, and any set of blocks can be tried. Everything it reads
// is in the page; nothing is fetched. What comes from data is only ever set as text.
const payload = JSON.parse(document.getElementById('payload').textContent);
const root = document.documentElement;
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, text = '', attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const views = new Map();

// -- theme ---------------------------------------------------------------------------------------

const KEPT = 'bitgap-theme';
const remember = {
  get: () => { try { return localStorage.getItem(KEPT); } catch { return null; } },
  set: (value) => { try { localStorage.setItem(KEPT, value); } catch { /* a file may have none */ } },
};
const prefersDark = matchMedia('(prefers-color-scheme: dark)');
const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : prefersDark.matches);
const button = document.getElementById('theme');

function showTheme() {
  button.setAttribute('aria-pressed', String(isDark()));
}

const chosen = remember.get();
if (chosen === 'dark' || chosen === 'light') root.dataset.theme = chosen;
button.hidden = false;
showTheme();
button.addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  remember.set(root.dataset.theme);
  showTheme();
  drawAll();
});
prefersDark.addEventListener('change', () => { if (!root.dataset.theme) { showTheme(); drawAll(); } });

// -- figures -------------------------------------------------------------------------------------

const NARROW = matchMedia('(max-width: 46rem)');

// On a narrow screen panels stand one below the other, and legends fit under them.
function fitted(spec, room) {
  const fit = (one) => {
    if (one.width && one.width + 130 > room) return { ...one, width: Math.max(170, room - 130) };
    return one;
  };
  if (spec.concat) {
    const across = spec.concat.reduce((sum, one) => sum + (one.width || 0) + 90, 0);
    const columns = room < 640 ? 1 : room < across ? Math.min(2, spec.columns || 2) : spec.columns;
    const parts = columns === 1 ? spec.concat.map(fit) : spec.concat;
    return { ...spec, concat: columns === 1 ? parts.map(labelled) : parts, columns };
  }
  return fit(spec);
}

// A panel whose labels stand on the panel to its left gets them back where it stands alone.
function labelled(panel) {
  const copy = structuredClone(panel);
  for (const layer of copy.layer || []) {
    const y = layer.encoding && layer.encoding.y;
    if (y && y.axis && y.axis.labels === false) delete y.axis;
  }
  return copy;
}

// In the figure where every set is a dot, a ring is around the one that is being explored.
const LANDSCAPE = 'landscape';
let explored; // its row there, or undefined where the set was not scored

const heightOf = (panel) => panel.layer.at(-1).encoding.y;

// Where there is nothing to ring the ring is unseen, for an axis needs a value.
function rung(spec, panel) {
  const { field } = heightOf(panel);
  const known = (row) => row && row[field] !== null;
  const row = spec.data.values[explored];
  return [known(row) ? { ...row, seen: 1 } : { ...spec.data.values.find(known), seen: 0 }];
}

function ringed(spec) {
  const around = (panel, i) => {
    const circle = {
      data: { name: `explored_${i}`, values: rung(spec, panel) },
      mark: { type: 'point', size: 420, strokeWidth: 2, filled: false,
        stroke: isDark() ? '#ffffff' : '#000000', aria: false, tooltip: null },
      encoding: { x: panel.layer.at(-1).encoding.x, y: heightOf(panel),
        opacity: { condition: { test: 'datum.seen', value: 1 }, value: 0 } },
    };
    return { ...panel, layer: [...panel.layer, circle] };
  };
  return spec.concat ? { ...spec, concat: spec.concat.map(around) } : around(spec, 0);
}

function ring(index) {
  explored = index;
  const drawn = views.get(LANDSCAPE);
  if (!drawn) return;
  const { spec } = payload.figures[LANDSCAPE];
  (spec.concat || [spec]).forEach((panel, i) => drawn.view.data(`explored_${i}`, rung(spec, panel)));
  drawn.view.runAsync();
}

async function draw(figure) {
  const id = figure.dataset.figure;
  const entry = payload.figures[id];
  const still = figure.querySelector('.still');
  const live = figure.querySelector('.live');
  if (!entry || !live || !globalThis.vegaEmbed) return;
  const room = figure.querySelector('.plot').clientWidth;
  if (!room) { delete figure.dataset.drawn; return; } // not shown now; drawn when it is switched to
  const config = { ...payload.themes[isDark() ? 'dark' : 'light'], background: 'transparent' };
  const spec = id === LANDSCAPE && payload.explorer ? ringed(entry.spec) : entry.spec;
  const previous = views.get(id);
  try {
    const result = await globalThis.vegaEmbed(live, fitted(spec, room), {
      mode: 'vega-lite', renderer: 'svg', actions: false, ast: true, config, tooltip: { theme: 'custom' },
    });
    if (previous) previous.finalize();
    views.set(id, result);
    live.hidden = false;
    live.setAttribute('role', 'img');
    live.setAttribute('aria-label', still.alt);
    live.querySelector('svg')?.setAttribute('aria-hidden', 'true');
    still.hidden = true;
    still.style.display = 'none';
    figure.dataset.drawn = 'true';
  } catch (error) {
    live.hidden = true; // the picture stays
    figure.dataset.failed = String(error);
    console.error(`figure ${id}: ${error}`);
  }
}

let turn = 0;
async function drawAll() {
  const mine = (turn += 1);
  for (const figure of all('figure[data-figure]')) {
    if (mine !== turn) return; // a later call has taken over
    await draw(figure);
    await new Promise((done) => (globalThis.requestIdleCallback || setTimeout)(done));
  }
}

let width = innerWidth;
let waiting;
addEventListener('resize', () => {
  if (innerWidth === width) return; // a phone's address bar
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 250);
});

for (const group of all('.switch')) {
  const choices = all('button', group);
  const shown = (wanted) => {
    for (const choice of choices) {
      const on = choice === wanted;
      choice.setAttribute('aria-pressed', String(on));
      const figure = document.querySelector(`figure[data-figure="${CSS.escape(choice.dataset.shows)}"]`);
      figure.closest('.choice').hidden = !on;
      if (on && !figure.dataset.drawn) draw(figure);
    }
  };
  group.hidden = false;
  for (const choice of choices) choice.addEventListener('click', () => shown(choice));
  shown(choices[0]);
}

// -- the data of a figure ------------------------------------------------------------------------

const MOST_ROWS = 400;

function rowsOf(spec) {
  const parts = spec.concat || [spec];
  const found = parts.map((part) => [part.title, part.data && part.data.values]).filter(([, rows]) => rows);
  return found.length ? found : [[spec.title, (spec.data && spec.data.values) || []]];
}

for (const details of all('details.data')) {
  const figure = details.closest('figure');
  const entry = payload.figures[figure.dataset.figure];
  if (!entry) continue;
  details.hidden = false;
  details.addEventListener('toggle', () => {
    const box = details.querySelector('.scroll');
    if (!details.open || box.firstChild) return;
    for (const [title, rows] of rowsOf(entry.spec)) {
      if (!rows.length) continue;
      const names = Object.keys(rows[0]);
      const table = make('table');
      const more = rows.length > MOST_ROWS ? ` (the first ${MOST_ROWS} of ${rows.length} rows)` : '';
      table.append(make('caption', `${[].concat(title || 'Data').join(' ')}${more}`));
      const head = make('tr');
      for (const name of names) head.append(make('th', name.replaceAll('_', ' '), { scope: 'col' }));
      table.append(make('thead'));
      table.firstChild.nextSibling.append(head);
      const body = make('tbody');
      for (const row of rows.slice(0, MOST_ROWS)) {
        const line = make('tr');
        for (const name of names) line.append(make('td', row[name] === null ? '–' : String(row[name])));
        body.append(line);
      }
      table.append(body);
      box.append(table);
    }
  });
}

// -- any set of blocks ---------------------------------------------------------------------------

function explore(data) {
  const at = new Map(data.masks.map((mask, i) => [mask, i]));
  const reference = data.languages.findIndex((one) => one.code === data.reference);
  const result = document.getElementById('explorer-result');
  const bars = document.getElementById('explorer-bars');
  const blocks = all('button[data-block]');
  const boxes = all('input[data-language]');
  let mask = data.presets.origin ?? 0;

  const bits = (m) => { let n = 0; for (let x = m; x; x = Math.floor(x / 2)) n += x % 2; return n; };
  const has = (m, block) => Math.floor(m / 2 ** block) % 2 === 1;
  const kept = (m) => blocks.map((_, i) => i).filter((i) => has(m, i));
  const milli = (value) => (value === null ? '–' : (1000 * value).toPrecision(3));
  const signed = (value, digits) => (value === null ? '–' : `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(digits)}`);
  const ends = (low, high, show) => (low === null || high === null ? '' : ` [${show(low)}, ${show(high)}]`);
  const shownLanguages = () => boxes.map((box) => box.checked);

  // The formulas of damage, over those chosen: mean K, S the spread of log2 damage per token, and D the
  // mean of log2(K / K of the reference). S has no value where a language that counts with nothing
  // protected does not count, for it would be over other languages.
  function over(i, chosen) {
    const row = data.damage[i];
    const used = row.filter((_, l) => chosen[l]);
    const K = used.reduce((sum, value) => sum + value, 0) / used.length;
    const out = data.uncounted[i] || [];
    const never = data.uncounted[at.get(0)] || [];
    const inS = row.map((_, l) => l).filter((l) => chosen[l] && !never.includes(l));
    const spread = (logs) => {
      const mean = logs.reduce((sum, value) => sum + value, 0) / logs.length;
      return Math.sqrt(logs.reduce((sum, value) => sum + (value - mean) ** 2, 0) / logs.length);
    };
    const resolved = inS.length > 1 && inS.every((l) => !out.includes(l) && row[l] > 0);
    const S = resolved ? spread(inS.map((l) => Math.log2(row[l] * data.perToken[l]))) : null;
    const Stext = resolved ? spread(inS.map((l) => Math.log2(row[l]))) : null;
    const others = row.map((value, l) => [value, l])
      .filter(([, l]) => l !== reference && chosen[l] && !out.includes(l));
    const sound = !out.includes(reference) && others.length > 0 && row[reference] > 0;
    const D = sound ? others.reduce((sum, [value]) => sum + Math.log2(value / row[reference]), 0) / others.length : null;
    return { K, S, Stext, D };
  }

  function rank(i, chosen, everyone) {
    const size = bits(data.masks[i]);
    const value = (j) => (everyone ? data.K[j] : over(j, chosen).K);
    const mine = value(i);
    let better = 0;
    let of = 0;
    data.masks.forEach((m, j) => { if (bits(m) === size) { of += 1; if (value(j) < mine) better += 1; } });
    return [better + 1, of];
  }

  function show() {
    blocks.forEach((one, i) => one.setAttribute('aria-pressed', String(has(mask, i))));
    result.dataset.mask = String(mask);
    result.replaceChildren();
    bars.replaceChildren();
    const names = kept(mask).map((i) => `L${i}`);
    result.append(make('h3', names.length ? `${names.join(', ')} protected` : 'Nothing protected'));
    const i = at.get(mask);
    ring(i);
    if (i === undefined) {
      delete result.dataset.damage;
      result.append(make('p', `This set was not scored: ${data.masks.length.toLocaleString('en')} of the `
        + `2^${data.blocks} sets were, among them all of one or two blocks and all that leave out one or two.`));
      return;
    }
    const chosen = shownLanguages();
    const everyone = chosen.every(Boolean);
    const { K, S, Stext, D } = everyone
      ? { K: data.K[i], S: data.S[i], Stext: data.Stext[i], D: data.D[i] } : over(i, chosen);
    result.dataset.damage = String(K);
    result.dataset.spread = String(S);
    const [place, of] = rank(i, chosen, everyone);
    const list = make('dl');
    const entry = (term, text) => {
      const row = make('div');
      row.append(make('dt', term), make('dd', text));
      list.append(row);
    };
    const few = everyone ? '' : ' over the languages chosen, without interval';
    entry('mean damage K', `${milli(K)} mbit${everyone ? ends(data.Klow[i], data.Khigh[i], milli) : few}`);
    entry('of its size', `number ${place} of ${of} by least damage`);
    const plain = (value) => value.toFixed(3);
    entry('spread S, per token', S === null ? '– (no damage, or too little in some language)'
      : `${plain(S)}${everyone ? ends(data.Slow[i], data.Shigh[i], plain) : few}`);
    if (S !== null) entry('spread S, per text', plain(Stext));
    entry('disparity D', D === null ? '– (no damage, or too little to form a ratio)'
      : `${signed(D, 3)}${everyone ? ends(data.Dlow[i], data.Dhigh[i], (v) => signed(v, 3)) : few}`);
    if (everyone) {
      const gap = (value) => signed(1000 * value, 2);
      entry('gap G', `${gap(data.G[i])} mbit${ends(data.Glow[i], data.Ghigh[i], gap)}`);
    }
    result.append(list);
    const nothing = at.get(0);
    if (nothing !== undefined && i !== nothing) {
      // A change of S that turns round between per token and per text is not established.
      const hasS = data.S[i] !== null && data.S[nothing] !== null;
      const byToken = hasS && data.S[i] < data.S[nothing];
      const byText = hasS && data.Stext[i] < data.Stext[nothing];
      const evener = byToken && byText;
      let even = 'whether languages come out more even cannot be told.';
      if (hasS) {
        even = byToken === byText
          ? `languages ${evener ? '' : 'do not '}come out more even.`
          : `whether languages come out more even is not established: S is ${byToken ? 'smaller' : 'larger'} per token and ${byText ? 'smaller' : 'larger'} per text.`;
      }
      const hurt = data.damage[i][reference] > data.damage[nothing][reference];
      const harmed = data.harm[i] > data.harm[nothing];
      if (everyone && evener && (hurt || harmed)) {
        const who = hurt ? 'the reference is hurt more' : 'the text of all languages is predicted worse';
        result.append(make('p', `Levelling down, by point estimates: languages are more even, but ${who} than with nothing protected.`, { class: 'warning' }));
      } else {
        const saved = 1 - K / (everyone ? data.K[nothing] : over(nothing, chosen).K);
        result.append(make('p', `It saves ${(100 * saved).toFixed(0)} % of the damage with nothing protected`
          + (everyone ? `; ${even}` : '.')));
      }
    }
    const most = Math.max(...data.damage[nothing ?? i]);
    data.languages.forEach((language, l) => {
      const value = data.damage[i][l];
      const line = make('div', '', { class: `bar${l === reference ? ' reference' : ''}${chosen[l] ? '' : ' out'}` });
      const rod = make('i');
      rod.style.inlineSize = `${most > 0 ? Math.min(100, (100 * value) / most) : 0}%`;
      const track = make('span');
      track.append(rod);
      line.append(make('span', language.name), track, make('b', milli(value)));
      bars.append(line);
    });
  }

  blocks.forEach((one, i) => one.addEventListener('click', () => {
    mask += has(mask, i) ? -(2 ** i) : 2 ** i;
    show();
  }));
  for (const box of boxes) box.addEventListener('change', show);
  for (const preset of all('button[data-preset]')) {
    const wanted = data.presets[preset.dataset.preset];
    if (wanted === null || wanted === undefined) preset.disabled = true;
    else preset.addEventListener('click', () => { mask = wanted; show(); });
  }
  document.getElementById('explorer').hidden = false;
  show();
}

if (payload.explorer) explore(payload.explorer);
drawAll();
