// A run's summary as one HTML file that needs nothing else: tables, and bars drawn in place.

const BAR = { height: 18, gap: 6, label: 60, width: 620 };

export function page(report) {
  const verdict = report.passed ? 'passed' : 'failed';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>k6 ${escape(report.scenario)}: ${verdict}</title>
<style>${STYLE}</style>
<h1>${escape(report.scenario)} <span class="${verdict}">${verdict}</span></h1>
<p>${escape(report.url)}<br>${report.duration_s.toFixed(1)} s at scale ${report.scale}, ended ${report.ended_at}</p>
${section('Thresholds', ['metric', 'rule', 'measured', ''], report.thresholds.map(thresholdRow))}
${section('Figures', ['figure', 'value'], Object.entries(report.notes).map(([what, value]) => [what, number(value)]))}
${bars(report)}
${section('Counts and rates', ['metric', 'value', 'of'], countRows(report.metrics))}
${section('Checks', ['check', 'passed', 'failed', ''], report.checks.map(checkRow))}
</html>
`;
}

function thresholdRow({ metric, rule, value, ok }) {
  return [metric, rule, number(value), mark(ok)];
}

function checkRow({ name, passes, fails }) {
  return [name, String(passes), String(fails), mark(fails === 0)];
}

function countRows(metrics) {
  return Object.entries(metrics)
    .filter(([, metric]) => metric.type !== 'trend')
    .map(([name, { type, values }]) => {
      if (type === 'rate') return [name, number(values.rate), `${values.passes} of ${values.passes + values.fails}`];
      if (type === 'counter') return [name, number(values.count), `${number(values.rate)} a second`];
      return [name, number(values.value), ''];
    });
}

function section(title, head, rows) {
  if (rows.length === 0) return '';
  const cells = (row, tag) => row.map((cell) => `<${tag}${style(cell)}>${escape(cell)}</${tag}>`).join('');
  return `<h2>${escape(title)}</h2>
<table><thead><tr>${cells(head, 'th')}</tr></thead>
<tbody>${rows.map((row) => `<tr>${cells(row, 'td')}</tr>`).join('\n')}</tbody></table>`;
}

function style(cell) {
  return cell === 'ok' ? ' class="passed"' : cell === 'failed' ? ' class="failed"' : '';
}

function mark(ok) {
  return ok ? 'ok' : 'failed';
}

// Every trend has bars for its statistics; a metric and its parts share one scale, so they can be compared by eye.
function bars({ metrics, thresholds }) {
  const trends = Object.entries(metrics).filter(([, metric]) => metric.type === 'trend');
  const whole = (name) => name.split('{')[0];
  return trends
    .map(([name, { contains, values }]) => {
      const akin = trends.filter(([other]) => whole(other) === whole(name));
      const limits = Object.fromEntries(thresholds.filter((one) => one.metric === name).map(limit));
      const title = contains === 'time' ? `${name}, ms` : name;
      return chart(title, values, limits, Math.max(...akin.map(([, metric]) => largest(metric))));
    })
    .join('\n');
}

// p(95)<500 is drawn as a line at 500 through the bar of p(95).
function limit({ rule }) {
  const [statistic, value] = rule.split(/<=?|>=?/);
  return [statistic.trim(), Number(value)];
}

function largest({ values }) {
  return Math.max(...Object.values(values));
}

function chart(title, values, limits, most) {
  const names = Object.keys(values);
  const row = BAR.height + BAR.gap;
  const scale = (value) => (most > 0 ? (value / most) * BAR.width : 0);
  const drawn = names.map((name, place) => {
    const y = place * row;
    const width = scale(values[name]);
    const at = scale(limits[name]);
    const x = fixed(BAR.label + at);
    const line = at > 0 && at <= BAR.width ? `<line x1="${x}" x2="${x}" y1="${y}" y2="${y + BAR.height}"/>` : '';
    return `<text x="${BAR.label - 8}" y="${y + 13}" class="name">${escape(name)}</text>
<rect x="${BAR.label}" y="${y}" width="${fixed(width)}" height="${BAR.height}"/>${line}
<text x="${fixed(BAR.label + width + 6)}" y="${y + 13}">${escape(number(values[name]))}</text>`;
  });
  const size = `0 0 ${BAR.label + BAR.width + 90} ${names.length * row}`;
  return `<h2>${escape(title)}</h2>
<svg viewBox="${size}" role="img" aria-label="${escape(title)}">${drawn.join('\n')}</svg>`;
}

function fixed(value) {
  return value.toFixed(1);
}

export function number(value) {
  if (value === null || value === undefined) return '-';
  return String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
}

function escape(value) {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return String(value).replace(/[&<>"]/g, (character) => entities[character]);
}

const STYLE = `
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --bar: #4c78a8; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --bar: #6ea4d8; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 600; }
td, th { padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; }
svg { width: 100%; max-width: 50rem; } rect { fill: var(--bar); } line { stroke: var(--bad); stroke-width: 2; }
svg text { font-size: 12px; fill: currentColor; } svg .name { text-anchor: end; }
`;
