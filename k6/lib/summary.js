// What a run ends with: lines on the terminal, <OUT>/<scenario>.json, and <OUT>/<scenario>.html to look at.
import { BASE_URL } from './openai.js';
import { SCALE, TREND_STATS } from './load.js';
import { number, page } from './page.js';

const OUT = __ENV.OUT || 'k6/out';

// Of no use to who reads of a gateway: phases of connections that are kept, and k6's own.
const LEFT_OUT =
  /^(http_req_(blocked|connecting|tls_handshaking|sending|receiving|waiting)|iteration|vus|data_)|expected_response/;

// A handleSummary for that scenario. `notes(data)` gives figures that k6 has no metric for, by what they are.
export function summary(scenario, notes = () => ({})) {
  return (data) => {
    const report = summarise(scenario, data, notes(data));
    return {
      stdout: lines(report),
      [`${OUT}/${scenario}.json`]: `${JSON.stringify(report, null, 2)}\n`,
      [`${OUT}/${scenario}.html`]: page(report),
    };
  };
}

export function count(data, metric) {
  return data.metrics[metric] ? data.metrics[metric].values.count : 0;
}

// Of a counter what was added a second, of a rate the share.
export function rate(data, metric) {
  return data.metrics[metric] ? data.metrics[metric].values.rate : 0;
}

function summarise(scenario, data, notes) {
  const names = Object.keys(data.metrics).filter((name) => !LEFT_OUT.test(name)).sort();
  const thresholds = names.flatMap((metric) =>
    Object.entries(data.metrics[metric].thresholds || {}).sort().map(([rule, { ok }]) => ({
      metric,
      rule,
      ok,
      value: measured(data.metrics[metric].values, rule),
    })),
  );
  return {
    scenario,
    url: BASE_URL,
    scale: SCALE,
    ended_at: new Date().toISOString(),
    duration_s: data.state.testRunDurationMs / 1000,
    passed: thresholds.every((threshold) => threshold.ok),
    notes,
    thresholds,
    checks: checksOf(data.root_group),
    metrics: Object.fromEntries(names.map((name) => [name, kindAndValues(data.metrics[name])])),
  };
}

// What a rule such as p(95)<500 is about; k6 does not say.
function measured(values, rule) {
  const found = values[rule.split(/[<>=!]/)[0].trim()];
  return found === undefined ? null : found;
}

// k6 gives a trend's statistics in any order.
function kindAndValues({ type, contains, values }) {
  const names = type === 'trend' ? TREND_STATS : Object.keys(values);
  return { type, contains, values: Object.fromEntries(names.map((name) => [name, values[name]])) };
}

function checksOf(group) {
  const own = group.checks.map(({ name, passes, fails }) => ({ name, passes, fails }));
  return own.concat(...group.groups.map(checksOf));
}

function lines(report) {
  const { scenario, url, passed, duration_s: seconds, thresholds, metrics, checks, notes } = report;
  const trends = Object.keys(metrics).filter((name) => metrics[name].type === 'trend');
  const others = Object.keys(metrics).filter((name) => metrics[name].type !== 'trend');
  const failing = checks.filter((one) => one.fails > 0);
  const written = [
    `k6 ${scenario} against ${url}, ${seconds.toFixed(1)} s: ${passed ? 'passed' : 'FAILED'}`,
    ...table(trends.map((name) => [name, ...statistics(metrics[name].values)])),
    ...table(others.map((name) => [name, plain(metrics[name])])),
    ...table(Object.entries(notes).map(([what, value]) => [what, number(value)])),
    ...table(thresholds.map(({ metric, rule, ok, value }) => [ok ? 'ok' : 'FAILED', metric, rule, number(value)])),
    ...table(failing.map(({ name, passes, fails }) => ['check FAILED', name, `${fails} of ${passes + fails}`])),
    `written: ${OUT}/${scenario}.json and .html`,
  ];
  return `${written.join('\n')}\n`;
}

function table(rows) {
  if (rows.length === 0) return [];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column])).join('  ')}`.trimEnd());
}

function statistics(values) {
  return Object.entries(values).map(([name, value]) => `${name}=${number(value)}`);
}

function plain({ type, values }) {
  if (type === 'rate') return `${number(values.rate)} (${values.passes} of ${values.passes + values.fails})`;
  if (type === 'counter') return `${values.count} (${number(values.rate)}/s)`;
  return number(values.value);
}
