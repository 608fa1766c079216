// The upstream that answers dies in the middle of the run, and nobody notices but by x-genkan-upstream.
//
// FAULT_URL is asked once, at half time, and has the upstream die. Without it, end the upstream yourself.
import http from 'k6/http';
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import { chat, header } from './lib/openai.js';
import { ERRORS, LATENCY, TREND_STATS, arrivals, fewDropped, scaled } from './lib/load.js';
import { checkAnswer, firstNumber, question } from './lib/questions.js';
import { summary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 30);
const SECONDS = 30;
const FAULT_URL = __ENV.FAULT_URL;

const ofTheFirst = new Counter('answers_of_the_first');
const ofAnother = new Counter('answers_of_another');

export const options = {
  scenarios: Object.assign(
    { traffic: arrivals(RATE, SECONDS, { exec: 'traffic' }) },
    FAULT_URL ? { fault: { executor: 'shared-iterations', exec: 'fault', startTime: scaled(SECONDS / 2) } } : {},
  ),
  thresholds: Object.assign(fewDropped(RATE), {
    'http_req_duration{scenario:traffic}': LATENCY,
    'http_req_failed{scenario:traffic}': ERRORS,
    checks: ['rate>0.99'],
    mixed_up: ['count==0'],
    answers_of_the_first: ['count>0'],
    answers_of_another: ['count>0'],
  }),
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('failover');

export function setup() {
  const number = firstNumber();
  const upstream = header(chat(question(number), { max_tokens: 64 }), 'x-genkan-upstream');
  if (!FAULT_URL) console.warn(`end the upstream ${upstream} now and ${scaled(SECONDS)} from now, about half way`);
  return { first: number + 1, upstream };
}

export function traffic({ first, upstream }) {
  const place = exec.scenario.iterationInTest;
  const answer = chat(question(first + place), { max_tokens: 64, stream: place % 2 === 1 });
  if (checkAnswer(answer, first + place)) {
    (header(answer, 'x-genkan-upstream') === upstream ? ofTheFirst : ofAnother).add(1);
  }
}

export function fault() {
  http.post(FAULT_URL, null, { tags: { name: 'fault' } });
}
