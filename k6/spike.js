// Many more requests than are allowed, beside traffic that has no part in it: what is too much is refused at once, in a
// form that clients come back from, and everybody else is served as before.
//
// SPIKE_API_KEY: a key with a limit, whose spike ends in 429. SPIKE_MODEL: a model with little room, whose spike ends
// in 503. Either or both; MODEL and API_KEY are the normal traffic's.
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import { API_KEY, MODEL, chat, checkRefusal } from './lib/openai.js';
import { ERRORS, LATENCY, TREND_STATS, arrivals, scaled } from './lib/load.js';
import { checkAnswer, firstNumber, question } from './lib/questions.js';
import { summary } from './lib/summary.js';

const RATE = Number(__ENV.RATE || 20); // of the normal traffic
const SPIKE = Number(__ENV.SPIKE || 200);
const REFUSED_MS = 100;
const NUMBERS = { normal: 0, limited: 300000, crowded: 600000 }; // each has questions of its own

const refused = new Counter('refused');

const KINDS = {
  limited: { status: 429, code: 'rate_limit_exceeded', at: 5, key: __ENV.SPIKE_API_KEY },
  crowded: { status: 503, code: 'server_is_overloaded', at: 18, model: __ENV.SPIKE_MODEL },
};
const SPIKES = Object.keys(KINDS).filter((name) => KINDS[name].key || KINDS[name].model);
if (SPIKES.length === 0) {
  throw new Error('spike needs SPIKE_API_KEY, a key with a limit, or SPIKE_MODEL, a model with little room');
}

export const options = {
  scenarios: Object.assign(
    { normal: arrivals(RATE, 30, { exec: 'normal' }) },
    Object.fromEntries(SPIKES.map((name) => [name, spike(KINDS[name].at)])),
  ),
  thresholds: Object.assign(
    {
      'http_req_duration{scenario:normal}': LATENCY,
      'http_req_failed{scenario:normal}': ERRORS,
      http_req_failed: ERRORS,
      checks: ['rate==1'],
      mixed_up: ['count==0'],
    },
    ...SPIKES.map((name) => refusals(KINDS[name].status)),
  ),
  summaryTrendStats: TREND_STATS,
};

export const handleSummary = summary('spike');

export function setup() {
  return firstNumber();
}

export function normal(first) {
  ask(first, { model: MODEL, key: API_KEY });
}

export function rush(first) {
  const kind = KINDS[exec.scenario.name];
  const answer = ask(first, { model: kind.model || MODEL, key: kind.key || API_KEY, or: kind.status });
  if (answer.status === kind.status) {
    refused.add(1, { status: String(answer.status) });
    checkRefusal(answer, kind.status, kind.code);
  }
}

// `or`: the status of a refusal that is expected here.
function ask(first, { model, key, or }) {
  const number = first + NUMBERS[exec.scenario.name] + exec.scenario.iterationInTest;
  const answer = chat(question(number), { model, max_tokens: 64 }, { key, expect: [200, or || 200] });
  if (answer.status !== or) checkAnswer(answer, number);
  return answer;
}

function spike(at) {
  return {
    executor: 'ramping-arrival-rate',
    exec: 'rush',
    startTime: scaled(at),
    startRate: 5,
    stages: [
      { duration: scaled(1), target: SPIKE },
      { duration: scaled(8), target: SPIKE },
      { duration: scaled(1), target: 5 },
    ],
    preAllocatedVUs: 50,
    maxVUs: 2 * SPIKE,
    gracefulStop: '10s',
  };
}

function refusals(status) {
  return {
    [`refused{status:${status}}`]: ['count>0'],
    [`http_req_duration{status:${status}}`]: [`p(95)<${REFUSED_MS}`],
  };
}
