// The native calls: `/call`, whole and collected from a stream, `/models`, `/health`, and what `/call` refuses.
import { check } from 'k6';
import exec from 'k6/execution';
import { MODEL, checkError, field, get, post } from './lib/openai.js';
import { THRESHOLDS, TREND_STATS, arrivals, fewDropped } from './lib/load.js';
import { checkAnswer, firstNumber, question } from './lib/questions.js';
import { summary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 30);
const KEYS = ['id', 'model', 'content', 'finish_reason', 'usage', 'latency_ms', 'cost_usd'];

export const options = {
  scenarios: {
    calls: arrivals(RATE, 20, { exec: 'call' }),
    others: arrivals(2, 20, { exec: 'others' }),
  },
  thresholds: Object.assign(fewDropped(RATE), THRESHOLDS),
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('native');

export function setup() {
  return firstNumber();
}

export function call(first) {
  const place = exec.scenario.iterationInTest;
  const messages = [{ role: 'user', content: question(first + place) }];
  const answer = post('/call', { model: MODEL, messages, max_tokens: 64, stream: place % 2 === 1 });
  checkAnswer(answer, first + place);
  check(answer, {
    'has its seven fields': (r) => KEYS.every((key) => Object.hasOwn(field(r, '@this') || {}, key)),
    'counts tokens': (r) => field(r, 'usage.total_tokens') > 0,
    'says how long it took': (r) => field(r, 'latency_ms') > 0,
  });
}

export function others() {
  check(get('/models'), { 'models has some': (r) => r.status === 200 && (r.body || '').includes('"id"') });
  check(get('/health'), { 'health ok': (r) => field(r, 'status') === 'ok' });
  checkError(post('/call', { max_tokens: 4 }, { expect: [400] }), 400, 'missing_required_parameter');
}
