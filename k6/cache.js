// Four requests in five ask what was asked before, and get the stored answer; one is new, and never does.
import exec from 'k6/execution';
import { Rate } from 'k6/metrics';
import { chat, header } from './lib/openai.js';
import { LATENCY, THRESHOLDS, TREND_STATS, arrivals, fewDropped } from './lib/load.js';
import { checkAnswer, firstNumber, question } from './lib/questions.js';
import { rate, summary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 40);
const KNOWN = 20; // questions
const NEW_ONE_IN = 5;

const hits = new Rate('cache_hits');

export const options = {
  scenarios: { mix: arrivals(RATE, 30) },
  thresholds: Object.assign(fewDropped(RATE), THRESHOLDS, {
    'cache_hits{kind:known}': ['rate>0.99'],
    'cache_hits{kind:new}': ['rate==0'],
    'http_req_duration{kind:known}': LATENCY,
    'http_req_duration{kind:new}': LATENCY,
  }),
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('cache', (data) => ({ 'hit rate': rate(data, 'cache_hits') }));

export function setup() {
  const first = firstNumber();
  for (let number = first; number < first + KNOWN; number += 1) ask(number, { kind: 'warm-up' });
  return first;
}

export default function (first) {
  const place = exec.scenario.iterationInTest;
  const isNew = place % NEW_ONE_IN === 0;
  const number = isNew ? first + KNOWN + place : first + Math.floor(Math.random() * KNOWN);
  const tags = { kind: isNew ? 'new' : 'known' };
  const answer = ask(number, tags);
  hits.add(header(answer, 'x-genkan-cache').startsWith('hit-'), tags);
  checkAnswer(answer, number, tags);
}

function ask(number, tags) {
  return chat(question(number), { max_tokens: 64 }, { tags });
}
